use tracing::{Dispatch, info_span};

use super::*;

#[test]
fn whether_a_line_is_shown_is_found_out_once() {
    // Otherwise nobody wants the span.
    let _log = captured::Captured::start();
    let span = info_span!("like a line at this level");
    let metadata = span.metadata().expect("wanted");
    for (filter, is_shown) in [("info", true), ("warn", false)] {
        let dispatch = Dispatch::new(subscriber(fmt::layer(), EnvFilter::new(filter)));
        let interest = dispatch.register_callsite(metadata);
        assert_eq!((interest.is_always(), interest.is_never()), (is_shown, !is_shown), "{filter}");
    }
}
