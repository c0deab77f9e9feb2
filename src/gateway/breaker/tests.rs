use proptest::prelude::*;

use super::{
    Outcome::{Ailing, Alive, Answered, Unreached},
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

/// A sign-in that failed for this agent.
fn ailing(agent: u32) -> Outcome {
    Ailing(AgentId::lowest(&(agent..=agent)))
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
        // Without another address, there are still the calls of those who have sessions.
        (vec![ailing(1), ailing(2), ailing(3)], false, true),
        (vec![ailing(1), ailing(2), failed(1), failed(2), ailing(3)], false, true),
        (vec![ailing(1); 100], false, false),
        (vec![ailing(1), failed(1), ailing(2), failed(2)], false, false),
        (vec![ailing(1), ailing(2), Alive, ailing(3), ailing(4)], false, false),
        (vec![ailing(1), ailing(2), Answered, ailing(3), ailing(4)], false, false),
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
fn failures_count_together_for_ten_seconds() {
    for (seconds, is_left) in [(10, true), (11, false)] {
        let mut one = Timed::new(true);
        one.note_all([failed(1), Answered].repeat(9));
        one.later(seconds);
        one.note_all([failed(1), Answered, failed(1)]);
        assert_eq!(one.is_tripped(), is_left, "after {seconds} seconds");
    }
}

#[test]
fn an_address_is_calm_only_while_nothing_is_known_against_it() {
    for failure in [failed(1), ailing(1), Unreached] {
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
        one.note_all([ailing(1), ailing(2)]);
        assert_eq!(one.probe_in(), Some(0), "a sign-in puts no probe off");
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
        before in proptest::collection::vec((0..5_u8, 0..30_u64), 0..200),
        has_other: bool,
    ) {
        let mut one = Timed::new(has_other);
        for (outcome, seconds) in before {
            one.note([Unreached, failed(1), ailing(1), Answered, Alive][usize::from(outcome)]);
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
