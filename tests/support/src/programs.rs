//! Processes that tests start.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{hides_secrets, within};

/// A command without environment variables, whose output is piped. It is killed when the test ends.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end. Returns its exit code and what it printed.
pub async fn run(mut command: Command) -> (Option<i32>, String) {
    let done = within("the command's end", command.output()).await.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&done.stdout) + &text(&done.stderr);
    if Path::new(command.as_std().get_program()).ends_with("ccgateway-bridge") {
        hides_secrets("what the program printed", &printed);
    }
    (done.status.code(), printed)
}

/// Sends a process a signal, such as `-TERM`.
pub fn signal(pid: u32, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// The path of a Python with grpcio, which `scripts/test` installs and names in `CLIENT_PYTHON`.
pub fn python() -> PathBuf {
    let named = std::env::var_os("CLIENT_PYTHON").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = named.unwrap_or_else(|| root.join(".tools/client-python/bin/python3"));
    assert!(python.is_file(), "Python with grpcio is needed: run scripts/test, which installs it");
    python
}
