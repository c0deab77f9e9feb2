//! The destination of log lines. Counts the lines that could not be written.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Writes log lines and counts those that cannot be written, for example because a device is full.
#[derive(Debug)]
pub(in crate::telemetry) struct Lines<W> {
    to: W,
    unwritten: Unwritten,
}

/// How many lines could not be written.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Unwritten(Arc<AtomicU64>);

impl<W: Write> Lines<W> {
    pub(in crate::telemetry) fn to(to: W) -> (Self, Unwritten) {
        let unwritten = Unwritten::default();
        (Self { to, unwritten: unwritten.clone() }, unwritten)
    }
}

impl Unwritten {
    pub(in crate::telemetry) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more line.
    pub(in crate::telemetry) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    /// Writes a whole line, and counts it if that fails.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.to.write_all(line).inspect_err(|_| self.unwritten.note())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
