use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use super::{Agents, Event, Missed, Watch, What, sequence};
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
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// The highest number that was ever given; before the first event, the one before it.
    last: u64,
    /// The highest number of an event that is gone, or may have been before the log began.
    gone: u64,
    /// The number from which on every one was given here, one after the other.
    own_since: u64,
    states: HashMap<AgentId, AgentState>,
}

// === impl Events ===

impl Events {
    /// Keeps as many events as `limits` allow.
    pub fn new(limits: config::Events) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::beginning(sequence(u64::try_from(since.as_millis()).unwrap_or(1), 0), limits)
    }

    /// The same for events that a store numbers, of which nothing is known yet.
    pub fn numbered_elsewhere(limits: config::Events) -> Self {
        Self::beginning(1, limits)
    }

    pub(super) fn beginning(begin: u64, limits: config::Events) -> Self {
        let log = Log {
            events: VecDeque::new(),
            weight: 0,
            last: begin - 1,
            gone: begin - 1,
            own_since: begin,
            states: HashMap::new(),
        };
        Self { log: Mutex::new(log), newest: watch::Sender::new(begin - 1), limits }
    }

    /// Adds an event that nobody else numbers.
    pub fn publish(&self, agent: AgentId, what: What) {
        let mut log = self.log();
        let sequence = log.last + 1;
        self.add(&mut log, Event { sequence, received_at: SystemTime::now(), agent, what });
    }

    /// Adds an event with the number that all replicas know it by. One that is not higher than the
    /// last is left out: it has been there before.
    pub fn append(&self, event: Event) {
        let mut log = self.log();
        if event.sequence > log.last {
            log.own_since = event.sequence + 1;
            self.add(&mut log, event);
        }
    }

    /// Says that events up to this number may be missing.
    pub fn begin_after(&self, gone: u64) {
        let mut log = self.log();
        log.gone = log.gone.max(gone);
    }

    /// The oldest ones go where there is no room.
    fn add(&self, log: &mut Log, event: Event) {
        log.follow(event.agent, &event.what);
        log.last = event.sequence;
        log.weight += event.weight();
        log.events.push_back(Arc::new(event));
        while log.events.len() > self.limits.kept.get()
            || (log.weight > self.limits.kept_bytes.get() && log.events.len() > 1)
        {
            let Some(oldest) = log.events.pop_front() else { break };
            log.weight -= oldest.weight();
            log.gone = log.gone.max(oldest.sequence);
        }
        // With the log still locked, so that the numbers come in order.
        self.newest.send_replace(log.last);
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
    /// Events from this number on, oldest first.
    pub(super) fn from(&self, next: u64) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|event| event.sequence < next);
        self.events.iter().skip(start)
    }

    /// Where to read on for whoever has missed events that should have come `next`.
    pub(super) fn gap(&self, next: u64) -> Option<Missed> {
        if next > self.gone && next <= self.last + 1 {
            return None;
        }
        // A number of another process says nothing about how many there were.
        let known = (self.own_since..=self.gone).contains(&next);
        let count = known.then(|| self.gone.saturating_sub(next) + 1);
        Some(Missed { count, last: self.gone })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.events.len()
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
