use std::{
    cmp::Ordering,
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Event, Fetched, Moment, What, interest::Interests, sequence};
use crate::{
    config,
    id::{AgentId, AgentMap},
    state::AgentState,
    time::millis_now,
};

/// A tenant's latest events, oldest first, and what its agents are doing according to them.
#[derive(Debug)]
pub struct Events {
    log: Mutex<Log>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    limits: config::Events,
}

/// Events that come from a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// They were delivered as they were added to the store.
    Told(Vec<Event>),
    /// They were read from the store afterwards; some may be old.
    Missed(Vec<Event>),
    /// The same, but others are missing: the store does not have them, or has too many. They may have had any
    /// number up to `gone`.
    Cut {
        /// That number.
        gone: u64,
        /// Those that were read.
        events: Vec<Event>,
    },
}

/// Events that a watch has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many events of the tenant were missed, counted from the first one that the watch may have wanted; those of other
    /// agents after it count too. `None` if it is not known.
    pub count: Option<u64>,
    /// The number of the last one.
    pub last: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// The highest number so far; before the first event, the number before its own.
    pub(super) last: u64,
    /// The highest number of an event that was dropped, or that may have been before the log began.
    gone: u64,
    /// Numbers without an event, above `gone`: events up to there may never have been in the log.
    gaps: VecDeque<u64>,
    /// From this number on, this log gave all numbers itself, without gaps.
    own_since: u64,
    /// The store's numbers of events that got a higher number here; see [`Events::append_all`].
    behind: BTreeSet<u64>,
    /// The highest number of an event that may never have been in the log.
    missing: u64,
    /// Whether a store gives the numbers, so that other replicas know most events by the same ones.
    is_shared: bool,
    told: AgentMap<LastTold>,
    pub(super) interests: Interests,
}

/// What an agent's last events told. It stays when the agent's session ends, so there is one for each agent id at most.
#[derive(Clone, Copy, Debug, Default)]
struct LastTold {
    /// The last two that tell of its state, the newer one first.
    events: [Option<Told>; 2],
    /// The session has ended since.
    is_over: bool,
}

/// What an event tells of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The agent's state.
    pub state: AgentState,
    /// When the event was fetched.
    pub fetched: Fetched,
    sequence: u64,
}

/// Some of the events that were asked for are not kept any more, or have never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept;

/// The most numbers in `behind`. A store gives fewer in a minute, and only its last minute is read
/// again.
const BEHIND_MAX: usize = 16 * 1024;
/// The most gaps that are kept. If there are more, the log begins after the oldest one.
const GAPS_MAX: usize = 64;
/// How long a number that another replica knows may take to come here.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);
/// The most by which a number that only this log gives is above the one before: a sixteenth of a millisecond's numbers, so
/// that the store's later numbers are above it.
const OWN_STEP_MAX: u64 = 1 << 16;

// === impl Events ===

impl Events {
    /// An empty log that keeps as many events as `limits` allow.
    pub fn new(limits: config::Events) -> Self {
        Self::beginning(sequence(millis_now(), 0), false, limits)
    }

    /// Like [`Events::new`], for events that a store numbers. Nothing is known of them yet.
    pub fn numbered_elsewhere(limits: config::Events) -> Self {
        Self::beginning(1, true, limits)
    }

    pub(super) fn beginning(begin: u64, is_shared: bool, limits: config::Events) -> Self {
        let log = Log {
            events: VecDeque::new(),
            weight: 0,
            last: begin - 1,
            gone: begin - 1,
            gaps: VecDeque::new(),
            own_since: begin,
            behind: BTreeSet::new(),
            missing: begin - 1,
            is_shared,
            told: AgentMap::default(),
            interests: Interests::default(),
        };
        Self { log: Mutex::new(log), newest: watch::Sender::new(begin - 1), limits }
    }

    /// Adds an event that this process fetched at this time, and gives it the next number.
    pub fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        let mut log = self.log();
        let (sequence, received_at) = (log.last + 1, SystemTime::now());
        let event = Event { sequence, received_at, agent, what, fetched: Fetched::Here(fetched) };
        self.add(&mut log, event);
    }

    /// The same where other replicas do not get the event, or know it by another number. A watch that goes on at
    /// another replica after this number is told there that events are missing.
    pub fn publish_here(&self, agent: AgentId, what: What, fetched: Instant) {
        let mut log = self.log();
        let (sequence, received_at) = (log.own_number(), SystemTime::now());
        let event = Event { sequence, received_at, agent, what, fetched: Fetched::Here(fetched) };
        log.own_since = sequence + 1;
        self.add(&mut log, event);
    }

    /// Adds an event with the number that all replicas know it by, unless the log has or had it.
    pub fn append(&self, event: Event) {
        self.append_all(News::Missed(vec![event]));
    }

    /// Adds several events like [`Events::append`].
    ///
    /// A store that has lost its events may give new ones lower numbers than those in this log. Such
    /// events get a number of this log's own instead, so that no watch misses them. Returns how many
    /// such events there were among those that were told as they were added.
    pub(crate) fn append_all(&self, news: News) -> usize {
        let (events, is_told) = match news {
            News::Told(events) => (events, true),
            News::Missed(events) => (events, false),
            News::Cut { gone, mut events } => {
                let after = events.split_off(events.partition_point(|it| it.sequence <= gone));
                let behind = self.append_all(News::Missed(events));
                self.tell_gap(gone);
                return behind + self.append_all(News::Missed(after));
            }
        };
        let behind = events.into_iter().filter(|event| self.append_one(event.clone(), is_told));
        // What is read afterwards may be behind what was heard meanwhile.
        if is_told {
            behind.count()
        } else {
            behind.for_each(drop);
            0
        }
    }

    fn append_one(&self, mut event: Event, is_told: bool) -> bool {
        let mut log = self.log();
        let is_behind = event.sequence <= log.last;
        if is_behind {
            // An event that was delivered as it was added is new, even if its number is lower than those
            // of dropped events.
            if log.has(&event) || (!is_told && event.sequence <= log.gone) {
                return false;
            }
            log.note_behind(event.sequence);
            event.sequence = log.own_number();
        }
        log.own_since = event.sequence + 1;
        self.add(&mut log, event);
        is_behind
    }

    /// Records that events up to this number may be missing in the log. All watches are told so, after the events that are
    /// there, also those that have read higher numbers.
    pub fn tell_gap(&self, gone: u64) {
        let mut log = self.log();
        let gone = match gone.cmp(&log.last) {
            Ordering::Greater => gone,
            // Watches have read up to it, so the gap takes the number behind it.
            Ordering::Equal => gone.saturating_add(1),
            Ordering::Less => log.own_number(),
        };
        let log = &mut *log;
        log.gaps.push_back(gone);
        if log.from(log.gone + 1).next().is_none() {
            log.drop_to(gone);
        } else if let Some(oldest) = log.gaps.front().copied().filter(|_| log.gaps.len() > GAPS_MAX)
        {
            log.drop_to(oldest);
        }
        (log.missing, log.last, log.own_since) = (gone, gone, gone.saturating_add(1));
        log.interests.tell_all(gone);
        self.newest.send_replace(gone);
    }

    /// Begins now, although the store has not said what came before. What it says later of that time is not told.
    pub fn begin_now(&self) {
        self.tell_gap(sequence(millis_now(), 0));
    }

    /// Waits a short time until this number is known. A watch that comes from another replica may have read more than this
    /// one has heard of yet.
    pub async fn catch_up_to(&self, number: u64) {
        if self.log().is_shared {
            let mut newest = self.newest.subscribe();
            let _unknown =
                timeout(CATCH_UP_WITHIN, newest.wait_for(|newest| *newest >= number)).await;
        }
    }

    /// Adds an event, and drops the oldest ones if there is no room.
    fn add(&self, log: &mut Log, event: Event) {
        let agent = event.agent;
        log.follow(&event);
        log.last = event.sequence;
        log.weight += event.weight();
        log.events.push_back(Arc::new(event));
        while log.events.len() > self.limits.kept.get()
            || (log.weight > self.limits.kept_bytes.get() && log.events.len() > 1)
        {
            let Some(oldest) = log.events.pop_front() else { break };
            log.weight -= oldest.weight();
            log.drop_to(oldest.sequence);
        }
        log.interests.tell(agent, log.last);
        // Done while the log is locked, so that the numbers come in order.
        self.newest.send_replace(log.last);
    }

    /// The present moment: the number of the newest event, and the time.
    pub fn moment(&self) -> Moment {
        Moment { newest: self.newest(), at: Instant::now() }
    }

    /// The number of the newest event so far.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What the agent is doing according to its events; `None` if they do not say.
    pub fn state(&self, agent: AgentId) -> Option<AgentState> {
        let told = self.log().told.get(&agent).copied().filter(|told| !told.is_over)?;
        let [last, _] = told.events;
        last.map(|last| last.state)
    }

    /// The last one of the agent's events with numbers above `after` and up to `to` that tells of its state, if there is
    /// one.
    ///
    /// # Errors
    ///
    /// [`NotKept`] if that is not known.
    pub fn last_told(&self, agent: AgentId, after: u64, to: u64) -> Result<Option<Told>, NotKept> {
        let log = self.log();
        let LastTold { events, .. } = log.told.get(&agent).copied().unwrap_or_default();
        let last = events.into_iter().flatten().find(|told| told.sequence <= to);
        // Nearly always it is one of these, since `to` is not long ago. Where there are fewer than two, there has never
        // been another one. To go through the log would take long.
        if (last.is_some() || events.contains(&None)) && after >= log.missing {
            return Ok(last.filter(|last| last.sequence > after));
        }
        drop(log);
        Ok(self.told_between(agent, after, to)?.pop())
    }

    /// The agent's events with numbers above `after` and up to `to` that tell of its state, oldest first.
    ///
    /// # Errors
    ///
    /// [`NotKept`].
    pub fn told_between(&self, agent: AgentId, after: u64, to: u64) -> Result<Vec<Told>, NotKept> {
        let log = self.log();
        if after < log.gone.max(log.missing) {
            return Err(NotKept);
        }
        let between = log.from(after + 1).take_while(|event| event.sequence <= to);
        let of_agent = between.filter(|event| event.agent == agent);
        Ok(of_agent.filter_map(|event| Told::by(event)).collect())
    }

    /// The last events, or those of one agent, newest first, at most so many. Of one agent it looks through all that
    /// are kept.
    pub fn latest(&self, agent: Option<AgentId>, most: usize) -> Vec<Arc<Event>> {
        let log = self.log();
        let newest_first = log.events.iter().rev();
        let wanted = newest_first.filter(|event| agent.is_none_or(|agent| event.agent == agent));
        wanted.take(most).cloned().collect()
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

    /// Whether this event is in the log, by its own number or by a later one.
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

    /// A number above all others that no other replica gives to another event, except by an accident: a watch that
    /// comes with a number has been told what is before it here.
    fn own_number(&self) -> u64 {
        self.last.saturating_add(rand::rng().random_range(1..=OWN_STEP_MAX))
    }

    /// What a watch that expects number `next` has missed, and where it has to read on; `None` if it
    /// has missed nothing. A watch that does not come from this log, `is_new`, may have read a number that is not known here.
    pub(super) fn gap(&self, next: u64, is_new: bool) -> Option<Missed> {
        let read = next.saturating_sub(1);
        let is_read = |event: &Arc<Event>| event.sequence == read;
        let is_known = || self.gaps.contains(&read) || self.from(read).next().is_some_and(is_read);
        if read == self.gone || read > self.gone && (!is_new || is_known()) {
            return None;
        }
        if read > self.gone && self.is_shared {
            // Another replica gave that number by itself. The watch has read most of what is up to there, and is not told it
            // again.
            return Some(Missed { count: None, last: read.min(self.last) });
        }
        // Numbers of another process have gaps, so the events cannot be counted from them.
        let known = (self.own_since..=self.gone).contains(&next);
        let count = known.then(|| self.gone.saturating_sub(next) + 1);
        Some(Missed { count, last: self.gone })
    }

    /// The number of the next gap that a watch which expects number `next` has to be told of.
    pub(super) fn next_gap(&self, next: u64) -> Option<u64> {
        self.gaps.iter().copied().find(|gap| *gap >= next)
    }

    fn drop_to(&mut self, number: u64) {
        self.gone = self.gone.max(number);
        let gone = self.gone;
        self.gaps.retain(|gap| *gap > gone);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn follow(&mut self, event: &Event) {
        if let Some(told) = Told::by(event) {
            let LastTold { events: [last, before], is_over } =
                self.told.entry(event.agent).or_default();
            (*before, *is_over) = (last.replace(told), false);
        } else if let What::Session(change) = &event.what
            && change.state.is_end()
            && let Some(told) = self.told.get_mut(&event.agent)
        {
            told.is_over = true;
        }
    }
}

// === impl Told ===

impl Told {
    fn by(event: &Event) -> Option<Self> {
        let (sequence, fetched) = (event.sequence, event.fetched);
        event.tells_of().map(|state| Self { state, fetched, sequence })
    }
}

#[cfg(test)]
mod tests;
