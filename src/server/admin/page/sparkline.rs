//! The last ten minutes of a tenant as a picture, which needs no script.

use std::fmt::{self, Display};

use crate::server::{admin::html::Html, history::BARS, status::HistoryStatus};

/// In units of the picture.
const HEIGHT: u32 = 24;
const BAR_WIDTH: usize = 3;

/// The bars of one kind, as the outline of an SVG path.
struct Outline<'a> {
    /// From which height to which, for each bar.
    spans: &'a [(u32, u32)],
}

/// Bars of calls; of each, the lowest part failed, and the part above it was refused. Tells the same in words.
pub(super) fn sparkline(html: &mut Html, history: &HistoryStatus) {
    let HistoryStatus { seconds_each, calls, calls_refused, calls_failed } = history;
    let most = calls.iter().copied().max().unwrap_or_default();
    if most == 0 {
        html.raw("<span class=\"quiet\">no calls</span>");
        return;
    }
    let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    html.raw(
        "<svg role=\"img\" width=\"90\" height=\"24\" viewBox=\"0 0 90 24\"><title>calls in each ",
    );
    html.text(seconds_each).raw(" s of the last ten minutes: at most ").text(most).raw("; of ");
    html.text(sum(calls)).raw(" in all, ").text(sum(calls_failed)).raw(" failed and ");
    html.text(sum(calls_refused)).raw(" were refused</title>");
    let (mut ok, mut refused, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (all, (no, bad)) in calls.iter().zip(calls_refused.iter().zip(calls_failed)) {
        let top_of_failed = height(*bad, most);
        let top_of_refused = height(bad.saturating_add(*no), most);
        failed.push((0, top_of_failed));
        refused.push((top_of_failed, top_of_refused));
        ok.push((top_of_refused, height(*all, most)));
    }
    for (class, spans) in [("ok", &ok), ("refused", &refused), ("failed", &failed)] {
        html.raw("<path class=\"").raw(class).raw("\" d=\"").text(Outline { spans });
        html.raw("\"></path>");
    }
    html.raw("</svg>");
}

/// The height of a count. It is above zero if the count is.
fn height(count: u32, most: u32) -> u32 {
    let height = (u64::from(count.min(most)) * u64::from(HEIGHT)).div_ceil(u64::from(most.max(1)));
    height.try_into().unwrap_or(HEIGHT)
}

impl Display for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The newest bar is at the right, also where there are fewer.
        let first = BARS.saturating_sub(self.spans.len());
        for (index, (from, to)) in self.spans.iter().enumerate().filter(|(_, (from, to))| to > from)
        {
            let (left, bottom) = ((first + index) * BAR_WIDTH, HEIGHT - from.min(&HEIGHT));
            write!(f, "M{left} {bottom}v-{}h2v{}z", to - from, to - from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(calls: &[u32], calls_refused: &[u32], calls_failed: &[u32]) -> String {
        let history = HistoryStatus {
            seconds_each: 20,
            calls: calls.to_vec(),
            calls_refused: calls_refused.to_vec(),
            calls_failed: calls_failed.to_vec(),
        };
        let mut html = Html::default();
        sparkline(&mut html, &history);
        html.done()
    }

    #[test]
    fn the_newest_bar_is_at_the_right_and_what_failed_is_its_lowest_part() {
        let picture = drawn(&[24, 12], &[0, 3], &[0, 6]);
        for part in [
            "<path class=\"ok\" d=\"M84 24v-24h2v24zM87 15v-3h2v3z\">",
            "<path class=\"refused\" d=\"M87 18v-3h2v3z\">",
            "<path class=\"failed\" d=\"M87 24v-6h2v6z\">",
            "of 36 in all, 6 failed and 3 were refused",
        ] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
    }

    #[test]
    fn one_failed_call_among_very_many_is_seen_and_nothing_is_said_in_words() {
        assert!(drawn(&[u32::MAX], &[0], &[1]).contains("class=\"failed\" d=\"M87 24v-1h2v1z\""));
        for nothing in [&[][..], &[0, 0]] {
            assert_eq!(drawn(nothing, nothing, nothing), "<span class=\"quiet\">no calls</span>");
        }
    }
}
