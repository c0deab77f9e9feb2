//! The order in which agents are signed in. No tasks and no clock: callers pass the time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{id::AgentId, tenant::agents::Due};

/// The agents that wait to be signed in, each only once.
#[derive(Debug)]
pub(super) struct Queue<W> {
    entries: HashMap<AgentId, Entry<W>>,
    lanes: [Places; 2],
    /// The lane to take from next, if both have agents.
    next: Lane,
    last_number: u64,
    /// How many entries are not due yet.
    waiting: usize,
    rate: MeasuredRate,
}

/// The queue has a lane for each kind of asker, and takes from both in turn. So neither delays the
/// other: after a gateway's restart all keepers ask at once, and in the morning many calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A call that needs a session.
    Calls,
    /// A keeper whose session is lost.
    Keepers,
}

/// One agent's entry.
#[derive(Debug)]
pub(super) struct Entry<W> {
    /// Who waits for the sign-in.
    pub(super) waiters: W,
    /// The newest version of the session that is known not to work; 0 if none is.
    pub(super) refused: u64,
    /// Until then the sign-in is made even if nobody waits for it.
    wanted_until: Option<Instant>,
    since: Instant,
    lane: Lane,
    /// Tells this entry from a later one for the same agent.
    pub(super) ticket: u64,
    is_due: bool,
}

/// Places in the order of arrival. A place whose number differs from the ticket of the agent's
/// entry belongs to an entry that was removed, and is skipped.
type Places = VecDeque<(u64, AgentId)>;

/// The time from one moment to the next, as long as nothing is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// While all replicas need as many moments.
    pub(super) expected: Duration,
    /// While the others need none.
    pub(super) shortest: Duration,
}

/// How fast the queue moves, measured by the last moments that it got.
#[derive(Debug)]
struct MeasuredRate {
    /// What holds before anything is measured.
    intervals: Intervals,
    /// The measured time from one place of the queue to the next.
    interval: Duration,
    /// When the queue moved last.
    last: Option<Instant>,
    /// Whether the queue has not been empty since then. Only then does the time to the next move
    /// count.
    is_measured: bool,
    /// How many times were measured since then, up to [`SMOOTHING`].
    measured: u32,
}

/// Whether an agent's sign-in is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not due yet.
    Waiting(Due),
    /// It is due now.
    Due,
}

/// How long an agent keeps its place after it was due, if nobody has asked again. Callers are told
/// when to come back, and may come late.
const LATE_CALLERS: Duration = Duration::from_secs(30);
/// The weight of a new measured interval in the average: one part in this many, or in as many as were measured. So what was
/// expected counts no more once the queue moves.
const SMOOTHING: u32 = 16;
/// The measured interval may differ from the expected one by at most this factor.
const PACE_RANGE: u32 = 64;
/// A lane is cleared of stale places when it has this many more than twice the entries.
const STALE_MAX: usize = 64;

impl<W: Default> Queue<W> {
    /// An empty queue that gets moments at these intervals.
    pub(super) fn new(intervals: Intervals) -> Self {
        Self {
            entries: HashMap::new(),
            lanes: Default::default(),
            next: Lane::Calls,
            last_number: 0,
            waiting: 0,
            rate: MeasuredRate {
                intervals,
                interval: intervals.expected,
                last: None,
                is_measured: false,
                measured: 0,
            },
        }
    }

    /// Gets moments at these intervals from now on.
    pub(super) fn set_intervals(&mut self, intervals: Intervals) {
        self.rate.intervals = intervals;
        self.rate.stopped();
    }

    /// Expects moments at these intervals, unless it is measured how they come.
    pub(super) fn expect(&mut self, intervals: Intervals) {
        if !self.rate.is_measured {
            self.set_intervals(intervals);
        }
    }

    /// Gives the agent a place, or prolongs the place that it has. `refused` is the version of a
    /// session that does not work.
    pub(super) fn ask(
        &mut self,
        agent: AgentId,
        lane: Lane,
        refused: u64,
        now: Instant,
    ) -> Standing {
        if !self.entries.contains_key(&agent) {
            self.last_number += 1;
            let number = self.last_number;
            self.lane(lane).push_back((number, agent));
            self.waiting += 1;
            let entry = Entry {
                waiters: W::default(),
                refused,
                wanted_until: None,
                since: now,
                lane,
                ticket: number,
                is_due: false,
            };
            self.entries.insert(agent, entry);
        }
        let standing = self.standing(agent, now);
        if let Some(entry) = self.entries.get_mut(&agent) {
            entry.refused = entry.refused.max(refused);
            if let (Lane::Calls, Standing::Waiting(due)) = (lane, standing) {
                entry.wanted_until = Some(due.expected + LATE_CALLERS);
            }
        }
        standing
    }

    pub(super) fn entry(&mut self, agent: AgentId) -> Option<&mut Entry<W>> {
        self.entries.get_mut(&agent)
    }

    pub(super) fn remove(&mut self, agent: AgentId) -> Option<Entry<W>> {
        let removed = self.entries.remove(&agent);
        self.waiting -= usize::from(removed.as_ref().is_some_and(Entry::is_waiting));
        self.stop_if_nobody_waits();
        self.drop_stale_places(2 * self.entries.len() + STALE_MAX);
        removed
    }

    /// Takes the next agent. Its entry stays until it is removed. Entries for which `is_wanted`
    /// returns `false` are removed on the way, and those who wait for them are told.
    pub(super) fn pop(
        &mut self,
        now: Instant,
        mut is_wanted: impl FnMut(AgentId, &Entry<W>) -> bool,
    ) -> Option<AgentId> {
        let mut places = 0;
        while let Some((number, agent)) = self.next_place() {
            places += 1;
            let Some(entry) = self.entries.get_mut(&agent) else { continue };
            if entry.ticket != number || entry.is_due {
                continue;
            }
            self.waiting -= 1;
            if is_wanted(agent, entry) {
                entry.is_due = true;
                self.rate.moved(now, places);
                self.stop_if_nobody_waits();
                return Some(agent);
            }
            self.entries.remove(&agent);
        }
        self.stop_if_nobody_waits();
        None
    }

    /// Removes the entries that are not due yet and for which `is_gone` returns `true`.
    pub(super) fn remove_waiting(&mut self, is_gone: impl Fn(&Entry<W>) -> bool) -> Vec<Entry<W>> {
        let gone = self.entries.extract_if(|_, entry| entry.is_waiting() && is_gone(entry));
        let gone: Vec<_> = gone.map(|(_, entry)| entry).collect();
        self.waiting -= gone.len();
        if !gone.is_empty() {
            self.drop_stale_places(0);
        }
        self.stop_if_nobody_waits();
        gone
    }

    /// Clears the lanes with more places than this of those that belong to no entry.
    fn drop_stale_places(&mut self, most: usize) {
        let entries = &self.entries;
        for lane in self.lanes.iter_mut().filter(|lane| lane.len() > most) {
            lane.retain(|(number, agent)| {
                entries.get(agent).is_some_and(|entry| entry.ticket == *number)
            });
        }
    }

    /// The speed of one queue, and the time since it moved last, say nothing about the next. What is left in
    /// the lanes has no entry any more.
    fn stop_if_nobody_waits(&mut self) {
        if self.waiting == 0 {
            self.rate.stopped();
            self.lanes.iter_mut().for_each(VecDeque::clear);
        }
    }

    /// The number of entries, including those that are due.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of entries that are not due yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the longest waiting agent joined the queue.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.entries.values().filter(|entry| entry.is_waiting());
        waiting.map(|entry| entry.since).min()
    }

    /// The time from one agent's moment to the next, as measured lately.
    pub(super) fn interval(&self, now: Instant) -> Duration {
        self.rate.interval(now)
    }

    /// When this agent is expected to be due.
    pub(super) fn standing(&mut self, agent: AgentId, now: Instant) -> Standing {
        let Some(entry) = self.entries.get(&agent) else {
            return Standing::Waiting(Due { earliest: now, expected: now });
        };
        let (lane, number) = (entry.lane, entry.ticket);
        if entry.is_due {
            return Standing::Due;
        }
        let before = self.lane(lane).partition_point(|(other, _)| *other < number);
        let beside = self.lane(lane.other()).len().min(before + 1);
        let before = u32::try_from(before + beside).unwrap_or(u32::MAX);
        Standing::Waiting(self.rate.due(now, before))
    }

    /// The next place, alternately from both lanes.
    fn next_place(&mut self) -> Option<(u64, AgentId)> {
        let lane = if self.lane(self.next).is_empty() { self.next.other() } else { self.next };
        self.next = lane.other();
        self.lane(lane).pop_front()
    }

    fn lane(&mut self, lane: Lane) -> &mut Places {
        let [calls, keepers] = &mut self.lanes;
        match lane {
            Lane::Calls => calls,
            Lane::Keepers => keepers,
        }
    }
}

impl<W> Entry<W> {
    /// Whether somebody has asked lately.
    pub(super) fn is_asked_for(&self, now: Instant) -> bool {
        self.wanted_until.is_some_and(|until| now <= until)
    }

    /// Whether it is not due yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_due
    }

    /// How long the agent has been waiting.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Lane {
    fn other(self) -> Self {
        match self {
            Self::Calls => Self::Keepers,
            Self::Keepers => Self::Calls,
        }
    }
}

impl MeasuredRate {
    /// Notes that the queue has moved by this many places.
    fn moved(&mut self, now: Instant, places: u32) {
        if let Some(last) = self.last.replace(now).filter(|_| self.is_measured) {
            let measured = now.saturating_duration_since(last) / places.max(1);
            let expected = self.intervals.expected;
            let measured = measured.clamp(expected / PACE_RANGE, expected * PACE_RANGE);
            self.measured = (self.measured + 1).min(SMOOTHING);
            self.interval = (self.interval * (self.measured - 1) + measured) / self.measured;
        }
        self.is_measured = true;
    }

    fn stopped(&mut self) {
        self.interval = self.intervals.expected;
        (self.is_measured, self.measured) = (false, 0);
    }

    /// The measured interval, or the time since the last move if that is longer.
    fn interval(&self, now: Instant) -> Duration {
        let last = self.last.filter(|_| self.is_measured);
        let stands = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.interval.max(stands)
    }

    /// When an agent with so many before it is due. Nothing is measured before the queue has moved twice; until then the
    /// other replicas may need no moments.
    fn due(&self, now: Instant, before: u32) -> Due {
        let next = |interval: Duration| self.last.map_or(now, |last| now.max(last + interval));
        let expected = next(self.interval) + self.interval(now).saturating_mul(before);
        let shortest = self.intervals.shortest;
        let earliest = if self.measured > 0 {
            expected
        } else {
            next(shortest) + shortest.saturating_mul(before)
        };
        Due { earliest, expected }
    }
}

#[cfg(test)]
mod tests;
