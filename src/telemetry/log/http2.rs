//! Why HTTP/2 has refused a request. h2 tells nobody but its own log.

use std::{cell::RefCell, fmt, mem};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, Filter},
};

/// Listens to h2's log, whatever of it is shown.
#[derive(Debug)]
pub(super) struct Refusals;

/// Finds the cause in one of h2's lines.
struct Cause(Option<String>);

/// What h2's lines about heads begin with.
const MALFORMED: &str = "malformed headers: ";
/// How many causes are kept until somebody takes them.
const KEPT: usize = 16;

thread_local! {
    static CAUSES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the causes for which h2 has refused requests on this thread since the last call of this. Empty if
/// there is no log.
pub fn refusals() -> Vec<String> {
    CAUSES.with_borrow_mut(mem::take)
}

impl Refusals {
    /// Shows it the lines that it listens to, and no others.
    pub(super) fn filter<S: Subscriber>() -> impl Filter<S> {
        Targets::new().with_target("h2::server", Level::DEBUG)
    }
}

impl<S: Subscriber> Layer<S> for Refusals {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        // First, since somebody may send thousands of such requests.
        if CAUSES.with_borrow(Vec::len) >= KEPT {
            return;
        }
        let mut cause = Cause(None);
        event.record(&mut cause);
        CAUSES.with_borrow_mut(|causes| causes.extend(cause.0));
    }
}

impl Visit for Cause {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = cause(&format!("{value:?}"));
        }
    }
}

/// The cause without what the peer has sent, which is the peer's own and may be long.
fn cause(line: &str) -> Option<String> {
    let said = line.strip_prefix(MALFORMED)?;
    let (what, rest) = said.split_once(" (").unwrap_or((said, ""));
    let why = rest.rsplit_once("): ").map(|(_sent, why)| why.trim_end_matches(", "));
    Some(why.map_or_else(|| what.to_owned(), |why| format!("{what}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
