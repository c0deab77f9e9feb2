//! Captures what a test logs.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::fmt::MakeWriter;

/// The lines that are logged on this thread as long as this value lives.
#[derive(Debug)]
pub(crate) struct Captured {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

/// A second dispatcher that is never used. With only one, tracing asks just the thread that first
/// reaches a log line whether the line is wanted. A test that runs in parallel could then answer no
/// for this one.
static ANOTHER: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Captured {
    /// Starts to capture.
    pub(crate) fn start() -> Self {
        LazyLock::force(&ANOTHER);
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
        Self { lines, _guard: set_default(subscriber) }
    }

    /// The captured lines that contain `words`.
    pub(crate) fn with(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.lines.bytes()).into_owned();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

impl Lines {
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
