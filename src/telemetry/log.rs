//! Logs to standard error.
//!
//! Fields have the same names everywhere, and the bridge's own names begin with `ccgw.`.
//! docs/running/telemetry.md lists them. No field has a Guid, password or key, since their types do
//! not print themselves.

#[cfg(test)]
pub(crate) mod captured;
mod control;
mod http2;
mod interval;
mod json;

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _, stderr},
    sync::Arc,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt,
    layer::{Filter, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use self::http2::Listening;
pub(crate) use self::interval::{LOG_AGAIN, LogInterval};
pub use self::{
    control::{FilterError, LogControl, LogView},
    http2::refusals,
};
use super::lines::{LineWriter, write_lines};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is no thread to write lines.
    #[error("the log has no thread: {0}")]
    Thread(#[from] io::Error),
    /// Logging has already been started in this process.
    #[error("logging cannot be started: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Human if standard error is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// The running log. Dropping it writes out the lines that are still queued.
#[derive(Debug)]
#[must_use = "lines that are still queued are lost without it"]
pub struct Logging {
    lines: Arc<LineWriter>,
    control: LogControl,
}

impl Logging {
    /// Changes what is logged, as long as the log runs.
    pub fn control(&self) -> &LogControl {
        &self.control
    }

    /// Ends the log, with this line, as it is, behind all others.
    pub fn end_with(self, last: &str) {
        self.lines.end_with(last.as_bytes());
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.lines.end();
    }
}

/// Starts logging for the whole process, with these filter directives. Lines are queued for a
/// thread that writes them. If the reader of the log is slow or stops, lines are lost, but no call
/// waits.
///
/// # Errors
///
/// [`TelemetryError`] if the filter cannot be read, there is no thread, or logging was started before.
pub fn start(directives: &str, format: Format) -> Result<Logging, TelemetryError> {
    let filter = EnvFilter::builder().parse(directives)?;
    let terminal = stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Human => false,
        Format::Json => true,
    };
    let has_colours = has_colours(terminal, env::var_os("NO_COLOR").as_deref());
    let mut is_torn = false;
    let write = move |lines: &[u8]| write_lines(&mut stderr(), &mut is_torn, lines);
    let lines = Arc::new(LineWriter::start("log", write)?);
    let (filter, handle) = reload::Layer::new(filter);
    let control = LogControl::new(handle, directives, lines.clone());
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        json::layer().with_writer(lines.clone()).boxed()
    } else {
        fmt::layer().with_writer(lines.clone()).with_ansi(has_colours).boxed()
    };
    subscriber(layer, filter).try_init()?;
    Ok(Logging { lines, control })
}

/// Whether lines for people are coloured: on a terminal, unless NO_COLOR is anything but empty.
fn has_colours(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Makes lines as a running log does, and writes them nowhere, for `benches/parts.rs` alone.
#[doc(hidden)]
pub fn unwritten() -> impl Subscriber + Send + Sync {
    subscriber(json::layer().with_writer(io::sink), EnvFilter::new("info"))
}

/// Shows `layer` what the filter lets through, and hears h2.
fn subscriber(
    layer: impl Layer<Registry> + Send + Sync,
    filter: impl Filter<Registry> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(layer.with_filter(Listening(filter)))
}

#[cfg(test)]
mod tests;
