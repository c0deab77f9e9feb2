use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use super::{Agents, Event, Watch, What};
use crate::{config, id::AgentId, state::AgentState};

/// A tenant's latest events, oldest first, and what they say its agents are doing.
#[derive(Debug)]
pub struct Events {
    log: Mutex<Log>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    limits: config::Events,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) events: VecDeque<Arc<Event>>,
    weight: usize,
    /// The number of the next event.
    next: u64,
    /// The number of the first event ever.
    pub(super) begin: u64,
    states: HashMap<AgentId, AgentState>,
}

// === impl Events ===

impl Events {
    /// Keeps as many events as `limits` allow.
    pub fn new(limits: config::Events) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::beginning(u64::try_from(since.as_micros()).unwrap_or(1), limits)
    }

    pub(super) fn beginning(begin: u64, limits: config::Events) -> Self {
        let log =
            Log { events: VecDeque::new(), weight: 0, next: begin, begin, states: HashMap::new() };
        Self { log: Mutex::new(log), newest: watch::Sender::new(begin - 1), limits }
    }

    /// Adds an event; the oldest ones go where there is no room.
    pub fn publish(&self, agent: AgentId, what: What) {
        let mut log = self.log();
        log.follow(agent, &what);
        let event = Event { sequence: log.next, received_at: SystemTime::now(), agent, what };
        log.next += 1;
        log.weight += event.weight();
        log.events.push_back(Arc::new(event));
        while log.events.len() > self.limits.kept.get()
            || (log.weight > self.limits.kept_bytes.get() && log.events.len() > 1)
        {
            let oldest = log.events.pop_front();
            log.weight -= oldest.map_or(0, |event| event.weight());
        }
        // With the log still locked, so that the numbers come in order.
        self.newest.send_replace(log.next - 1);
    }

    /// The number of the newest event so far.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What the agent is doing, as far as events have told.
    pub fn state(&self, agent: AgentId) -> Option<AgentState> {
        self.log().states.get(&agent).copied()
    }

    /// Reads on behind the event of number `after`; `None`: behind the newest.
    pub fn watch(self: &Arc<Self>, agents: Agents, after: Option<u64>) -> Watch {
        let after = after.unwrap_or_else(|| self.newest());
        Watch::new(self.clone(), agents, after, self.newest.subscribe())
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Log ===

impl Log {
    /// The number of the oldest event that is kept; of the next one, where none is.
    pub(super) fn first(&self) -> u64 {
        self.events.front().map_or(self.next, |event| event.sequence)
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn follow(&mut self, agent: AgentId, what: &What) {
        match what {
            What::Gateway(event) => {
                if let Some(state) = AgentState::after(&event.kind) {
                    self.states.insert(agent, state);
                }
            }
            What::Session(change) if change.state.is_end() => drop(self.states.remove(&agent)),
            What::Session(_) => {}
        }
    }
}
