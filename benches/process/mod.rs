//! A bridge as a process of its own, and the memory that it takes.

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
};

use ccgateway_bridge::client::{self, Channel};
use http::Uri;
use serde_json::Value;

type Failure = Box<dyn Error + Send + Sync>;

/// A running bridge, and how it is reached.
pub(crate) struct Process {
    child: Child,
    pub(crate) origin: Uri,
    pub(crate) channel: Channel,
}

impl Process {
    /// Starts a bridge with this configuration file, and waits until it serves.
    pub(crate) fn start(file: &Path) -> Result<Self, Failure> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ccgateway-bridge"))
            .args(["--log-format", "json", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let addr = child.stderr.take().and_then(serves_at).ok_or("the bridge did not start")?;
        let origin = format!("http://{addr}").parse()?;
        Ok(Self { child, origin, channel: client::channel() })
    }

    /// Resident memory in bytes, as the kernel tells it. Linux only.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Its open files and connections. Linux only.
    #[allow(dead_code, reason = "not every benchmark counts them")]
    pub(crate) fn descriptors(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

/// Where a bridge serves, which it says in its log; the rest of that is read and dropped.
fn serves_at(errors: ChildStderr) -> Option<String> {
    let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
    let addr = lines.by_ref().find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line.get("grpc.addr")?.as_str().map(str::to_owned)
    })?;
    thread::spawn(move || lines.for_each(drop));
    Some(addr)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
