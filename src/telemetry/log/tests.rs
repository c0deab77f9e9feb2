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

#[test]
fn lines_are_coloured_on_a_terminal_unless_no_color_is_set() {
    for (terminal, no_color, expected) in [
        (true, None, true),
        (true, Some(""), true),
        (true, Some("1"), false),
        (true, Some("0"), false),
        (false, None, false),
    ] {
        assert_eq!(has_colours(terminal, no_color.map(OsStr::new)), expected, "{no_color:?}");
    }
}
