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
    /// Requests that failed, without a good answer to one in between.
    failed: Streak,
    /// Sign-ins that failed, without a good answer to anything in between.
    ailing: Streak,
    window: Window,
}

/// Failures in a row. Several for one agent count once: a gateway may fail for this agent alone.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    count: u32,
    /// The agent of the last one.
    agent: Option<AgentId>,
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
    /// No answer came in time, or it came without an envelope and with an HTTP status of 500 or more, or 408. Has the
    /// agent that the request was for.
    Failed(AgentId),
    /// The same of a sign-in. A gateway may answer calls all the same.
    Ailing(AgentId),
    /// It was answered.
    Answered,
    /// A poll or sign-in was answered. That does not show that calls are answered.
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
            failed: Streak::default(),
            ailing: Streak::default(),
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
        let is_clear = self.unreached.max(self.failed.count).max(self.ailing.count) == 0;
        is_clear && self.share(now) == WHOLE
    }

    /// How many of the [`WHOLE`] parts of the requests it gets if there is another good address.
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

    /// Since when it is good; `None` if it is not.
    pub(super) fn good_since(&self) -> Option<Instant> {
        match self.state {
            State::Good { since, .. } => Some(since),
            State::Tripped { .. } | State::Probing { .. } => None,
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
    /// has ever given. `has_other`: another address is good, and for [`Outcome::Ailing`], gets [`WHOLE`].
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
            Outcome::Failed(agent) => self.failed.note(agent),
            Outcome::Ailing(agent) => self.ailing.note(agent),
            Outcome::Alive => (self.unreached, self.ailing) = (0, Streak::default()),
            Outcome::Answered => {
                self.unreached = 0;
                self.failed = Streak::default();
                self.ailing = Streak::default();
            }
        }
        let is_enough = self.unreached.max(self.failed.count) >= self.settings.failures;
        match (self.state, outcome) {
            (State::Good { .. }, Outcome::Unreached | Outcome::Failed(_)) => {
                self.window.note_failure(answers, now);
                // Nothing is lost by going elsewhere, and each further attempt may take its whole time.
                let is_better_elsewhere =
                    has_other && (self.unreached > 0 || self.window.is_mostly_failures(answers));
                (is_enough || is_better_elsewhere).then(|| self.trip(now))
            }
            // With no other address, the calls of those who have sessions may still be answered here.
            (State::Good { .. }, Outcome::Ailing(_)) => {
                let is_better_elsewhere = has_other && self.ailing.count >= self.settings.failures;
                is_better_elsewhere.then(|| self.trip(now))
            }
            // Neither says whether calls are answered, which is for the probes to find out.
            (State::Good { .. }, Outcome::Answered) | (_, Outcome::Alive | Outcome::Ailing(_)) => {
                None
            }
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

impl Streak {
    fn note(&mut self, agent: AgentId) {
        self.count += u32::from(self.agent.replace(agent) != Some(agent));
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
mod tests;
