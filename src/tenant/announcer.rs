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
    /// Where replicas tell each other of events; `None`: there are no others.
    pub(super) relay: Option<Arc<Relay>>,
}

impl Announcer {
    /// Tells an event that was fetched then. Waits for nobody.
    pub(super) fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        let untold = match &self.relay {
            Some(relay) => relay.publish(agent, what, fetched).err(),
            None => Some(what),
        };
        if let Some(what) = untold {
            self.events.publish(agent, what, fetched);
        }
    }
}
