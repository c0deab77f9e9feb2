//! Tells a tenant's events, here and at other replicas.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    event::{Events, Relay, What},
    id::AgentId,
};

/// Tells a tenant's events to whoever watches them, here and at other replicas.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    pub(super) events: Arc<Events>,
    /// By which other replicas hear of events.
    pub(super) relay: Arc<dyn Relay>,
}

impl Announcer {
    /// Tells an event that was fetched then. Waits for nobody.
    pub(super) fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        if let Err(what) = self.relay.publish(agent, what, fetched) {
            self.events.publish(agent, what, fetched);
        }
    }
}
