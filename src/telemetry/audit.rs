//! The audit log: a line for each call that may change something, in a file of its own.
//!
//! It is apart from the log, so that no filter leaves anything of it out.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::Serialize;
use tokio::task::spawn_blocking;
use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::log::lost_lines::{Lines, Unwritten};

/// The audit log. All clones write to the same file.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    writer: NonBlocking,
    waiting: Waiting,
    /// Lines that came after the thread that writes them had ended.
    unqueued: ErrorCounter,
    /// Lines that could not be written, or found no room: the disk is too slow.
    unwritten: Unwritten,
    reopens: Arc<AtomicU64>,
    worker: Mutex<Option<WorkerGuard>>,
}

/// One call. Fields that are not known are left out.
#[derive(Debug, Serialize)]
pub struct AuditLine<'a> {
    /// When it was answered, in RFC 3339 with milliseconds.
    pub time: String,
    /// Who called; absent for anonymous callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<&'a str>,
    /// The address of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The method, in full.
    pub method: &'a str,
    /// The tenant, as the caller named it.
    pub tenant: &'a str,
    /// The agent, as the caller named it.
    pub agent: &'a str,
    /// The request, without its secrets.
    pub arguments: &'a str,
    /// What was known of each agent of a batch when the call ended.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub agents: &'a [AuditedAgent],
    /// The gRPC code.
    pub code: &'a str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// What is known of the agent after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a str>,
    /// The gateway's retcode, if it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retcode: Option<&'a str>,
    /// The trace that the call is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// How long the call took, in milliseconds.
    pub elapsed_ms: f64,
}

/// One agent of a batch. Fields that are not known are left out.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedAgent {
    /// The agent, as the caller named it.
    pub agent: String,
    /// The gRPC code that a call for this agent alone would have: `CANCELLED` if the caller left before that
    /// was known.
    pub code: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is known of the agent after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// The gateway's retcode, if it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retcode: Option<String>,
}

/// A file that is opened again when somebody has asked for that, such as after it was renamed.
struct Reopening {
    path: PathBuf,
    file: File,
    /// How often somebody has asked for that.
    asked: Arc<AtomicU64>,
    /// For which of these requests it was opened.
    done: u64,
    /// For which one it was said that it could not be.
    said: u64,
    /// Whether the last line was written in part.
    is_torn: bool,
}

/// How many bytes of lines wait for the disk.
#[derive(Clone, Default)]
struct Waiting(Arc<AtomicUsize>);

/// Where lines go that have waited.
struct Dequeued<W> {
    to: W,
    waiting: Waiting,
}

/// How many bytes of lines may wait for the disk. A line has a few hundred bytes, but that of a batch may have
/// a hundred kilobytes.
const WAITING_MAX: usize = 16 * 1024 * 1024;
/// How many lines may wait.
const QUEUE: usize = 16_384;

// === impl Audit ===

impl Audit {
    /// Appends to this file, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn to(path: &Path) -> io::Result<Self> {
        let reopens = Arc::<AtomicU64>::default();
        let file = open(path)?;
        let (path, asked, is_torn) = (path.to_owned(), reopens.clone(), is_torn(path));
        let file = Reopening { path, file, asked, done: 0, said: 0, is_torn };
        Ok(Self::over(file, reopens))
    }

    fn over(to: impl Write + Send + 'static, reopens: Arc<AtomicU64>) -> Self {
        let waiting = Waiting::default();
        let (lines, unwritten) = Lines::to(Dequeued { to, waiting: waiting.clone() });
        let builder = NonBlockingBuilder::default().buffered_lines_limit(QUEUE).lossy(true);
        let (writer, worker) = builder.finish(lines);
        let unqueued = writer.error_counter();
        Self(Arc::new(Inner {
            writer,
            waiting,
            unqueued,
            unwritten,
            reopens,
            worker: Mutex::new(Some(worker)),
        }))
    }

    /// Adds a line. Nobody waits for the disk: a line that finds no room is lost, and counted.
    pub fn write(&self, line: &AuditLine<'_>) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            if !self.0.waiting.add(&json) {
                return self.0.unwritten.note();
            }
            // A failure is counted where it happens.
            let _queued = self.0.writer.clone().write_all(&json);
        }
    }

    /// Waits about a second for the queued lines to be written. Lines that come later are lost.
    pub async fn close(&self) {
        let worker = self.0.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It waits for its thread when it is dropped.
        let _panic = spawn_blocking(move || drop(worker)).await;
    }

    /// Opens the file anew before the next line, so that it can be renamed before.
    pub fn reopen(&self) {
        self.0.reopens.fetch_add(1, Ordering::Relaxed);
    }

    /// How many lines were lost since the start.
    pub fn lines_lost(&self) -> u64 {
        let unqueued = self.0.unqueued.dropped_lines().try_into().unwrap_or(u64::MAX);
        self.0.unwritten.count().saturating_add(unqueued)
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("lines_lost", &self.lines_lost()).finish_non_exhaustive()
    }
}

// === impl Waiting ===

impl Waiting {
    /// Adds a line, if there is room for it.
    fn add(&self, line: &[u8]) -> bool {
        let with =
            |waiting: usize| Some(waiting + Self::weight(line)).filter(|sum| *sum <= WAITING_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).is_ok()
    }

    fn remove(&self, line: &[u8]) {
        self.0.fetch_sub(Self::weight(line), Ordering::Relaxed);
    }

    /// What a line counts for. A short one counts for its place in the queue, so that whatever has been added
    /// finds one.
    fn weight(line: &[u8]) -> usize {
        line.len().max(WAITING_MAX / QUEUE)
    }
}

// === impl Dequeued ===

impl<W: Write> Write for Dequeued<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    /// Writes a whole line, which waits no more then, also if that fails.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line);
        self.waiting.remove(line);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

// === impl Reopening ===

impl Write for Reopening {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Writes a line. If only a part of the one before was written, it begins a new line.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.open_if_asked();
        if self.is_torn {
            self.write_whole(b"\n")?;
        }
        self.write_whole(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Reopening {
    fn open_if_asked(&mut self) {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == self.done {
            return;
        }
        match open(&self.path) {
            Ok(file) => (self.done, self.is_torn, self.file) = (asked, is_torn(&self.path), file),
            // The old file is better than none. It is tried again with the next line.
            Err(error) if self.said != asked => {
                self.said = asked;
                warn!(%error, "audit.file could not be opened anew; lines go to the file that was open before, until it can");
            }
            Err(_said) => {}
        }
    }

    fn write_whole(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a file ends in the middle of a line.
fn is_torn(path: &Path) -> bool {
    // A pipe would have to be waited for.
    let last = || {
        let mut file = File::open(path).ok()?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1)).ok()?;
        file.read_exact(&mut last).ok()?;
        Some(last)
    };
    path.is_file() && last().is_some_and(|last| last != [b'\n'])
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests;
