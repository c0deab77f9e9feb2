//! The states of the sessions that the bridge made, each change said in the log, counted, and told
//! to whoever watches events.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Tenant;
use crate::{
    event::{SessionChange, What},
    id::AgentId,
    session::SessionState,
};

/// The states of a tenant's sessions; a session that has ended has none.
#[derive(Debug)]
pub(super) struct States {
    now: Mutex<HashMap<AgentId, SessionState>>,
    /// How often each was entered, in the order of [`SessionState::ALL`].
    entered: [Counter; SessionState::ALL.len()],
}

/// How many sessions are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateCount {
    /// Which one.
    pub state: SessionState,
    /// Sessions that are in it.
    pub now: usize,
    /// How often it was entered since the bridge started.
    pub entered: u64,
}

// === impl States ===

impl States {
    pub(super) fn new(entered: [Counter; SessionState::ALL.len()]) -> Self {
        Self { now: Mutex::default(), entered }
    }

    pub(super) fn get(&self, agent: AgentId) -> Option<SessionState> {
        self.now().get(&agent).copied()
    }

    /// Says nothing of an agent any more: another replica does.
    pub(super) fn forget(&self, agent: AgentId) {
        self.now().remove(&agent);
    }

    /// Sets a state and gives the former one.
    fn enter(&self, agent: AgentId, state: SessionState) -> Option<SessionState> {
        let mut now = self.now();
        let former = if state.is_end() { now.remove(&agent) } else { now.insert(agent, state) };
        if former != Some(state)
            && let Some(index) = SessionState::ALL.iter().position(|known| *known == state)
            && let Some(count) = self.entered.get(index)
        {
            count.inc();
        }
        former
    }

    fn counts(&self) -> Vec<StateCount> {
        let now = self.now();
        let states = SessionState::ALL.into_iter().zip(&self.entered);
        let count = |(state, entered): (_, &Counter)| StateCount {
            state,
            now: now.values().filter(|known| **known == state).count(),
            entered: entered.get(),
        };
        states.map(count).collect()
    }

    fn now(&self) -> MutexGuard<'_, HashMap<AgentId, SessionState>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tenant ===

impl Tenant {
    /// How many of the bridge's own sessions are in each state.
    pub fn session_states(&self) -> Vec<StateCount> {
        self.states.counts()
    }

    /// How an agent's session is doing, if the bridge made it.
    pub fn session_state(&self, agent: AgentId) -> Option<SessionState> {
        self.states.get(agent)
    }

    /// Takes an agent's session into a state, and says so; gives the former one.
    pub(super) fn enter(
        &self,
        agent: AgentId,
        state: SessionState,
        cause: &'static str,
    ) -> Option<SessionState> {
        let former = self.states.enter(agent, state);
        let nothing_ended = former.is_none() && state.is_end();
        if former == Some(state) || nothing_ended {
            return former;
        }
        let change = What::Session(SessionChange { state, cause: cause.into() });
        self.publish(agent, change, Instant::now());
        let (tenant, from) = (&self.id, former.map(SessionState::as_str));
        macro_rules! line {
            ($write:ident) => {
                $write!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, from, to = %state, cause, "session")
            };
        }
        match (former, state) {
            (_, SessionState::Doubtful | SessionState::Recovering | SessionState::Lost) => {
                line!(warn);
            }
            (Some(SessionState::Doubtful | SessionState::Recovering), _)
            | (_, SessionState::Unkept | SessionState::Gone | SessionState::Registered) => {
                line!(info);
            }
            _ => line!(debug),
        }
        former
    }

    /// Goes back to the state before an attempt that failed, unless something else has happened.
    pub(super) fn back(
        &self,
        agent: AgentId,
        attempt: SessionState,
        former: Option<SessionState>,
        cause: &'static str,
    ) {
        if self.states.get(agent) == Some(attempt) {
            self.enter(agent, former.unwrap_or(SessionState::Gone), cause);
        }
    }

    /// The same without a word, where another replica was faster and says what there is to say.
    pub(super) fn unsay(
        &self,
        agent: AgentId,
        attempt: SessionState,
        former: Option<SessionState>,
    ) {
        match former {
            _ if self.states.get(agent) != Some(attempt) => {}
            Some(former) => drop(self.states.enter(agent, former)),
            None => self.states.forget(agent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    #[test]
    fn states_are_counted_once_each_time_they_are_entered() {
        let states = States::new(std::array::from_fn(|_| Counter::default()));
        let agent = |id: u32| AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap();
        for (id, state) in [
            (101, SessionState::Kept),
            (102, SessionState::Kept),
            (102, SessionState::Kept),
            (102, SessionState::Doubtful),
            (102, SessionState::Kept),
            (101, SessionState::Gone),
        ] {
            states.enter(agent(id), state);
        }
        let count = |state| states.counts().into_iter().find(|c| c.state == state).unwrap();
        let kept = count(SessionState::Kept);
        assert_eq!((kept.now, kept.entered), (1, 3));
        let gone = count(SessionState::Gone);
        assert_eq!((gone.now, gone.entered), (0, 1));
        assert_eq!(states.get(agent(101)), None);
    }
}
