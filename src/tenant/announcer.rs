//! Publishes a tenant's events, here and at other replicas.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    event::{Events, Relay, What},
    id::AgentId,
};

/// Publishes a tenant's events to all who watch them, here and at other replicas.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    pub(super) events: Arc<Events>,
    /// Passes events on to other replicas.
    pub(super) relay: Arc<dyn Relay>,
}

impl Announcer {
    /// Publishes an event that was fetched at `fetched`. Does not wait.
    pub(super) fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        if let Err(what) = self.relay.publish(agent, what, fetched) {
            self.events.publish(agent, what, fetched);
        }
    }
}
