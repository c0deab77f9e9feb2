//! How many requests at once a gateway host bears, by how long it takes for its answers.
//!
//! Nobody says what a gateway bears, and a gateway does not say when it is too much: its answers only take longer. So the
//! limit follows their times. A time alone does not tell whether a gateway has more to do than it can, or is just slow,
//! or has become slow by the work of others. What tells it is whether fewer requests at once make it faster, so much that
//! it does as much as before:
//!
//! ```text
//!            answers take too long,                fewer requests have made
//!            or it was not tried for a while       it faster: keep the lower limit
//!   steady ────────────────────────────▶ trial ─────────────────────────────▶ steady
//!                 lower the limit             └──────────────────────────────▶ steady
//!                                               they have not: take it back,
//!                                               and these times are its usual ones
//! ```
//!
//! Only a limit that keeps requests waiting is lowered: where none waits, the gateway does all that is asked of it.
//! Times are kept as logarithms to base 2. So a few very long ones, as after a standstill, count for little, and an
//! interface that is always slower than the others is only compared with itself.

use std::time::Duration;

use tokio::time::Instant;

/// A limit that follows the times of answers.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    floor: f64,
    ceiling: f64,
    limit: f64,
    /// What each interface usually takes.
    usual: Box<[Option<f64>]>,
    /// The part of requests that usually get no answer.
    lost: f64,
    trial: Option<Trial>,
    /// How many trials there have been.
    trials: u32,
    /// When a lower limit is tried although answers come as usual: the usual time may be that of a gateway that has
    /// had too much to do from the start.
    next_trial: Instant,
    /// By how much the limit is lowered then. After a step that was too large a smaller one is tried.
    probe: f64,
    pause: Duration,
    /// Since when there have always been requests that waited.
    pressed_since: Option<Instant>,
}

/// What was seen of a host for a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Of each interface, how many requests were answered, and the sum of the logarithms of their times.
    pub(super) answered: Vec<(u32, f64)>,
    /// Requests that had no answer in time, or one that says that it is too much.
    pub(super) unanswered: u32,
    /// The most requests at once.
    pub(super) most: usize,
    /// Whether a request had to wait for others.
    pub(super) pressed: bool,
}

/// A lower limit, and what there was before it.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The limit before.
    limit: f64,
    /// How much longer than usual answers took.
    excess: f64,
    /// The same, without requests that had no answer.
    answered: Option<f64>,
    /// By how much fewer requests there are.
    step: f64,
}

/// The least that a limit is lowered to, if the configuration allows as much.
const FLOOR: f64 = 4.0;
/// Above this, answers take too long: 1.32 times as long as usual.
const LONG: f64 = 0.4;
/// Below this, a limit that is reached is raised: 1.11 times as long as usual.
const SHORT: f64 = 0.15;
/// This much longer than usual is normal where there is as much to do as can be done. Only what is beyond that
/// lowers the limit.
const NORMAL_EXCESS: f64 = 0.25;
/// The least and the most by which a limit is lowered at a time: to 0.84 and 0.5 of it.
const STEP: (f64, f64) = (0.25, 1.0);
/// The same, where answers come as usual: the most at first, since there may be far too much, and the least, to 0.71 of
/// it, before a pause.
const PROBE: (f64, f64) = (0.5, 1.0);
/// A trial has helped if times fell by at least this part of its step, both as logarithms: a gateway that has too much
/// to do answers half as many requests in half the time. The rest allows for chance.
const HELPED: f64 = 0.7;
/// An answer that did not come counts as one that took this much longer than usual.
const UNANSWERED: f64 = 4.0;
/// The part by which a limit is raised.
const RAISE: f64 = 0.1;
/// The same where no request waits: then nothing speaks against a higher limit.
const RELAX: f64 = 0.05;
/// The part by which the usual time follows a longer one, and a shorter one.
const FOLLOW: (f64, f64) = (0.1, 0.3);
/// The first trial comes when requests have been waiting for so long.
const PRESSED: Duration = Duration::from_secs(1);
/// The pauses between trials that do not help double.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(300);

impl AdaptiveLimit {
    /// A limit of a host with so many interfaces. It begins with the highest.
    pub(super) fn new(ceiling: usize, interfaces: usize, now: Instant) -> Self {
        let ceiling = float(ceiling).max(1.0);
        Self {
            floor: FLOOR.min(ceiling),
            ceiling,
            limit: ceiling,
            usual: vec![None; interfaces].into(),
            lost: 0.0,
            trial: None,
            trials: 0,
            next_trial: now,
            probe: PROBE.1,
            pause: PAUSE,
            pressed_since: None,
        }
    }

    /// The limit.
    pub(super) fn limit(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between floor and ceiling"
        )]
        let limit = self.limit as usize;
        limit.max(1)
    }

    /// Whether a lower limit is being tried.
    pub(super) fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// How many lower limits have been tried, with the present one. Answers to requests that got their places
    /// before do not show what it brings.
    pub(super) fn trials(&self) -> u32 {
        self.trials
    }

    /// Takes in what was seen, and returns the limit.
    pub(super) fn note(&mut self, window: &Window, now: Instant) -> usize {
        let Some(excess) = self.excess(window) else { return self.limit() };
        if window.pressed {
            let since = *self.pressed_since.get_or_insert(now);
            self.pressed(window, excess, (since, now));
        } else {
            self.pressed_since = None;
            self.take_back();
            self.follow(window, FOLLOW);
            self.raise(RELAX);
        }
        self.limit()
    }

    /// Takes in that for a while there were too few answers to tell anything, and whether requests waited.
    pub(super) fn note_few(&mut self, is_pressed: bool, now: Instant) -> usize {
        self.pressed_since = None;
        if self.trial.is_some() {
            self.put_off(now);
        }
        self.take_back();
        if is_pressed {
            self.raise(RAISE);
        } else {
            self.limit = self.ceiling;
        }
        self.limit()
    }

    /// Ends a trial of which nothing says that it has helped.
    fn take_back(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.limit = trial.limit;
        }
    }

    fn pressed(&mut self, window: &Window, excess: f64, (since, now): (Instant, Instant)) {
        let is_lowest = float(self.limit()) <= self.floor;
        let may_try = !is_lowest && now >= self.next_trial.max(since + PRESSED);
        match self.trial.take() {
            Some(trial) => self.judge(trial, window, (excess, now)),
            None if excess > LONG => {
                let too_much = (excess - NORMAL_EXCESS).clamp(STEP.0, STEP.1);
                self.try_fewer(window, excess, too_much);
            }
            None if may_try => self.try_fewer(window, excess, self.probe),
            None if excess < SHORT && float(window.most) >= self.limit.floor() => self.raise(RAISE),
            // No lower limit can show whether these times are the gateway's own.
            None if is_lowest => self.follow(window, FOLLOW),
            None => self.follow_lost(window, FOLLOW.0),
        }
    }

    fn try_fewer(&mut self, window: &Window, excess: f64, step: f64) {
        let used = self.limit.min(float(window.most));
        let fewer = (used * (-step).exp2()).max(self.floor);
        if fewer >= used {
            // Fewer are not allowed, so these are the usual times.
            return self.follow(window, FOLLOW);
        }
        let step = (used / fewer).log2();
        let answered = self.excess(&Window { unanswered: 0, ..window.clone() });
        self.trial = Some(Trial { limit: self.limit, excess, answered, step });
        self.trials = self.trials.wrapping_add(1);
        self.limit = fewer;
    }

    fn judge(&mut self, trial: Trial, window: &Window, (excess, now): (f64, Instant)) {
        // It takes long to see that there is no answer, so only answers are compared if there are any.
        let answered = self.excess(&Window { unanswered: 0, ..window.clone() });
        let fell = match (trial.answered, answered) {
            (Some(before), Some(now)) => before - now,
            _ => trial.excess - excess,
        };
        if fell >= trial.step * HELPED {
            // Shorter times are nearer to those of a gateway that has little to do.
            self.follow(window, (0.0, 0.5));
            self.probe = PROBE.1;
            // There may be still shorter ones.
            if let Some(excess) = self.excess(window).filter(|_| now >= self.next_trial) {
                self.try_fewer(window, excess, self.probe);
            }
            return;
        }
        self.limit = trial.limit;
        self.follow(window, (0.5, 0.7));
        if self.probe > PROBE.0 && trial.step > PROBE.0 {
            self.probe = PROBE.0;
            return;
        }
        self.put_off(now);
    }

    /// Tries nothing for a while.
    fn put_off(&mut self, now: Instant) {
        self.next_trial = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn raise(&mut self, part: f64) {
        let more = if part > RELAX { (self.limit * part).max(1.0) } else { self.limit * part };
        self.limit = (self.limit + more).min(self.ceiling);
    }

    /// How much longer than usual answers took. `None`: there were none.
    fn excess(&mut self, window: &Window) -> Option<f64> {
        let (mut sum, mut count) =
            (UNANSWERED * f64::from(window.unanswered), f64::from(window.unanswered));
        for (usual, &(answers, times)) in self.usual.iter_mut().zip(&window.answered) {
            if answers > 0 {
                let answers = f64::from(answers);
                sum += times - answers * *usual.get_or_insert(times / answers);
                count += answers;
            }
        }
        let lost = if window.unanswered > 0 { self.lost } else { 0.0 };
        (count > 0.0).then(|| sum / count - UNANSWERED * lost)
    }

    /// Moves the usual times towards those that were seen, by the first part to longer and by the second to shorter ones.
    fn follow(&mut self, window: &Window, (longer, shorter): (f64, f64)) {
        for (usual, &(answers, times)) in self.usual.iter_mut().zip(&window.answered) {
            if let (Some(usual), 1..) = (usual, answers) {
                let difference = times / f64::from(answers) - *usual;
                *usual += difference * if difference > 0.0 { longer } else { shorter };
            }
        }
        self.follow_lost(window, longer);
    }

    fn follow_lost(&mut self, window: &Window, part: f64) {
        let unanswered = f64::from(window.unanswered);
        let answered: f64 = window.answered.iter().map(|(answers, _)| f64::from(*answers)).sum();
        let lost = unanswered / (unanswered + answered).max(1.0);
        self.lost += (lost - self.lost) * part;
    }
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests;
