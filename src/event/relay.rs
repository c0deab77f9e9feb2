use std::{fmt, future::ready};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::What;
use crate::id::AgentId;

/// By which the replicas of a tenant tell each other of its events.
pub trait Relay: fmt::Debug + Send + Sync {
    /// Waits until the events that came before this replica have been read; without the store, not
    /// for long.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Tells an event that was fetched then to all replicas, this one among them.
    ///
    /// # Errors
    ///
    /// Gives the event back if there is no way to. It is then only told here.
    fn publish(&self, agent: AgentId, what: What, fetched: Instant) -> Result<(), What>;
}

/// Of a process that is the only one: nobody else is to be told.
#[derive(Debug)]
pub struct NoRelay;

impl Relay for NoRelay {
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn publish(&self, _: AgentId, what: What, _: Instant) -> Result<(), What> {
        Err(what)
    }
}
