//! The audit log: a line for each call that may change something, in a file of its own.
//!
//! It is apart from the log, so that no filter leaves anything of it out.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::lines::{LineWriter, write_lines};

/// The audit log. All clones write to the same file.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    lines: LineWriter,
    reopens: Arc<AtomicU64>,
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
    pub peer: Option<&'a str>,
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

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("audit.file: {0}: {1}; give a file in a folder that the bridge may write to")]
    File(PathBuf, io::Error),
    /// There is no thread to write lines.
    #[error("the audit log has no thread: {0}")]
    Thread(io::Error),
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
    /// Whether its last line is only a part of one.
    is_torn: bool,
}

// === impl Audit ===

impl Audit {
    /// Appends to this file, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if the file cannot be opened, or there is no thread.
    pub fn to(path: &Path) -> Result<Self, AuditError> {
        let reopens = Arc::<AtomicU64>::default();
        let file = open(path).map_err(|error| AuditError::File(path.to_owned(), error))?;
        let (path, asked, is_torn) = (path.to_owned(), reopens.clone(), is_torn(path));
        let mut file = Reopening { path, file, asked, done: 0, said: 0, is_torn };
        let lines = LineWriter::start("audit", move |lines| file.write(lines));
        let lines = lines.map_err(AuditError::Thread)?;
        Ok(Self(Arc::new(Inner { lines, reopens })))
    }

    /// Adds a line. Nobody waits for the disk: a line that finds no room is lost, and counted.
    pub fn write(&self, line: &AuditLine<'_>) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            self.0.lines.add(&json);
        }
    }

    /// Waits until the remaining lines are written, for a second at most. Lines that come later are lost.
    pub async fn close(&self) {
        let audit = self.clone();
        let _panic = spawn_blocking(move || audit.0.lines.end()).await;
    }

    /// Opens the file anew before the next lines, so that it can be renamed before.
    pub fn reopen(&self) {
        self.0.reopens.fetch_add(1, Ordering::Relaxed);
    }

    /// How many lines were lost since the start.
    pub fn lines_lost(&self) -> u64 {
        self.0.lines.lost()
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("lines_lost", &self.lines_lost()).finish_non_exhaustive()
    }
}

// === impl Reopening ===

impl Reopening {
    /// Writes lines. Returns how many were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        self.open_if_asked();
        write_lines(&mut self.file, &mut self.is_torn, lines)
    }

    fn open_if_asked(&mut self) {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == self.done {
            return;
        }
        match open(&self.path) {
            Ok(file) => (self.done, self.is_torn, self.file) = (asked, is_torn(&self.path), file),
            // The old file is better than none. It is tried again with the next lines.
            Err(error) if self.said != asked => {
                self.said = asked;
                warn!(%error, "audit.file could not be opened anew; lines go to the file that was open before, until it can");
            }
            Err(_said) => {}
        }
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
