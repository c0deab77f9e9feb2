//! What is known of one agent, for people. Asks neither the gateway nor the store.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{TakenOver, Tenant};
use crate::{
    event::Event,
    id::AgentId,
    session::{Origin, SessionState},
    state::AgentState,
};

/// What is known of one agent.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// What the agent is doing according to its last events; `None` if they do not say.
    pub state: Option<AgentState>,
    /// The status of its session; `None` if the bridge does not keep it and no call is changing it.
    pub session_state: Option<SessionState>,
    /// Its session, if this process knows it.
    pub session: Option<SessionView>,
    /// Whether this process polls for it.
    pub is_polled_here: bool,
    /// Whether the configuration has its credentials.
    pub has_credentials: bool,
    /// Set if another client has lately taken it from the bridge.
    pub taken_over: Option<TakenOver>,
    /// Its last events, newest first.
    pub events: Vec<Arc<Event>>,
}

/// A session, without its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Who made it.
    pub origin: Origin,
    /// When its Guid was stored last.
    pub renewed_at: SystemTime,
    /// The time until it is forgotten, unless it is renewed; `None` if it is not.
    pub expires_in: Option<Duration>,
}

impl Tenant {
    /// What is known of one agent, with so many events at most.
    pub fn agent_view(&self, agent: AgentId, events: usize) -> AgentView {
        let session = self.sessions.cached(agent).map(|session| SessionView {
            origin: session.origin,
            renewed_at: session.renewed_at,
            expires_in: session.expires_at.map(|at| at.saturating_duration_since(Instant::now())),
        });
        AgentView {
            state: self.events.state(agent),
            session_state: self.session_state(agent),
            session,
            is_polled_here: self.agents.is_kept(agent),
            has_credentials: self.configured(agent).is_some(),
            taken_over: self.taken_over().into_iter().find(|one| one.agent == agent),
            events: self.events.latest(Some(agent), events),
        }
    }

    /// The last events of all agents, newest first, at most so many.
    pub fn last_events(&self, most: usize) -> Vec<Arc<Event>> {
        self.events.latest(None, most)
    }
}
