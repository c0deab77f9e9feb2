use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::Instant};

use super::{Agents, Event, Fetched, Missed, Moment, Watch, What, sequence};
use crate::{config, id::AgentId, state::AgentState};

/// A tenant's latest events, oldest first, and the states of its agents according to them.
#[derive(Debug)]
pub struct Events {
    log: Mutex<Log>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    limits: config::Events,
}

/// Events from a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Received when they were added.
    Told(Vec<Event>),
    /// Read later, because messages may have been missed. Some may be old.
    Missed(Vec<Event>),
}

#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// The highest number that was ever assigned; before the first event, the one before it.
    last: u64,
    /// The highest number of an event that was removed, or may have existed before the log began.
    gone: u64,
    /// From this number on, all numbers were assigned here, without gaps.
    own_since: u64,
    /// The store's numbers of the events that got a higher number here.
    behind: BTreeSet<u64>,
    states: HashMap<AgentId, AgentState>,
}

/// How many of these numbers are remembered: more than a store assigns in a minute, since the
/// events of a minute are read again.
const BEHIND_MAX: usize = 16 * 1024;

// === impl Events ===

impl Events {
    /// An empty log that keeps as many events as `limits` allow.
    pub fn new(limits: config::Events) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::beginning(sequence(u64::try_from(since.as_millis()).unwrap_or(1), 0), limits)
    }

    /// An empty log for events that a shared store numbers.
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
            behind: BTreeSet::new(),
            states: HashMap::new(),
        };
        Self { log: Mutex::new(log), newest: watch::Sender::new(begin - 1), limits }
    }

    /// Adds an event that was fetched at `fetched`, and numbers it.
    pub fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        let mut log = self.log();
        let (sequence, received_at) = (log.last + 1, SystemTime::now());
        let event = Event { sequence, received_at, agent, what, fetched: Fetched::Here(fetched) };
        self.add(&mut log, event);
    }

    /// Adds an event with the number that the shared store gave it, unless it was added before.
    pub fn append(&self, event: Event) {
        self.append_all(News::Missed(vec![event]));
    }

    /// Adds several such events.
    ///
    /// A store that has lost its events may number new ones below those that are known here. Such
    /// events get higher numbers here, so that watchers do not miss them. Returns how many there
    /// were.
    pub(crate) fn append_all(&self, news: News) -> usize {
        let (events, is_told) = match news {
            News::Told(events) => (events, true),
            News::Missed(events) => (events, false),
        };
        events.into_iter().filter(|event| self.append_one(event.clone(), is_told)).count()
    }

    fn append_one(&self, mut event: Event, is_told: bool) -> bool {
        let mut log = self.log();
        let is_behind = event.sequence <= log.last;
        if is_behind {
            // An event received when it was added is not old, even if its number is below those
            // that were removed.
            if log.has(&event) || (!is_told && event.sequence <= log.gone) {
                return false;
            }
            log.note_behind(event.sequence);
            event.sequence = log.last + 1;
        }
        log.own_since = event.sequence + 1;
        self.add(&mut log, event);
        is_behind
    }

    /// Notes that events up to this number may be missing.
    pub fn begin_after(&self, gone: u64) {
        let mut log = self.log();
        log.gone = log.gone.max(gone);
    }

    /// Adds an event, and removes the oldest ones if there is no room.
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
        // Under the log's lock, so that the numbers come in order.
        self.newest.send_replace(log.last);
    }

    /// The current position: the newest event, and the time.
    pub fn moment(&self) -> Moment {
        Moment { newest: self.newest(), at: Instant::now() }
    }

    /// The number of the newest event so far.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// The agent's state according to its events.
    pub fn state(&self, agent: AgentId) -> Option<AgentState> {
        self.log().states.get(&agent).copied()
    }

    /// A watch that reads the events after the number `after`; `None`: after the newest.
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

    /// Whether this event is in the log.
    fn has(&self, event: &Event) -> bool {
        let same = |known: &Arc<Event>| {
            known.sequence == event.sequence
                && known.agent == event.agent
                && known.what == event.what
        };
        self.behind.contains(&event.sequence) || self.from(event.sequence).next().is_some_and(same)
    }

    fn note_behind(&mut self, sequence: u64) {
        self.behind.insert(sequence);
        if self.behind.len() > BEHIND_MAX {
            self.behind.pop_first();
        }
    }

    /// The events that a reader has missed, if the one that should come `next` is gone.
    pub(super) fn gap(&self, next: u64) -> Option<Missed> {
        if next > self.gone && next <= self.last + 1 {
            return None;
        }
        // Numbers that were not assigned here may have gaps, so they do not show how many events
        // there were.
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
