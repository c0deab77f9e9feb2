use std::{fmt, future::ready};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::What;
use crate::id::AgentId;

/// Passes a tenant's events between its replicas.
pub trait Relay: fmt::Debug + Send + Sync {
    /// Waits until the events from before this replica's start have been read. If the store is not
    /// available, it does not wait long.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// Waits until all events that were published before have been told to the other replicas, or these know that some are
    /// missing.
    fn told(&self) -> BoxFuture<'_, ()>;

    /// Sends an event to all replicas, this one included. `fetched` is when it was fetched. The relay tells events in their
    /// order, in this process alone if need be. What it has no room for is missing, and watches are told so.
    ///
    /// # Errors
    ///
    /// Returns the event if there is nobody to send it to. The caller then publishes it.
    fn publish(&self, agent: AgentId, what: What, fetched: Instant) -> Result<(), What>;
}

/// The relay of a process without replicas: it refuses every event.
#[derive(Debug)]
pub struct NoRelay;

impl Relay for NoRelay {
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn publish(&self, _: AgentId, what: What, _: Instant) -> Result<(), What> {
        Err(what)
    }
}
