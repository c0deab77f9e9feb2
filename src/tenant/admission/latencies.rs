//! Collects the times of a host's answers, and has its limit follow them.

use std::{
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::adaptive_limit::{AdaptiveLimit, Window};

/// The times of a host's answers since its limit was last looked at.
#[derive(Debug)]
pub(super) struct Latencies {
    begun: Instant,
    /// When the limit is looked at again, in nanoseconds since `begun`.
    due: AtomicU64,
    /// How many lower limits have been tried.
    trials: AtomicU32,
    /// Of each interface, a count in the upper bits, and the sum of logarithms in the lower ones.
    answered: Box<[AtomicU64]>,
    unanswered: AtomicU32,
    /// Whether a request has waited.
    pressed: AtomicBool,
    /// The usual time of an answer in nanoseconds; 0: not known.
    typical: AtomicU64,
    limit: Mutex<Collected>,
}

#[derive(Debug)]
struct Collected {
    limit: AdaptiveLimit,
    window: Window,
    since: Instant,
}

const COUNT: u64 = 1 << COUNT_SHIFT;
const COUNT_SHIFT: u32 = 44;
/// Bits of a logarithm behind the point.
const FRACTION: u32 = 8;
/// The least and the most time from one look at a limit to the next. In between, it is twice the time of an answer.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Fewer answers say too little. They are looked at together with the next ones.
const ENOUGH: u32 = 100;
/// A gateway that gives few answers is looked at with so many after this time.
const FEW: (u32, Duration) = (30, Duration::from_secs(3));
/// Fewer still are left out after this time: they do not tell how long answers take.
const STALE: Duration = Duration::from_secs(10);

impl Latencies {
    pub(super) fn new(ceiling: usize, interfaces: usize) -> Self {
        let begun = Instant::now();
        let limit = AdaptiveLimit::new(ceiling, interfaces, begun);
        let window = Window { answered: vec![(0, 0.0); interfaces], ..Window::default() };
        Self {
            begun,
            due: AtomicU64::new(nanos(LOOK.0)),
            trials: AtomicU32::default(),
            answered: (0..interfaces).map(|_| AtomicU64::default()).collect(),
            unanswered: AtomicU32::default(),
            pressed: AtomicBool::default(),
            typical: AtomicU64::default(),
            limit: Mutex::new(Collected { limit, window, since: begun }),
        }
    }

    /// Notes that a request waits.
    pub(super) fn press(&self) {
        if !self.pressed.load(Ordering::Relaxed) {
            self.pressed.store(true, Ordering::Relaxed);
        }
    }

    /// How many lower limits have been tried until now.
    pub(super) fn trials(&self) -> u32 {
        self.trials.load(Ordering::Relaxed)
    }

    /// Notes the time of an answer of this interface; `None`: there was none. `trials`: what there were when its
    /// request got a place.
    pub(super) fn note(&self, interface: usize, trials: u32, took: Option<Duration>) {
        if trials != self.trials() {
            return;
        }
        match (took, self.answered.get(interface)) {
            (Some(took), Some(answered)) => {
                answered.fetch_add(COUNT | logarithm(nanos(took)), Ordering::Relaxed);
            }
            _ => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether the limit has to be looked at.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.begun)) >= self.due.load(Ordering::Relaxed)
    }

    /// What an answer usually takes, if that is known.
    pub(super) fn typical(&self) -> Option<Duration> {
        let typical = self.typical.load(Ordering::Relaxed);
        (typical > 0).then(|| Duration::from_nanos(typical))
    }

    /// Looks at the limit. `most` says how many requests there were at once. `None` if somebody else does that now, or
    /// too little is known.
    pub(super) fn look(&self, now: Instant, most: impl FnOnce() -> usize) -> Option<usize> {
        let mut collected = match self.limit.try_lock() {
            Ok(collected) => collected,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return None,
        };
        if !self.is_due(now) {
            return None;
        }
        let Collected { limit, window, since } = &mut *collected;
        self.collect(window);
        let (answers, times) = window
            .answered
            .iter()
            .fold((0, 0.0), |(answers, times), one| (answers + one.0, times + one.1));
        let mean = times / f64::from(answers.max(1));
        let (known, age) = (answers + window.unanswered, now.saturating_duration_since(*since));
        // A lower limit gets more time: a wrong judgement lasts, and the requests from before it have to end first.
        let (few_after, stale_after) =
            if limit.is_trying() { (STALE, STALE * 3) } else { (FEW.1, STALE) };
        let is_enough = known >= ENOUGH || (known >= FEW.0 && age >= few_after);
        let is_stale = age > stale_after;
        let look = Duration::from_secs_f64(mean.exp2() * 2e-9).clamp(LOOK.0, LOOK.1);
        self.due
            .store(nanos((now + look).saturating_duration_since(self.begun)), Ordering::Relaxed);
        if !is_enough && !is_stale {
            return None;
        }
        window.most = most();
        let looked =
            if is_enough { limit.note(window, now) } else { limit.note_few(window.pressed, now) };
        self.trials.store(limit.trials(), Ordering::Relaxed);
        let typical = if is_enough && answers > window.unanswered { look_nanos(mean) } else { 0 };
        self.typical.store(typical, Ordering::Relaxed);
        window.answered.fill((0, 0.0));
        (window.unanswered, window.pressed, *since) = (0, false, now);
        Some(looked)
    }

    fn collect(&self, window: &mut Window) {
        for (sum, answered) in window.answered.iter_mut().zip(&self.answered) {
            let answered = answered.swap(0, Ordering::Relaxed);
            sum.0 =
                sum.0.saturating_add(u32::try_from(answered >> COUNT_SHIFT).unwrap_or(u32::MAX));
            #[expect(clippy::cast_precision_loss, reason = "it has 44 bits")]
            let logarithms = (answered % COUNT) as f64 / f64::from(1 << FRACTION);
            sum.1 += logarithms;
        }
        window.unanswered =
            window.unanswered.saturating_add(self.unanswered.swap(0, Ordering::Relaxed));
        window.pressed |= self.pressed.swap(false, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn look_nanos(mean: f64) -> u64 {
    nanos(Duration::from_secs_f64(mean.exp2() * 1e-9))
}

/// The logarithm to base 2, with a fraction that is exact to a tenth.
fn logarithm(of: u64) -> u64 {
    let of = of.max(1);
    let whole = of.ilog2();
    // The bits behind the highest one.
    let fraction = (of << (63 - whole)) << 1 >> (64 - FRACTION);
    u64::from(whole) << FRACTION | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn logarithms_are_about_right() {
        for of in [0, 1, 2, 3, 1000, 1_000_000, 300_000_000, 12_345_678_901, u64::MAX] {
            #[expect(clippy::cast_precision_loss, reason = "about")]
            let (found, exact) = (logarithm(of) as f64 / 256.0, (of.max(1) as f64).log2());
            assert!((found - exact).abs() < 0.1, "{of}: {found} {exact}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_looked_at_when_enough_is_known_and_what_is_old_is_left_out() {
        let latencies = Latencies::new(64, 2);
        let note = |times: u32| {
            (0..times).for_each(|_| latencies.note(1, latencies.trials(), Some(SECOND / 100)));
        };
        note(ENOUGH);
        assert!(!latencies.is_due(Instant::now()));
        assert_eq!(latencies.look(Instant::now(), || 1), None, "it is not time");
        tokio::time::advance(LOOK.0).await;
        assert!(latencies.is_due(Instant::now()));
        assert_eq!(latencies.look(Instant::now(), || 1), Some(64));
        let typical = latencies.typical().expect("known");
        assert!((SECOND / 110..SECOND / 90).contains(&typical), "{typical:?}");

        note(ENOUGH - 1);
        tokio::time::advance(SECOND).await;
        assert_eq!(latencies.look(Instant::now(), || 1), None, "too few");
        note(1);
        tokio::time::advance(SECOND).await;
        assert_eq!(latencies.look(Instant::now(), || 1), Some(64));

        note(FEW.0);
        tokio::time::advance(FEW.1).await;
        assert_eq!(latencies.look(Instant::now(), || 1), Some(64), "there are no more");

        note(FEW.0 - 1);
        tokio::time::advance(STALE * 2).await;
        assert_eq!(latencies.look(Instant::now(), || 1), Some(64), "they are old");
        assert_eq!(latencies.typical(), None);
        note(FEW.0 - 1);
        tokio::time::advance(SECOND).await;
        assert_eq!(latencies.look(Instant::now(), || 1), None, "the old ones do not count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lower_limit_is_not_judged_by_answers_to_requests_that_were_sent_before_it() {
        let latencies = Latencies::new(64, 1);
        let look = async |trials: u32, took: Duration| {
            (0..ENOUGH).for_each(|_| latencies.note(0, trials, Some(took)));
            latencies.press();
            tokio::time::advance(SECOND * 2).await;
            latencies.look(Instant::now(), || 64)
        };
        assert_eq!(look(0, SECOND).await, Some(64));
        assert_eq!(look(0, SECOND).await, Some(32), "half as many are tried");
        assert_eq!(look(0, SECOND).await, None, "they got their places before");
        assert_eq!(look(1, SECOND / 2).await, Some(16), "that has helped");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_answer_lower_a_limit_for_which_others_wait() {
        let latencies = Latencies::new(64, 1);
        (0..ENOUGH).for_each(|_| latencies.note(0, latencies.trials(), None));
        latencies.press();
        tokio::time::advance(SECOND).await;
        assert_eq!(latencies.look(Instant::now(), || 64), Some(32));
        assert_eq!(latencies.typical(), None);

        latencies.note(0, latencies.trials(), Some(SECOND / 100));
        tokio::time::advance(STALE * 4).await;
        assert_eq!(latencies.look(Instant::now(), || 1), Some(64), "nobody has waited since");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_with_few_answers_is_not_left_with_a_limit_that_was_only_tried() {
        let latencies = Latencies::new(16, 1);
        let mut limits = vec![16];
        for _ in 0..1000 {
            let limit = limits.last().copied().unwrap_or_default();
            tokio::time::advance(SECOND * 5 / u32::try_from(limit).unwrap()).await;
            latencies.note(0, latencies.trials(), Some(SECOND * 5));
            latencies.press();
            limits.push(latencies.look(Instant::now(), || limit).unwrap_or(limit));
        }
        let late: usize = limits[500..].iter().sum();
        assert!(late > 501 * 14, "{limits:?}");
    }
}
