//! Lines that a thread of their own writes, so that nobody else waits for a reader or a disk.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, LockResult, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Takes lines for a thread that writes them. Dropping it ends the thread, as [`LineWriter::end`] does.
pub(super) struct LineWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Wakes the thread, and whoever waits for its end.
    changed: Condvar,
}

/// The lines that wait for the thread.
#[derive(Default)]
struct Waiting {
    /// Whole lines. The last block takes more of them as long as they fit.
    blocks: VecDeque<Vec<u8>>,
    /// How much memory the blocks take, with the one that is being written.
    bytes: usize,
    /// How many lines were lost.
    lost: u64,
    /// Whether the thread has to be woken for the next line.
    is_asleep: bool,
    /// Whether no more lines are taken.
    is_ending: bool,
    has_ended: bool,
}

/// How many bytes of lines may wait. A line has a few hundred bytes, but that of a batch in the audit log may
/// have a hundred kilobytes.
const WAITING_MAX: usize = 16 * 1024 * 1024;
/// Lines are written in blocks of at most this size; a longer line is a block of its own. The system never
/// mixes a write of up to 4096 bytes into a pipe with another process's write.
const BLOCK: usize = 4096;
/// How long the thread lets lines gather when it has written some. To wake it costs more than a line.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the end waits for lines that are still to be written.
const END_WAIT: Duration = Duration::from_secs(1);

// === impl LineWriter ===

impl LineWriter {
    /// Starts a thread of this name, which writes with `write`: that gets some whole lines and returns how many of
    /// them were lost.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub(super) fn start(
        name: &str,
        write: impl FnMut(&[u8]) -> u64 + Send + 'static,
    ) -> io::Result<Self> {
        Self::pausing(PAUSE, name, write)
    }

    fn pausing(
        pause: Duration,
        name: &str,
        write: impl FnMut(&[u8]) -> u64 + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        let run = move || of_thread.run(pause, write);
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self(shared))
    }

    /// Adds a line, with its line feed. Where there is no room for it, it is lost, and counted.
    pub(super) fn add(&self, line: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.is_ending || !waiting.add(line) {
            waiting.lost += 1;
            return;
        }
        let wakes = mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if wakes {
            self.0.changed.notify_all();
        }
    }

    /// How many lines were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.0.waiting().lost
    }

    /// Lets the thread write what waits, and end. Lines that come later are lost. The first call waits about a
    /// second for that at most.
    pub(super) fn end(&self) {
        self.end_with(&[]);
    }

    /// The same, with this line behind all others.
    pub(super) fn end_with(&self, last: &[u8]) {
        let mut waiting = self.0.waiting();
        if mem::replace(&mut waiting.is_ending, true) {
            return;
        }
        if !last.is_empty() && !waiting.add(last) {
            waiting.lost += 1;
        }
        self.0.changed.notify_all();
        let goes_on = |waiting: &mut Waiting| !waiting.has_ended;
        let _ended = self.0.changed.wait_timeout_while(waiting, END_WAIT, goes_on);
    }
}

impl Write for &LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWriter").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        unpoisoned(self.waiting.lock())
    }

    fn run(&self, pause: Duration, mut write: impl FnMut(&[u8]) -> u64) {
        let mut waiting = self.waiting();
        loop {
            waiting = unpoisoned(self.changed.wait_while(waiting, Waiting::sleeps));
            if waiting.blocks.is_empty() {
                break;
            }
            // What comes meanwhile waits until after the pause.
            for _ in 0..waiting.blocks.len() {
                let Some(block) = waiting.blocks.pop_front() else { break };
                drop(waiting);
                let (lost, size) = (write(&block), block.capacity());
                drop(block);
                waiting = self.waiting();
                waiting.bytes -= size;
                waiting.lost += lost;
            }
            let goes_on = |waiting: &mut Waiting| !waiting.is_ending;
            (waiting, _) = unpoisoned(self.changed.wait_timeout_while(waiting, pause, goes_on));
        }
        waiting.has_ended = true;
        self.changed.notify_all();
    }
}

// === impl Waiting ===

impl Waiting {
    /// Adds a line, if there is room for it.
    fn add(&mut self, line: &[u8]) -> bool {
        let has_room = |block: &&mut Vec<u8>| line.len() <= block.capacity() - block.len();
        if let Some(block) = self.blocks.back_mut().filter(has_room) {
            block.extend_from_slice(line);
            return true;
        }
        let size = line.len().max(BLOCK);
        if self.bytes + size > WAITING_MAX {
            return false;
        }
        let mut block = Vec::with_capacity(size);
        block.extend_from_slice(line);
        self.bytes += block.capacity();
        self.blocks.push_back(block);
        true
    }

    /// Whether the thread has nothing to do.
    fn sleeps(&mut self) -> bool {
        self.is_asleep = self.blocks.is_empty() && !self.is_ending;
        self.is_asleep
    }
}

/// Writes lines, as many at once as it can. Returns how many were lost: of an entry with line feeds in it, each
/// line counts. If `is_torn`, the output ends in the middle of a line. A line feed is written first, so that
/// the next line stands by itself.
pub(super) fn write_lines(to: &mut impl Write, is_torn: &mut bool, mut lines: &[u8]) -> u64 {
    let mut lost = 0;
    while !lines.is_empty() {
        let mut end_of_part: &[u8] = if *is_torn { b"\n" } else { b"" };
        let written = write_all(to, is_torn, &mut end_of_part)
            .and_then(|()| write_all(to, is_torn, &mut lines));
        if written.is_err() {
            lost += 1;
            // Those after it may be luckier.
            let line = lines.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            lines = lines.get(line.len()..).unwrap_or_default();
        }
    }
    lost
}

/// Writes bytes, and removes from them what was written.
fn write_all(to: &mut impl Write, is_torn: &mut bool, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                let (written, rest) = bytes.split_at(count.min(bytes.len()));
                *is_torn = !written.ends_with(b"\n");
                *bytes = rest;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
