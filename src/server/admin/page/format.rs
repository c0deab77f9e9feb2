use std::time::{Duration, SystemTime};

use crate::tenant::Counts;

/// The time since `then`, in its one or two largest units.
pub(super) fn age(now: SystemTime, then: SystemTime) -> String {
    span(now.duration_since(then).unwrap_or_default())
}

/// A time in its one or two largest units.
pub(super) fn span(time: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = time.as_secs();
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{} d {} h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// A rate per second.
pub(super) fn rate(count: u64, seconds: f64) -> String {
    // Exact for any count that a minute can bring.
    #[expect(clippy::cast_precision_loss)]
    let rate = count as f64 / seconds.max(1.0);
    if rate >= 10.0 || count == 0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// The percentage of calls that failed.
pub(super) fn failed(counts: Counts) -> String {
    match (counts.calls_failed * 1000).checked_div(counts.calls) {
        None => "–".to_owned(),
        Some(0) if counts.calls_failed > 0 => "< 0.1 %".to_owned(),
        Some(thousandths) => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_largest_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_660, "1 h 1 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn failures_are_told_as_a_part_of_the_calls() {
        for (calls, calls_failed, expected) in [
            (0, 0, "–"),
            (5, 0, "0.0 %"),
            (3, 1, "33.3 %"),
            (9_999, 1, "< 0.1 %"),
            (2, 2, "100.0 %"),
        ] {
            assert_eq!(failed(Counts { calls, calls_failed, ..Counts::default() }), expected);
        }
        assert_eq!((&*rate(0, 60.0), &*rate(6, 60.0), &*rate(1200, 60.0)), ("0", "0.1", "20"));
    }
}
