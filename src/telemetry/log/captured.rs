//! Captures what a test logs.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Dispatch, Subscriber,
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::fmt::MakeWriter;

/// The lines that are logged on this thread as long as this value lives.
#[derive(Debug)]
pub(crate) struct Captured {
    lines: Lines,
    _guard: DefaultGuard,
}

/// What is logged goes here.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

/// A second dispatcher that is never used. With only one, tracing asks just the thread that first
/// reaches a log line whether the line is wanted. A test that runs in parallel could then answer no
/// for this one.
static ANOTHER: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Captured {
    /// Starts to capture.
    pub(crate) fn start() -> Self {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
        Self { lines, _guard: listen(subscriber) }
    }

    /// The captured lines that contain `words`.
    pub(crate) fn with(&self, words: &str) -> Vec<String> {
        let text = self.lines.text();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

/// Lets `subscriber` have what is logged on this thread, as long as the guard lives.
pub(super) fn listen(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    LazyLock::force(&ANOTHER);
    set_default(subscriber)
}

impl Lines {
    /// The lines so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
