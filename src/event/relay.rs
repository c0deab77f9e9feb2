use std::{fmt, future::ready};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::What;
use crate::id::AgentId;

/// Passes a tenant's events between the replicas.
pub trait Relay: fmt::Debug + Send + Sync {
    /// Waits until the events from before this replica started have been read. Does not wait long
    /// if the store does not answer.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Publishes an event that was fetched at `fetched` to all replicas, including this one.
    ///
    /// # Errors
    ///
    /// Returns the event if it cannot be passed on. The caller then publishes it only here.
    fn publish(&self, agent: AgentId, what: What, fetched: Instant) -> Result<(), What>;
}

/// The relay of a process without replicas: it passes nothing on.
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
