use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Cancelled when the connection gets its GOAWAY. Calls in flight go on then, and streams end. The
/// server attaches it only to requests to watch events, since cloning a token takes a lock.
#[derive(Clone, Debug)]
pub struct ConnectionEnding(pub CancellationToken);

/// When a caller stops waiting, and the bridge's own limits that follow from it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    arrived: Instant,
    answer_by: Instant,
    start_by: Instant,
}

/// The answer is given at least this long before the caller's own clock runs out. Otherwise its
/// gRPC library would report a bare `DEADLINE_EXCEEDED`, and the caller would not learn whether the
/// gateway was asked.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);
/// A timeout on the wire may be longer than on the caller's clock, by up to one part in a hundred:
/// gRPC's C core rounds it up to three digits. The margin is twice that part.
const ROUNDED_PART: u32 = 100;
/// Nothing is started when less time than this remains until the answer is due, since no gateway
/// answers that fast.
const START_MARGIN: Duration = Duration::from_millis(15);
/// The time to collect and encode hundreds of results.
const PARTS_MARGIN: Duration = Duration::from_millis(50);
/// Longer deadlines are cut to this. No wait in the bridge comes near it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Deadline {
    /// The deadline of a call that came at `arrived` and whose caller waits for `timeout`.
    pub fn new(arrived: Instant, timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST);
        // A tenth at most, so that very short deadlines keep most of their time.
        let margin = ANSWER_MARGIN.min(timeout / 10).max(timeout * 2 / ROUNDED_PART);
        let start_margin = margin.max(ANSWER_MARGIN) + START_MARGIN;
        Self {
            arrived,
            answer_by: arrived + timeout.saturating_sub(margin),
            start_by: arrived + timeout.saturating_sub(start_margin),
        }
    }

    /// A little earlier, for parts of a call whose results have to be collected.
    #[must_use]
    pub fn sooner(self) -> Self {
        let sooner = |moment: Instant| moment.checked_sub(PARTS_MARGIN).unwrap_or(moment);
        let (answer_by, start_by) = (sooner(self.answer_by), sooner(self.start_by));
        Self { answer_by, start_by, ..self }
    }

    /// When the call came.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// When the caller has to be answered.
    pub fn answer_by(&self) -> Instant {
        self.answer_by
    }

    /// When it is too late to start anything.
    pub fn start_by(&self) -> Instant {
        self.start_by
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What gRPC's C core (seen in 1.85, under Python) makes of a timeout: whole milliseconds up to
    /// a second, above that the next higher number of three digits.
    fn on_the_wire(millis: u64) -> u64 {
        let step = match millis {
            0..1_000 => 1,
            1_000..10_000 => 10,
            10_000..100_000 => 100,
            _ => 1_000,
        };
        millis.div_ceil(step) * step
    }

    #[test]
    fn the_parts_of_a_call_end_sooner() {
        let whole = Deadline::new(Instant::now(), Duration::from_secs(60));
        let part = whole.sooner();
        assert_eq!(part.arrived(), whole.arrived());
        assert_eq!(part.answer_by() + PARTS_MARGIN, whole.answer_by());
        assert_eq!(part.start_by() + PARTS_MARGIN, whole.start_by());
    }

    #[test]
    fn short_deadlines_keep_most_of_their_time_and_none_is_longer_than_a_day() {
        let day = 24 * 60 * 60 * 1_000_000;
        // In microseconds, like the times until an answer is due and until something may be started.
        for (timeout, answer_in, start_in) in [
            (1_000, 900, 0),
            (50_000, 45_000, 25_000),
            (100_000, 90_000, 75_000),
            (1_000_000, 980_000, 965_000),
            (10_000_000, 9_800_000, 9_785_000),
            (2 * day, day - day / 50, day - day / 50 - 15_000),
        ] {
            let now = Instant::now();
            let deadline = Deadline::new(now, Duration::from_micros(timeout));
            let times = [deadline.answer_by() - now, deadline.start_by() - now];
            assert_eq!(times, [answer_in, start_in].map(Duration::from_micros), "{timeout}");
        }
    }

    proptest! {
        #[test]
        fn the_answer_is_due_before_the_callers_own_clock_runs_out(millis in 1..1_000_000_u64) {
            let now = Instant::now();
            let deadline = Deadline::new(now, Duration::from_millis(on_the_wire(millis)));
            let own = Duration::from_millis(millis);
            let left = (now + own).saturating_duration_since(deadline.answer_by());
            prop_assert!(left >= ANSWER_MARGIN.min(own / 10), "{left:?} left of {own:?}");
            prop_assert!(left <= ANSWER_MARGIN.max(own / 40), "{left:?} left of {own:?}");
            prop_assert!(deadline.start_by() <= deadline.answer_by());
        }
    }
}
