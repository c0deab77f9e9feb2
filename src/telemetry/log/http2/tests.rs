use tracing::debug;
use tracing_subscriber::{EnvFilter, Layer as _, fmt::layer, layer::SubscriberExt as _, registry};

use super::*;
use crate::telemetry::log::captured::{Lines, listen};

#[test]
fn h2_is_heard_whatever_of_it_is_shown() {
    for (filter, shown) in [("warn", 0), ("h2=debug", 2)] {
        let lines = Lines::default();
        let layer = layer().with_ansi(false).with_writer(lines.clone());
        let layer = layer.with_filter(Listening(EnvFilter::new(filter)));
        let _guard = listen(registry().with(layer));
        debug!(target: "h2::server", "malformed headers: missing method");
        debug!(target: "h2::client", "malformed headers: in an answer");
        assert_eq!(refusals(), ["missing method"]);
        let text = lines.text();
        assert_eq!(text.lines().count(), shown, "{filter}: {text}");
    }
}

#[test]
fn a_cause_repeats_nothing_that_the_peer_has_sent() {
    for (line, expected) in [
        ("malformed headers: missing method", Some("missing method")),
        (
            "malformed headers: malformed authority (\"a:b@c (d): e\"): invalid authority",
            Some("malformed authority: invalid authority"),
        ),
        (
            "malformed headers: malformed path (\"/a b\"): invalid uri character",
            Some("malformed path: invalid uri character"),
        ),
        ("server connection bound", None),
    ] {
        assert_eq!(cause(line).as_deref(), expected, "{line}");
    }
}
