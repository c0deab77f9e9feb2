//! A bridge as a process of its own, and the memory that it takes.

mod running;

use std::{
    error::Error,
    io::{self, BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{ChildStderr, Command, Stdio},
    thread,
};

use ccgateway_bridge::client::{self, Channel};
use http::Uri;
use serde_json::Value;

pub(crate) use self::running::Running;

type Failure = Box<dyn Error + Send + Sync>;

/// The bridge's program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ccgateway-bridge");

/// A running bridge, and how it is reached.
pub(crate) struct Process {
    pub(crate) running: Running,
    pub(crate) origin: Uri,
    #[allow(dead_code, reason = "not every benchmark calls it by gRPC's library")]
    pub(crate) channel: Channel,
}

impl Process {
    /// Starts a bridge with this configuration file, and waits until it serves.
    #[allow(dead_code, reason = "not every benchmark starts it as it is")]
    pub(crate) fn start(file: &Path) -> Result<Self, Failure> {
        Self::by(Command::new(PROGRAM), file)
    }

    /// The same by a command that ends with the bridge's program.
    pub(crate) fn by(mut command: Command, file: &Path) -> Result<Self, Failure> {
        command.args(["--log-format", "json", "--config"]).arg(file);
        let mut running = Running::start(command.stdin(Stdio::null()).stderr(Stdio::piped()))?;
        let addr = running.errors().and_then(serves_at).ok_or("the bridge did not start")?;
        let origin = format!("http://{addr}").parse()?;
        Ok(Self { running, origin, channel: client::channel() })
    }

    /// Where it serves.
    #[allow(dead_code, reason = "gRPC's library goes by the origin")]
    pub(crate) fn addr(&self) -> Result<SocketAddr, Failure> {
        Ok(self.origin.authority().ok_or("no address")?.as_str().parse()?)
    }
}

/// Where a bridge serves, which it says in its log; the rest of that is read and dropped.
fn serves_at(errors: ChildStderr) -> Option<String> {
    let mut errors = BufReader::new(errors);
    let mut lines = errors.by_ref().lines().map_while(Result::ok);
    let addr = lines.find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line.get("grpc.addr")?.as_str().map(str::to_owned)
    })?;
    thread::spawn(move || io::copy(&mut errors, &mut io::sink()));
    Some(addr)
}
