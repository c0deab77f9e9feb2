//! A program that runs for as long as somebody has it, and what it takes. Linux only.

#![allow(dead_code, reason = "not every benchmark asks for all of it")]

use std::{
    fs, io,
    path::PathBuf,
    process::{Child, ChildStderr, Command},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;

/// A running program.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// What it writes to stderr, where that is a pipe that nobody has yet.
    pub(crate) fn errors(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Resident memory in bytes, as the kernel tells it.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(self.of_kernel("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Its open files and connections.
    pub(crate) fn descriptors(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(self.of_kernel("fd"))?.count())
    }

    /// How long the threads that it has now have been running on a processor.
    pub(crate) fn busy(&self) -> Result<Duration, Failure> {
        let mut busy = Duration::ZERO;
        for thread in fs::read_dir(self.of_kernel("task"))? {
            // One that ends meanwhile has nothing to tell.
            let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok());
            busy += nanos.map(Duration::from_nanos).unwrap_or_default();
        }
        Ok(busy)
    }

    /// Has it end as SIGTERM does, and waits for that.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }

    fn of_kernel(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0.id()).into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
