use std::{error::Error, io, time::Duration};

use proptest::prelude::*;
use tracing::{debug, error, info, info_span, subscriber::DefaultGuard, trace, warn};
use tracing_subscriber::{layer::SubscriberExt as _, registry};

use super::*;
use crate::telemetry::log::captured::{self, Lines};

/// Lines of the same events: ours, and those of tracing-subscriber.
struct Both {
    lines: [Lines; 2],
    _guard: DefaultGuard,
}

impl Both {
    fn start() -> Self {
        let lines = [Lines::default(), Lines::default()];
        let [ours, theirs] = lines.clone();
        let their_layer = Layer::new().json().flatten_event(true).with_current_span(false);
        let subscriber =
            registry().with(layer().with_writer(ours)).with(their_layer.with_writer(theirs));
        Self { lines, _guard: captured::listen(subscriber) }
    }

    #[track_caller]
    fn assert_equal(&self, count: usize) {
        let [ours, theirs] = self.lines.each_ref().map(|lines| {
            let text = lines.text();
            assert!(text.ends_with('\n'), "{text}");
            text.lines().map(without_time).collect::<Vec<_>>()
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), count);
    }
}

/// A line that has zeros for the digits of its time, since two lines are not made at the same moment.
fn without_time(line: &str) -> String {
    let (time, rest) = line.split_at("{\"timestamp\":\"2026-11-30T12:00:00.000000Z\"".len());
    time.replace(|c: char| c.is_ascii_digit(), "0") + rest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_line_is_that_of_tracing_subscriber_byte_for_byte(
        text: String,
        controls in "[\\x00-\\x7f]{0,60}",
        float in proptest::num::f64::ANY,
        milliseconds in 0.0..1e6_f64,
        (signed, unsigned, wide, flag) in any::<(i64, u64, u128, bool)>(),
        optional: Option<u32>,
    ) {
        let both = Both::start();
        let milliseconds = (milliseconds * 1e3).round() / 1e3;
        info!(text, shown = %text, a.b = ?text, float, milliseconds, optional, "call");
        warn!(signed, unsigned, wide, flag, controls, shown = %controls, "{controls}");
        let error: &(dyn Error + 'static) = &io::Error::other(text.clone());
        error!(error, bytes = controls.as_bytes(), "of {text}, {}", controls);
        debug!(flag, "a \"name\"\n" = controls, "message");
        trace!(target: "another\ttarget", "{controls:?}");
        info!(alone = signed);
        both.assert_equal(6);
    }
}

#[test]
fn lines_within_spans_have_them() {
    let both = Both::start();
    let [parent, outer] =
        [info_span!("parent", of = "the line"), info_span!("outer", b = 1, a = "x")];
    info!(parent: &parent, "not entered");
    let _entered = outer.enter();
    info!(field = 1, "one span");
    let _entered = info_span!("inner").entered();
    info!(field = 2, "two spans");
    both.assert_equal(3);
    assert!(both.lines[0].text().contains("\"spans\":[{\"a\":\"x\",\"b\":1,\"name\":\"outer\"}"));
}

#[test]
fn a_time_has_microseconds_and_is_never_before_1970() {
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    assert_eq!(timestamp(time).to_string(), "2023-11-14T22:13:20.123456Z");
    let early = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(timestamp(early).to_string(), "1970-01-01T00:00:00.000000Z");
}
