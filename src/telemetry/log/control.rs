//! Changes the log's filter while the process runs.
use std::{
    cell::Cell,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{level_filters::LevelFilter, warn};
use tracing_subscriber::{EnvFilter, Registry, filter::ParseError, reload};

use crate::telemetry::lines::LineWriter;

/// Changes what is logged while the process runs. All clones share one state.
#[derive(Clone)]
pub struct LogControl(Arc<Inner>);

struct Inner {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
    lines: Arc<LineWriter>,
    state: Mutex<State>,
}

struct State {
    /// The current filter.
    filter: String,
    /// Set while the current filter is temporary.
    temporary: Option<Temporary>,
}

struct Temporary {
    until: SystemTime,
    then: String,
    _timer: AbortOnDropHandle<()>,
}

/// The current settings of the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogView {
    /// The current filter.
    pub filter: String,
    /// The filter of the configuration.
    pub configured: String,
    /// When the current filter ends by itself, in the format of RFC 3339.
    pub until: Option<String>,
}

/// Why a filter was rejected.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter is empty, which would turn nearly everything off.
    #[error("the filter is empty; use for example \"info\"")]
    Empty,
    /// The filter has control characters, which could forge log lines.
    #[error("the filter contains control characters")]
    Control,
    /// The filter has a syntax error.
    #[error("the filter cannot be read: {0}")]
    Unreadable(#[from] ParseError),
    /// The time is not from 1 s to 24 h.
    #[error("a temporary filter lasts from 1s to 24h")]
    Time,
    /// The process is ending.
    #[error("logging has ended")]
    Ended,
}

/// Is set when a line is shown that has it in its message, where it takes no room.
struct Shown<'a>(&'a Cell<bool>);

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

// === impl LogControl ===

impl LogControl {
    pub(super) fn new(
        handle: reload::Handle<EnvFilter, Registry>,
        configured: &str,
        lines: Arc<LineWriter>,
    ) -> Self {
        let (filter, configured) = (configured.to_owned(), configured.to_owned());
        let state = Mutex::new(State { filter, temporary: None });
        Self(Arc::new(Inner { handle, configured, lines, state }))
    }

    /// The current settings.
    pub fn view(&self) -> LogView {
        let state = self.state();
        let until = state.temporary.as_ref().map(|temporary| temporary.until);
        LogView {
            filter: state.filter.clone(),
            configured: self.0.configured.clone(),
            until: until.map(crate::time::rfc3339),
        }
    }

    /// How many lines were lost since the start, because nobody read them in time or writing
    /// failed.
    pub fn lines_lost(&self) -> u64 {
        self.0.lines.lost()
    }

    /// Applies another filter. With `time` it is temporary, and afterwards the last filter that was
    /// not temporary applies again. `by` is logged. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`FilterError`]. The current filter stays then.
    pub fn set(
        &self,
        filter: &str,
        time: Option<Duration>,
        by: &'static str,
    ) -> Result<(), FilterError> {
        let filter = filter.trim();
        if filter.is_empty() {
            return Err(FilterError::Empty);
        }
        if filter.chars().any(char::is_control) {
            return Err(FilterError::Control);
        }
        if time.is_some_and(|time| time.as_secs() == 0 || time > LONGEST) {
            return Err(FilterError::Time);
        }
        let mut state = self.state();
        self.apply(&state, filter, by)?;
        let lasting = state.temporary.take().map(|temporary| temporary.then);
        if let Some(time) = time {
            let then = lasting.unwrap_or_else(|| std::mem::take(&mut state.filter));
            state.temporary = Some(self.temporary(time, then));
        }
        filter.clone_into(&mut state.filter);
        Ok(())
    }

    /// Logs the bridge's own lines at debug level, or at the level of the configured filter if that
    /// shows more.
    ///
    /// # Errors
    ///
    /// As [`LogControl::set`].
    pub fn more(&self, by: &'static str) -> Result<(), FilterError> {
        self.set(&self.more_filter(), None, by)
    }

    /// Applies the configured filter again.
    ///
    /// # Errors
    ///
    /// As [`LogControl::set`].
    pub fn reset(&self, by: &'static str) -> Result<(), FilterError> {
        self.set(&self.0.configured, None, by)
    }

    fn more_filter(&self) -> String {
        let configured = &self.0.configured;
        let most = EnvFilter::builder().parse(configured).ok().and_then(|f| f.max_level_hint());
        let level = most.unwrap_or(LevelFilter::DEBUG).max(LevelFilter::DEBUG);
        format!("{configured},ccgateway_bridge={level}")
    }

    fn temporary(&self, time: Duration, then: String) -> Temporary {
        let control = self.clone();
        let until = SystemTime::now() + time;
        let timer = tokio::spawn(async move {
            sleep(time).await;
            control.restore(until);
        });
        Temporary { until, then, _timer: AbortOnDropHandle::new(timer) }
    }

    fn restore(&self, until: SystemTime) {
        let mut state = self.state();
        // A change that was made meanwhile has its own timer, or none.
        let due = state.temporary.take_if(|temporary| temporary.until == until);
        if let Some(Temporary { then, .. }) = due
            && self.apply(&state, &then, "its time has passed").is_ok()
        {
            state.filter = then;
        }
    }

    fn apply(&self, state: &State, to: &str, by: &'static str) -> Result<(), FilterError> {
        // A value match compiled as a regular expression can take any amount of memory. So only the
        // operator's configuration may use regular expressions.
        let ours = to == self.0.configured || to == self.more_filter();
        let filter = EnvFilter::builder().with_regex(ours).parse(to)?;
        let from = &state.filter;
        let is_told = Cell::new(false);
        let line = || warn!(from, to, by, "the log's filter is changed{}", Shown(&is_told));
        // Logged before or after the change, so that the line appears if either filter shows it. `enabled!`
        // cannot say whether the old one does: it is always true where a filter has directives for spans.
        line();
        self.0.handle.reload(filter).map_err(|_| FilterError::Ended)?;
        if !is_told.get() {
            line();
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.set(true);
        Ok(())
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("view", &self.view()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tracing::subscriber::with_default;

    use super::{super::subscriber, *};

    #[test]
    fn a_change_is_logged_once_if_the_old_filter_or_the_new_one_shows_it() {
        for (from, to, expected) in [
            ("info", "debug", 1),
            ("info", "off", 1),
            ("off", "info", 1),
            ("off", "error", 0),
            ("off,[span]=debug", "info", 1),
            ("off,[span]=debug", "off", 0),
            ("info,[span]=debug", "off,[span]=debug", 1),
        ] {
            let (sender, written) = channel();
            let write = move |lines: &[u8]| {
                sender.send(String::from_utf8_lossy(lines).into_owned()).unwrap();
                0
            };
            let lines = Arc::new(LineWriter::start("log", write).unwrap());
            let (filter, handle) = reload::Layer::new(EnvFilter::new(from));
            let control = LogControl::new(handle, from, lines.clone());
            let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
            with_default(subscriber(layer, filter), || control.set(to, None, "a test")).unwrap();
            lines.end();
            let written: String = written.iter().collect();
            let told = written.matches("the log's filter is changed").count();
            assert_eq!(told, expected, "{from} to {to}: {written}");
        }
    }

    #[test]
    fn lines_that_are_lost_are_counted() {
        let lines = Arc::new(LineWriter::start("log", |_lines| 3).unwrap());
        let (_layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        let control = LogControl::new(handle, "info", lines.clone());
        assert_eq!(control.lines_lost(), 0);
        lines.add(b"line\n");
        lines.end();
        assert_eq!(control.lines_lost(), 3);
    }
}
