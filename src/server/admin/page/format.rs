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

/// The percentage of calls that have done what they were made for. Callers who left do not count.
pub(super) fn succeeded(counts: Counts) -> String {
    let (succeeded, answered) = (counts.succeeded(), counts.answered());
    let thousandths = succeeded.saturating_mul(1000).checked_div(answered);
    // Rounded down, so that it is 100 % only if there is no other one.
    let told = thousandths.map(|parts| format!("{}.{} %", parts / 10, parts % 10));
    told.unwrap_or_else(|| "–".to_owned())
}

/// A time in seconds as people read it. 30 seconds stand for whatever is longer.
pub(super) fn millis(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(30.0..) => "> 30 s".to_owned(),
        Some(seconds @ 1.0..) => format!("{seconds:.1} s"),
        Some(seconds @ 0.01..) => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{:.1} ms", seconds * 1e3),
    }
}

/// The text, cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The percentage of calls that failed. Callers who left do not count, and one that asks too much is refused.
pub(super) fn failed(counts: Counts) -> String {
    match counts.failed().saturating_mul(1000).checked_div(counts.answered()) {
        None => "–".to_owned(),
        Some(0) if counts.failed() > 0 => "< 0.1 %".to_owned(),
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
    fn success_is_whole_only_if_every_call_that_was_answered_had_it() {
        for ((calls, calls_failed, calls_refused, calls_cancelled), expected) in [
            ((0, 0, 0, 0), "–"),
            ((2, 0, 0, 2), "–"),
            ((5, 0, 0, 0), "100.0 %"),
            ((5, 0, 0, 1), "100.0 %"),
            ((41, 0, 40, 0), "2.4 %"),
            ((99_999, 1, 0, 0), "99.9 %"),
            ((4, 1, 1, 1), "33.3 %"),
        ] {
            let counts =
                Counts { calls, calls_failed, calls_refused, calls_cancelled, ..<_>::default() };
            assert_eq!(succeeded(counts), expected);
        }
    }

    #[test]
    fn times_have_the_unit_that_fits_and_texts_end_at_a_character() {
        for (seconds, expected) in [
            (None, "–"),
            (Some(0.0004), "0.4 ms"),
            (Some(0.0123), "12 ms"),
            (Some(1.25), "1.2 s"),
            (Some(30.0), "> 30 s"),
        ] {
            assert_eq!(millis(seconds), expected);
        }
        assert_eq!((&*cut("äöü", 3), &*cut("äöü", 2)), ("äöü", "äö…"));
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
        let (calls, calls_failed) = (11, 9);
        let of_a_greedy_caller =
            Counts { calls, calls_failed, calls_over_own_share: 8, ..<_>::default() };
        assert_eq!(failed(of_a_greedy_caller), "9.0 %");
        let of_callers_who_left =
            Counts { calls: 12, calls_failed: 1, calls_cancelled: 8, ..<_>::default() };
        assert_eq!(failed(of_callers_who_left), "25.0 %");
        assert_eq!((&*rate(0, 60.0), &*rate(6, 60.0), &*rate(1200, 60.0)), ("0", "0.1", "20"));
    }
}
