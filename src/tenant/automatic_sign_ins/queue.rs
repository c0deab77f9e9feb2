//! The order in which agents are signed in. No tasks and no clock: callers pass the time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::id::AgentId;

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

/// How fast the queue moves, measured by the last moments that it got.
#[derive(Debug)]
struct MeasuredRate {
    configured: Duration,
    /// The measured time from one place of the queue to the next.
    interval: Duration,
    /// When the queue moved last.
    last: Option<Instant>,
    /// Whether the queue has not been empty since then. Only then does the time to the next move
    /// count.
    is_measured: bool,
}

/// Whether an agent's sign-in is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It will be due at about this time.
    Waiting(Instant),
    /// It is due now.
    Due,
}

/// How long an agent keeps its place after it was due, if nobody has asked again. Callers are told
/// when to come back, and may come late.
const LATE_CALLERS: Duration = Duration::from_secs(30);
/// The weight of a new measured interval in the average: one part in this many.
const SMOOTHING: u32 = 16;
/// The measured interval may differ from the configured one by at most this factor.
const PACE_RANGE: u32 = 64;
/// A lane is cleared of stale places when it has this many more than twice the entries.
const STALE_MAX: usize = 64;

impl<W: Default> Queue<W> {
    /// An empty queue that gets one moment per `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            lanes: Default::default(),
            next: Lane::Calls,
            last_number: 0,
            waiting: 0,
            rate: MeasuredRate { configured: interval, interval, last: None, is_measured: false },
        }
    }

    /// Gets one moment per `interval` from now on.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.rate.configured = interval;
        self.rate.stopped();
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
                entry.wanted_until = Some(due + LATE_CALLERS);
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
        let (entries, most) = (&self.entries, 2 * self.entries.len() + STALE_MAX);
        for lane in self.lanes.iter_mut().filter(|lane| lane.len() > most) {
            lane.retain(|(number, agent)| {
                entries.get(agent).is_some_and(|entry| entry.ticket == *number)
            });
        }
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
                return Some(agent);
            }
            self.entries.remove(&agent);
        }
        // The speed of the next queue is not known yet.
        self.rate.stopped();
        None
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
        let Some(entry) = self.entries.get(&agent) else { return Standing::Waiting(now) };
        let (lane, number) = (entry.lane, entry.ticket);
        if entry.is_due {
            return Standing::Due;
        }
        let before = self.lane(lane).partition_point(|(other, _)| *other < number);
        let beside = self.lane(lane.other()).len().min(before + 1);
        let before = u32::try_from(before + beside).unwrap_or(u32::MAX);
        Standing::Waiting(self.rate.next(now) + self.rate.interval(now).saturating_mul(before))
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
            let (low, high) = (self.configured / PACE_RANGE, self.configured * PACE_RANGE);
            let measured = measured.clamp(low, high);
            self.interval = (self.interval * (SMOOTHING - 1) + measured) / SMOOTHING;
        }
        self.is_measured = true;
    }

    fn stopped(&mut self) {
        (self.interval, self.is_measured) = (self.configured, false);
    }

    /// The measured interval, or the time since the last move if that is longer.
    fn interval(&self, now: Instant) -> Duration {
        let last = self.last.filter(|_| self.is_measured);
        let stands = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.interval.max(stands)
    }

    /// When the first agent in the queue is expected to be due.
    fn next(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| now.max(last + self.interval))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &(1..=u32::MAX)).unwrap()
    }

    fn queue() -> Queue<()> {
        Queue::new(INTERVAL)
    }

    fn pop(queue: &mut Queue<()>, now: Instant) -> Option<u32> {
        let popped = queue.pop(now, |_, entry| entry.is_asked_for(now)).map(AgentId::get);
        if let Some(id) = popped {
            queue.remove(agent(id));
        }
        popped
    }

    fn due_in(queue: &mut Queue<()>, id: u32, lane: Lane, now: Instant) -> Duration {
        match queue.ask(agent(id), lane, 0, now) {
            Standing::Waiting(due) => due.saturating_duration_since(now),
            Standing::Due => panic!("its moment has come"),
        }
    }

    #[test]
    fn an_agent_is_in_the_queue_once_and_keeps_its_place() {
        let (mut queue, now) = (queue(), Instant::now());
        for id in [1, 2, 3, 1, 2, 1] {
            queue.ask(agent(id), Lane::Calls, 0, now);
        }
        assert_eq!(queue.waiting(), 3);
        let popped: Vec<_> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(popped, [1, 2, 3]);
    }

    #[test]
    fn the_lanes_take_turns() {
        let (mut queue, now) = (queue(), Instant::now());
        let lanes = [(Lane::Keepers, 1..=5), (Lane::Calls, 11..=12)];
        for (lane, ids) in lanes {
            for id in ids {
                queue.ask(agent(id), lane, 0, now);
            }
        }
        let next = |queue: &mut Queue<()>| queue.pop(now, |_, _| true).map(AgentId::get);
        let popped: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(popped, [11, 1, 12, 2, 3, 4, 5]);
    }

    #[test]
    fn an_agent_that_nobody_asks_for_any_more_is_passed_over() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.ask(agent(1), Lane::Calls, 0, now);
        queue.ask(agent(2), Lane::Calls, 0, now);
        let later = now + LATE_CALLERS + INTERVAL * 2;
        queue.ask(agent(2), Lane::Calls, 0, later);
        assert_eq!(pop(&mut queue, later), Some(2));
        assert_eq!((pop(&mut queue, later), queue.len()), (None, 0));
    }

    #[test]
    fn callers_are_told_when_their_turn_comes_by_the_pace_that_is_measured() {
        let (mut queue, mut now) = (queue(), Instant::now());
        for id in 0..1000 {
            assert_eq!(due_in(&mut queue, id + 1, Lane::Calls, now), INTERVAL * id);
        }
        // The gateway is slower than the configured rate: five times the interval for each agent.
        for _ in 0..200 {
            now += INTERVAL * 5;
            pop(&mut queue, now);
        }
        let told = due_in(&mut queue, 1000, Lane::Calls, now).as_secs_f64();
        let right = (INTERVAL * 5 * 800).as_secs_f64();
        assert!((right * 0.95..right * 1.05).contains(&told), "{told} s, not {right} s");

        // Half of the places belong to agents whom other replicas have signed in meanwhile.
        for id in 201..1000 {
            if id % 2 == 0 {
                queue.remove(agent(id));
            }
        }
        for _ in 0..100 {
            now += INTERVAL * 5;
            pop(&mut queue, now);
        }
        let told = due_in(&mut queue, 999, Lane::Calls, now).as_secs_f64();
        let right = (INTERVAL * 5 * 300).as_secs_f64();
        assert!((right * 0.9..right * 1.1).contains(&told), "{told} s, not {right} s");
    }

    #[test]
    fn the_first_in_the_queue_waits_for_the_next_moment() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.ask(agent(1), Lane::Calls, 0, now);
        pop(&mut queue, now);
        assert_eq!(due_in(&mut queue, 2, Lane::Calls, now), INTERVAL);
        assert_eq!(due_in(&mut queue, 2, Lane::Calls, now + INTERVAL / 2), INTERVAL / 2);
        assert_eq!(due_in(&mut queue, 2, Lane::Calls, now + INTERVAL * 2), Duration::ZERO);
    }

    #[test]
    fn agents_that_come_and_go_take_no_memory() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.ask(agent(1), Lane::Calls, 0, now);
        for _ in 0..10_000 {
            queue.ask(agent(2), Lane::Calls, 0, now);
            queue.remove(agent(2));
        }
        let places = queue.lane(Lane::Calls).len();
        assert!(places <= 2 + STALE_MAX + 1, "{places} places for one agent");
        assert_eq!(pop(&mut queue, now), Some(1));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(u32, Lane),
        Remove(u32),
        Pop,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let lane = prop_oneof![Just(Lane::Calls), Just(Lane::Keepers)];
        let step = prop_oneof![
            4 => (1..20_u32, lane).prop_map(|(id, lane)| Step::Ask(id, lane)),
            1 => (1..20_u32).prop_map(Step::Remove),
            2 => Just(Step::Pop),
        ];
        prop::collection::vec(step, 0..200)
    }

    fn leave(waiting: &mut [Vec<u32>; 2], id: u32) {
        for lane in waiting {
            lane.retain(|other| *other != id);
        }
    }

    proptest! {
        /// Compared with a simple model: first come, first served in each lane, and lanes in turn.
        #[test]
        fn whoever_asks_is_served_once_and_in_order(steps in steps()) {
            let (mut queue, now) = (queue(), Instant::now());
            let mut waiting: [Vec<u32>; 2] = Default::default();
            for step in steps {
                match step {
                    Step::Ask(id, lane) => {
                        queue.ask(agent(id), lane, 0, now);
                        if !waiting.concat().contains(&id) {
                            waiting[usize::from(lane == Lane::Keepers)].push(id);
                        }
                    }
                    Step::Remove(id) => {
                        queue.remove(agent(id));
                        leave(&mut waiting, id);
                    }
                    Step::Pop => {
                        let popped = queue.pop(now, |_, _| true).map(AgentId::get);
                        if let Some(id) = popped {
                            queue.remove(agent(id));
                        }
                        let first = |lane: &Vec<u32>| lane.first().copied();
                        let firsts: Vec<_> = waiting.iter().filter_map(first).collect();
                        prop_assert_eq!(popped.is_none(), firsts.is_empty());
                        if let Some(id) = popped {
                            prop_assert!(firsts.contains(&id));
                            leave(&mut waiting, id);
                        }
                    }
                }
                prop_assert_eq!(queue.waiting(), waiting.concat().len());
            }
        }
    }

    #[test]
    fn the_pace_of_one_queue_says_nothing_about_the_next() {
        let (mut queue, mut now) = (queue(), Instant::now());
        assert_eq!(queue.interval(now), INTERVAL);
        for id in 1..=100 {
            queue.ask(agent(id), Lane::Calls, 0, now);
        }
        for _ in 0..100 {
            now += INTERVAL * 5;
            pop(&mut queue, now);
        }
        assert!(queue.interval(now) > INTERVAL * 2, "it is slow");
        assert_eq!(pop(&mut queue, now), None);
        assert_eq!(queue.interval(now), INTERVAL);
    }

    #[test]
    fn an_agent_counts_from_when_it_came_until_it_is_removed() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.ask(agent(1), Lane::Calls, 0, now);
        queue.ask(agent(2), Lane::Keepers, 0, now + INTERVAL);
        assert_eq!((queue.len(), queue.waiting(), queue.oldest()), (2, 2, Some(now)));
        assert_eq!(queue.entry(agent(1)).unwrap().waited(now + 3 * INTERVAL), 3 * INTERVAL);
        assert!(queue.pop(now, |_, _| true).is_some());
        assert_eq!((queue.len(), queue.waiting()), (2, 1));
        assert_eq!(queue.oldest(), Some(now + INTERVAL));
    }

    #[test]
    fn places_of_those_who_left_are_dropped_when_there_are_too_many() {
        let (mut queue, now) = (queue(), Instant::now());
        for id in 1..=3 {
            queue.ask(agent(id), Lane::Calls, 0, now);
        }
        let mut most = 0;
        for _ in 0..200 {
            queue.ask(agent(4), Lane::Calls, 0, now);
            most = most.max(queue.lane(Lane::Calls).len());
            queue.remove(agent(4));
        }
        // Twice the three that are left, and 64, and the newest.
        assert_eq!(most, 2 * 3 + STALE_MAX + 1);
    }

    #[test]
    fn half_of_the_places_before_an_agent_may_be_of_the_other_lane() {
        let (mut queue, now) = (queue(), Instant::now());
        for id in 1..=10 {
            queue.ask(agent(id), Lane::Keepers, 0, now);
        }
        assert_eq!(due_in(&mut queue, 11, Lane::Calls, now), INTERVAL);
        assert_eq!(due_in(&mut queue, 12, Lane::Calls, now), 3 * INTERVAL);
        assert_eq!(due_in(&mut queue, 10, Lane::Keepers, now), 11 * INTERVAL);
    }
}
