//! Changes the log's filter while the process runs.
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Level, enabled, level_filters::LevelFilter, warn};
use tracing_appender::non_blocking::ErrorCounter;
use tracing_subscriber::{EnvFilter, Registry, filter::ParseError, reload};

use super::lost_lines::Unwritten;

/// Changes what is logged while the process runs. All clones share one state.
#[derive(Clone)]
pub struct LogControl(Arc<Inner>);

struct Inner {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
    /// Lines that were dropped since the queue was full: the reader of the log is too slow.
    unread: ErrorCounter,
    unwritten: Unwritten,
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

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

// === impl LogControl ===

impl LogControl {
    pub(super) fn new(
        handle: reload::Handle<EnvFilter, Registry>,
        configured: &str,
        unread: ErrorCounter,
        unwritten: Unwritten,
    ) -> Self {
        let (filter, configured) = (configured.to_owned(), configured.to_owned());
        let state = Mutex::new(State { filter, temporary: None });
        Self(Arc::new(Inner { handle, configured, unread, unwritten, state }))
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
        let unread = self.0.unread.dropped_lines().try_into().unwrap_or(u64::MAX);
        self.0.unwritten.count().saturating_add(unread)
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
        let line = || warn!(from, to, by, "the log's filter is changed");
        // Logged before or after the change, so that the line appears if either filter shows it.
        let told = enabled!(Level::WARN);
        if told {
            line();
        }
        self.0.handle.reload(filter).map_err(|_| FilterError::Ended)?;
        if !told {
            line();
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("view", &self.view()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc};

    use tracing_appender::non_blocking::NonBlockingBuilder;

    use super::*;
    use crate::telemetry::log::lost_lines::Lines;

    /// A writer that takes a line only when it is told to.
    struct Stalled(mpsc::Receiver<()>);

    impl io::Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Dropping the sender at the end of the test releases it.
            let _ended = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_counted() {
        let (go_on, stalled) = mpsc::channel();
        let builder = NonBlockingBuilder::default().buffered_lines_limit(1);
        let (mut writer, guard) = builder.finish(Stalled(stalled));
        let (_layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        let unwritten = Unwritten::default();
        let control = LogControl::new(handle, "info", writer.error_counter(), unwritten);
        assert_eq!(control.lines_lost(), 0);
        // At most one line is being written and one waits.
        for _ in 0..10 {
            io::Write::write_all(&mut writer, b"line\n").unwrap();
        }
        assert!((8..=9).contains(&control.lines_lost()), "{}", control.lines_lost());
        drop(go_on);
        drop(guard);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_to_a_device_that_is_full_are_counted() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (lines, unwritten) = Lines::to(full);
        let (mut writer, guard) = NonBlockingBuilder::default().finish(lines);
        let (_layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        let control = LogControl::new(handle, "info", writer.error_counter(), unwritten);
        for _ in 0..10 {
            io::Write::write_all(&mut writer, b"line\n").unwrap();
        }
        // Waits until the writing of all lines has been tried.
        drop(guard);
        assert_eq!(control.lines_lost(), 10);
    }
}
