//! Whether an address of a gateway is asked, from what became of earlier requests to it.
//!
//! An address is good, tripped or probing. A tripped one is asked only by probes. When one has been
//! answered, it is probing: it may be asked again where no good address is left, and after some more answers
//! it is good. Refusals are answers, whatever they say.

use std::time::Duration;

use tokio::time::Instant;

use crate::{config, id::AgentId};

/// The state of one address. Pure: time and results are given to it.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    settings: config::Breaker,
    state: State,
    /// How often it has tripped. Results of requests that began before the last time say nothing any more.
    epoch: u32,
    /// How often it has tripped without being good for long in between.
    relapses: u32,
    /// Attempts to connect that failed, without an answer in between.
    unreached: u32,
    /// Requests that failed, without a good answer to one in between. Several in a row for one agent count once: a
    /// gateway may fail for this agent alone.
    failed: u32,
    /// The agent of the last one.
    failed_for: Option<AgentId>,
    window: Window,
}

/// How an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It may be asked. Has the time since when that is so, and whether it has tripped before.
    Good { since: Instant, after_trip: bool },
    /// It is asked by probes only.
    Tripped { since: Instant, next_probe: Instant, probes: u32 },
    /// Probes or requests have been answered since it tripped.
    Probing { since: Instant, next_probe: Instant, answers: u32 },
}

/// What a request, or a probe, says about its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No connection could be made.
    Unreached,
    /// No answer came in time, or it came without an envelope and with an HTTP status of 500 or more. Has the agent that
    /// the request was for.
    Failed(AgentId),
    /// It was answered.
    Answered,
    /// It was answered, but not every gateway that does so answers calls too: a poll, or a sign-in.
    Alive,
}

/// A change that people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has tripped.
    Tripped,
    /// It is good again.
    Good,
}

/// Answers and failures of the last seconds.
#[derive(Clone, Debug)]
struct Window {
    since: Instant,
    /// How many answers the address had given before.
    answers: u64,
    failures: u64,
}

/// How long results count together.
const WINDOW: Duration = Duration::from_secs(10);
/// With fewer results, the share of failures says nothing.
const WINDOW_RESULTS: u64 = 20;
/// So many answers make a probing address good.
const ANSWERS: u32 = 3;
/// For so many pauses, a tripped address is not preferred to a good one, the first time. Doubled with each
/// relapse, so that one which comes and goes does not move all requests each time.
const HOLD: u32 = 5;
const HOLD_DOUBLINGS: u32 = 3;
/// An address that has been good for so many pauses begins with the shortest times again.
const GOOD_FOR_LONG: u32 = 60;
/// All of the requests. An address that is good again gets one part more of them with each pause.
pub(super) const WHOLE: u32 = 10;

impl Breaker {
    /// Of an address that has not been asked yet.
    pub(super) fn new(settings: config::Breaker, now: Instant) -> Self {
        Self {
            settings,
            state: State::Good { since: now, after_trip: false },
            epoch: 0,
            relapses: 0,
            unreached: 0,
            failed: 0,
            failed_for: None,
            window: Window { since: now, answers: 0, failures: 0 },
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether nothing is known against it, so that neither admission nor an answer changes anything.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.unreached == 0 && self.failed == 0 && self.share(now) == WHOLE
    }

    /// How many of [`WHOLE`] requests it gets if there is another good address.
    pub(super) fn share(&self, now: Instant) -> u32 {
        match self.state {
            State::Good { after_trip: false, .. } => WHOLE,
            State::Good { since, .. } => {
                let pauses =
                    now.saturating_duration_since(since).div_duration_f64(self.settings.pause);
                (1..WHOLE).find(|share| pauses < f64::from(share + 1)).unwrap_or(WHOLE)
            }
            State::Tripped { .. } | State::Probing { .. } => 0,
        }
    }

    /// When the next probe is due; `None` if none is.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        match self.state {
            State::Good { .. } => None,
            State::Tripped { next_probe, .. } | State::Probing { next_probe, .. } => {
                Some(next_probe)
            }
        }
    }

    /// Takes in what became of a request or a probe that began in this epoch. `answers`: all that the address
    /// has ever given. `has_other`: another address is good.
    pub(super) fn note(
        &mut self,
        outcome: Outcome,
        epoch: u32,
        (answers, has_other): (u64, bool),
        now: Instant,
    ) -> Option<Change> {
        if epoch != self.epoch || self.settings.failures == 0 {
            return None;
        }
        match outcome {
            Outcome::Unreached => self.unreached += 1,
            Outcome::Failed(agent) => {
                self.failed += u32::from(self.failed_for.replace(agent) != Some(agent));
            }
            Outcome::Alive => self.unreached = 0,
            Outcome::Answered => (self.unreached, self.failed, self.failed_for) = (0, 0, None),
        }
        let is_enough = self.unreached.max(self.failed) >= self.settings.failures;
        match (self.state, outcome) {
            (State::Good { .. }, Outcome::Unreached | Outcome::Failed(_)) => {
                self.window.note_failure(answers, now);
                // Nothing is lost by going elsewhere, and each further attempt may take its whole time.
                let is_better_elsewhere =
                    has_other && (self.unreached > 0 || self.window.is_mostly_failures(answers));
                (is_enough || is_better_elsewhere).then(|| self.trip(now))
            }
            (State::Good { .. }, Outcome::Answered | Outcome::Alive) | (_, Outcome::Alive) => None,
            // One of the requests that are let through meanwhile may be as old as the last probe.
            (State::Tripped { next_probe, .. }, Outcome::Unreached | Outcome::Failed(_))
                if now < next_probe =>
            {
                None
            }
            (State::Tripped { since, probes, .. }, Outcome::Unreached | Outcome::Failed(_)) => {
                let probes = probes.saturating_add(1);
                self.state = State::Tripped { since, next_probe: now + self.pause(probes), probes };
                None
            }
            (State::Probing { since, answers, .. }, Outcome::Unreached | Outcome::Failed(_)) => {
                let next_probe = now + self.pause(1);
                self.state = if has_other || is_enough {
                    State::Tripped { since, next_probe, probes: 1 }
                } else {
                    State::Probing { since, next_probe, answers }
                };
                None
            }
            (State::Tripped { since, .. }, Outcome::Answered) => {
                self.answered((since, 1), (answers, has_other), now)
            }
            (State::Probing { since, answers: before, .. }, Outcome::Answered) => {
                self.answered((since, before.saturating_add(1)), (answers, has_other), now)
            }
        }
    }

    fn trip(&mut self, now: Instant) -> Change {
        let was_good_for_long = match self.state {
            State::Good { since, after_trip } => {
                !after_trip || {
                    now.saturating_duration_since(since) >= self.pauses(GOOD_FOR_LONG)
                }
            }
            State::Tripped { .. } | State::Probing { .. } => false,
        };
        self.relapses = if was_good_for_long { 0 } else { self.relapses.saturating_add(1) };
        self.epoch = self.epoch.wrapping_add(1);
        self.state = State::Tripped { since: now, next_probe: now + self.pause(0), probes: 0 };
        Change::Tripped
    }

    /// Takes in an answer, the `count`th since it tripped.
    fn answered(
        &mut self,
        (since, count): (Instant, u32),
        (answers, has_other): (u64, bool),
        now: Instant,
    ) -> Option<Change> {
        let hold = self.pauses(HOLD << self.relapses.min(HOLD_DOUBLINGS));
        let is_held = has_other && now.saturating_duration_since(since) < hold;
        if count < ANSWERS || is_held {
            let next_probe = now + self.settings.pause;
            self.state = State::Probing { since, next_probe, answers: count };
            return None;
        }
        self.state = State::Good { since: now, after_trip: true };
        self.window = Window { since: now, answers, failures: 0 };
        Some(Change::Good)
    }

    fn pauses(&self, count: u32) -> Duration {
        self.settings.pause.saturating_mul(count)
    }

    /// The pause before the next probe, after so many of them have failed.
    fn pause(&self, probes: u32) -> Duration {
        let config::Breaker { pause, pause_max, .. } = self.settings;
        pause.saturating_mul(1 << probes.min(16)).min(pause_max)
    }
}

impl Window {
    fn note_failure(&mut self, answers: u64, now: Instant) {
        if now.saturating_duration_since(self.since) > WINDOW || answers < self.answers {
            *self = Self { since: now, answers, failures: 0 };
        }
        self.failures += 1;
    }

    fn is_mostly_failures(&self, answers: u64) -> bool {
        let answers = answers.saturating_sub(self.answers);
        self.failures + answers >= WINDOW_RESULTS && self.failures >= answers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Outcome::{Alive, Answered, Unreached},
        *,
    };

    const SETTINGS: config::Breaker = config::Breaker {
        failures: 3,
        pause: Duration::from_secs(1),
        pause_max: Duration::from_secs(8),
    };

    /// A failure for this agent.
    fn failed(agent: u32) -> Outcome {
        Outcome::Failed(AgentId::lowest(&(agent..=agent)))
    }

    /// Failures for so many agents.
    fn failures(count: u32) -> Vec<Outcome> {
        (0..count).map(failed).collect()
    }

    /// A breaker with a clock.
    struct Timed {
        breaker: Breaker,
        now: Instant,
        answers: u64,
        has_other: bool,
    }

    impl Timed {
        fn new(has_other: bool) -> Self {
            let now = Instant::now();
            Self { breaker: Breaker::new(SETTINGS, now), now, answers: 0, has_other }
        }

        fn note(&mut self, outcome: Outcome) -> Option<Change> {
            self.answers += u64::from(outcome == Answered);
            let known = (self.answers, self.has_other);
            self.breaker.note(outcome, self.breaker.epoch(), known, self.now)
        }

        fn note_all(&mut self, outcomes: impl IntoIterator<Item = Outcome>) {
            for outcome in outcomes {
                self.note(outcome);
            }
        }

        fn later(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// Seconds until the next probe.
        fn probe_in(&self) -> Option<u64> {
            self.breaker.next_probe().map(|at| (at - self.now).as_secs())
        }

        fn is_tripped(&self) -> bool {
            matches!(self.breaker.state(), State::Tripped { .. })
        }

        fn is_good(&self) -> bool {
            matches!(self.breaker.state(), State::Good { .. })
        }
    }

    #[test]
    fn what_trips_an_address_and_what_does_not() {
        let mixed = [failed(1), Answered].repeat(20);
        let few = [failed(1), Answered].repeat(9);
        for (outcomes, alone, beside_another) in [
            (failures(3), true, true),
            // One agent that the gateway fails for must not cost the others their calls.
            (vec![failed(1); 15], false, false),
            // Unless there are many of them, and the calls have somewhere else to go.
            (vec![failed(1); 20], false, true),
            (vec![failed(1), failed(2), failed(1)], true, true),
            (vec![failed(1), failed(2), Alive, failed(3)], true, true),
            (vec![failed(1), failed(2), Answered, failed(3), failed(4)], false, false),
            (vec![Unreached; 3], true, true),
            // Going elsewhere costs nothing.
            (vec![Unreached], false, true),
            (vec![Unreached, Unreached, Alive, Unreached], false, true),
            (vec![Unreached, failed(1), Unreached, failed(2)], false, true),
            // Half of the requests: better than nothing, worse than another address.
            (mixed, false, true),
            (few, false, false),
            (vec![Answered; 100], false, false),
        ] {
            for (has_other, expected) in [(false, alone), (true, beside_another)] {
                let mut one = Timed::new(has_other);
                one.note_all(outcomes.iter().copied());
                assert_eq!(!one.is_good(), expected, "{outcomes:?}, another: {has_other}");
            }
        }
    }

    #[test]
    fn failures_of_long_ago_do_not_count_with_those_of_now() {
        let mut one = Timed::new(true);
        for _ in 0..100 {
            one.note_all([failed(1), Answered]);
            one.later(3);
        }
        assert!(one.is_good(), "never twenty results in ten seconds");
    }

    #[test]
    fn an_address_is_calm_only_while_nothing_is_known_against_it() {
        for failure in [failed(1), Unreached] {
            let mut one = Timed::new(false);
            assert!(one.breaker.is_calm(one.now));
            one.note(failure);
            assert!(!one.breaker.is_calm(one.now), "{failure:?}");
            one.note(Answered);
            assert!(one.breaker.is_calm(one.now));
        }
        let mut one = Timed::new(false);
        one.note_all(failures(3));
        one.later(1);
        one.note_all([Answered; 3]);
        assert!(one.is_good() && !one.breaker.is_calm(one.now), "it gets only a part at first");
    }

    #[test]
    fn probes_come_at_growing_pauses_until_one_is_answered() {
        let mut one = Timed::new(false);
        one.note_all(failures(2));
        assert_eq!(one.note(failed(2)), Some(Change::Tripped));
        for pause in [1, 2, 4, 8, 8, 8] {
            assert_eq!(one.probe_in(), Some(pause));
            assert_eq!(one.breaker.share(one.now), 0);
            one.note_all([failed(1), Unreached]);
            assert_eq!(one.probe_in(), Some(pause), "it was no probe that failed");
            one.later(pause);
            assert_eq!(one.note(failed(1)), None, "told once");
        }
        one.note_all([Answered]);
        assert_eq!(one.probe_in(), Some(1));
        assert!(matches!(one.breaker.state(), State::Probing { .. }));
        one.note_all([Answered]);
        assert_eq!(one.note(Answered), Some(Change::Good));
        assert_eq!(one.probe_in(), None);
    }

    #[test]
    fn an_address_waits_longer_the_sooner_it_trips_again_where_another_is_good() {
        let mut one = Timed::new(true);
        for hold in [5, 10, 20, 40, 40] {
            one.note_all([Unreached]);
            assert!(one.is_tripped());
            one.later(hold - 1);
            one.note_all([Answered; 10]);
            assert!(!one.is_good(), "after {hold} seconds");
            one.later(1);
            assert_eq!(one.note(Answered), Some(Change::Good));
        }
        one.later(60);
        one.note_all([Answered, Unreached]);
        one.later(5);
        one.note_all([Answered; 3]);
        assert!(one.is_good(), "it had been good for long");
    }

    #[test]
    fn a_probing_address_trips_at_its_first_failure_only_where_another_is_good() {
        for has_other in [false, true] {
            let mut one = Timed::new(has_other);
            one.note_all(failures(3));
            one.note_all([Answered, failed(1)]);
            assert_eq!(one.is_tripped(), has_other);
            assert!(one.probe_in().is_some_and(|seconds| seconds >= 1), "no probe at once");
            one.note_all(failures(3));
            assert!(one.is_tripped());
        }
    }

    #[test]
    fn an_address_that_is_good_again_gets_more_and_more_of_the_requests() {
        let mut one = Timed::new(false);
        assert_eq!(one.breaker.share(one.now), WHOLE);
        one.note_all(failures(3));
        one.note_all([Answered; 3]);
        for share in [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, WHOLE, WHOLE] {
            assert_eq!(one.breaker.share(one.now), share);
            assert_eq!(one.breaker.is_calm(one.now), share == WHOLE);
            one.later(1);
        }
    }

    #[test]
    fn requests_from_before_it_tripped_say_nothing_about_it() {
        let mut one = Timed::new(true);
        let before = one.breaker.epoch();
        one.note_all([Unreached]);
        for _ in 0..10 {
            assert_eq!(one.breaker.note(Answered, before, (9, true), one.now), None);
        }
        assert!(one.is_tripped());
        assert_eq!(one.probe_in(), Some(1));
    }

    #[test]
    fn with_no_failures_configured_nothing_trips() {
        let (settings, now) = (config::Breaker { failures: 0, ..SETTINGS }, Instant::now());
        let mut breaker = Breaker::new(settings, now);
        for _ in 0..100 {
            assert_eq!(breaker.note(Unreached, 0, (0, true), now), None);
        }
        assert!(breaker.is_calm(now));
    }

    proptest! {
        /// An address that answers comes back, whatever was before, and one that does not is left.
        #[test]
        fn whatever_was_before_an_address_is_judged_by_what_it_does_now(
            before in proptest::collection::vec((0..4_u8, 0..30_u64), 0..200),
            has_other: bool,
        ) {
            let mut one = Timed::new(has_other);
            for (outcome, seconds) in before {
                one.note([Unreached, failed(1), Answered, Alive][usize::from(outcome)]);
                one.later(seconds);
            }
            let mut back = one.breaker.clone();
            for _ in 0..60 {
                one.now += Duration::from_secs(1);
                one.note(Answered);
            }
            prop_assert!(one.is_good() && one.breaker.is_calm(one.now + one.breaker.pauses(WHOLE)));
            std::mem::swap(&mut one.breaker, &mut back);
            one.note_all(failures(3));
            prop_assert!(one.is_tripped());
            prop_assert!(one.breaker.next_probe().is_some_and(|at| at <= one.now + SETTINGS.pause_max));
        }
    }
}
