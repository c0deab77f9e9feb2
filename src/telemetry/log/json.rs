//! Log lines as JSON, an object each.
//!
//! They are those of tracing-subscriber, byte for byte. It makes them by serde, which takes most of the time
//! that a call's line costs.

use std::{
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Number;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, Layer,
        format::{Format, Json, JsonFields, Writer},
    },
    registry::LookupSpan,
};

/// Makes a line of an event.
#[derive(Debug)]
pub(super) struct JsonLine {
    /// Lines within spans. Only other crates have spans, and lines in them only where much is shown.
    within_spans: Format<Json>,
}

/// A line while it is made. What is written to it is part of a string, and so is escaped.
struct Line {
    json: String,
    /// Whether all values could be written.
    written: fmt::Result,
}

/// Most lines are shorter.
const USUAL_LENGTH: usize = 512;

/// Writes lines as JSON.
pub(super) fn layer<S>() -> Layer<S, JsonFields, JsonLine>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = Layer::new().json().flatten_event(true).with_current_span(false);
    layer.map_event_format(|within_spans| JsonLine { within_spans })
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.parent().is_some() || context.lookup_current().is_some() {
            return self.within_spans.format_event(context, writer, event);
        }
        writer.write_str(&line(event)?)
    }
}

/// The line of an event that happens now.
fn line(event: &Event<'_>) -> Result<String, fmt::Error> {
    let metadata = event.metadata();
    let mut line = Line { json: String::with_capacity(USUAL_LENGTH), written: Ok(()) };
    line.json.push_str("{\"timestamp\":\"");
    write!(line.json, "{}", timestamp(SystemTime::now()))?;
    line.json.push_str("\",\"level\":\"");
    line.json.push_str(metadata.level().as_str());
    line.json.push('"');
    event.record(&mut line);
    line.name("target");
    line.string(|line| line.write_str(metadata.target()));
    line.json.push_str("}\n");
    line.written.map(|()| line.json)
}

fn timestamp(time: SystemTime) -> impl fmt::Display {
    // It has no words for an earlier time, which a clock that is wrong may show.
    humantime::format_rfc3339_micros(time.max(UNIX_EPOCH))
}

// === impl Line ===

impl Line {
    fn name(&mut self, name: &str) {
        self.json.push(',');
        self.string(|line| line.write_str(name));
        self.json.push(':');
    }

    fn string(&mut self, write: impl FnOnce(&mut Self) -> fmt::Result) {
        self.json.push('"');
        let written = write(self);
        self.json.push('"');
        self.written = self.written.and(written);
    }

    fn unquoted(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field.name());
        let written = write!(self.json, "{value}");
        self.written = self.written.and(written);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field.name());
        self.string(|line| write!(line, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field.name());
        self.string(|line| line.write_str(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match Number::from_f64(value) {
            Some(number) => self.unquoted(field, number),
            None => self.unquoted(field, "null"),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.unquoted(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.unquoted(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.unquoted(field, value);
    }
}

impl Write for Line {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some((plain, rest)) = before_escape(text) {
            self.json.push_str(plain);
            let mut rest = rest.chars();
            match rest.next() {
                Some(same @ ('"' | '\\')) => self.json.extend(['\\', same]),
                Some('\u{8}') => self.json.push_str("\\b"),
                Some('\t') => self.json.push_str("\\t"),
                Some('\n') => self.json.push_str("\\n"),
                Some('\u{c}') => self.json.push_str("\\f"),
                Some('\r') => self.json.push_str("\\r"),
                Some(other) => write!(self.json, "\\u{:04x}", u32::from(other))?,
                None => {}
            }
            text = rest.as_str();
        }
        self.json.push_str(text);
        Ok(())
    }
}

/// Splits text before the first character that has to be escaped.
fn before_escape(text: &str) -> Option<(&str, &str)> {
    let is_escaped = |byte| byte < b' ' || byte == b'"' || byte == b'\\';
    text.split_at_checked(text.bytes().position(is_escaped)?)
}

#[cfg(test)]
mod tests;
