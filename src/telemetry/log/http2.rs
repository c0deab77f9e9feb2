//! Why HTTP/2 has refused a request. h2 tells nobody but its own log.

use std::{cell::RefCell, fmt, mem};

use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::layer::{Context, Filter};

/// Lets the same lines through as the filter inside. Also reads h2's own lines, even if that filter hides
/// them.
///
/// A layer that listens would need a filter of its own. Where two filters differ about a line, as they would
/// about nearly all, both are asked each time that it is reached.
#[derive(Debug)]
pub(super) struct Listening<F>(pub(super) F);

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

impl<S, F: Filter<S>> Filter<S> for Listening<F> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        is_heard(metadata) || self.0.enabled(metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_heard(metadata) { Interest::sometimes() } else { self.0.callsite_enabled(metadata) }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        let is_shown = || self.0.event_enabled(event, context);
        if !is_heard(event.metadata()) {
            return is_shown();
        }
        hear(event);
        self.0.enabled(event.metadata(), context) && is_shown()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint().map(|level| level.max(LevelFilter::DEBUG))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

/// Whether it is a line in which h2 may say why it has refused a request.
fn is_heard(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() <= Level::DEBUG && metadata.target() == "h2::server"
}

fn hear(event: &Event<'_>) {
    // First, since somebody may send thousands of such requests.
    if CAUSES.with_borrow(Vec::len) >= KEPT {
        return;
    }
    let mut cause = Cause(None);
    event.record(&mut cause);
    CAUSES.with_borrow_mut(|causes| causes.extend(cause.0));
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
mod tests;
