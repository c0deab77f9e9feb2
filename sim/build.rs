//! Finds the commit that is built, for `ccgateway-sim --version`.

use std::{env, path::Path, process::Command};

/// The variable that names the commit if there is no repository, as in the Dockerfile's build.
const COMMIT: &str = "CCGW_COMMIT";

/// How many digits of the commit are shown.
const DIGITS: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed={COMMIT}");
    let commit = from_git().or_else(|| env::var(COMMIT).ok()).filter(|commit| is_commit(commit));
    let shown = commit.and_then(|commit| Some(format!(" ({})", commit.get(..DIGITS)?)));
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo:rustc-env=CCGATEWAY_SIM_VERSION={version}{}", shown.unwrap_or_default());
}

/// The commit of the repository that this crate is the folder `sim` of. A repository that merely
/// contains the sources, such as one around an unpacked archive, does not count.
fn from_git() -> Option<String> {
    let arguments = ["rev-parse", "--show-toplevel", "--git-path", "logs/HEAD", "--verify", "HEAD"];
    let done = Command::new("git").args(arguments).output().ok()?;
    let printed = String::from_utf8(done.stdout).ok().filter(|_| done.status.success())?;
    let mut lines = printed.lines();
    let (root, log, commit) = (lines.next()?, lines.next()?, lines.next()?);
    let here = env::current_dir().ok()?.canonicalize().ok()?;
    if Path::new(root).join("sim").canonicalize().ok()? != here {
        return None;
    }
    // Every commit adds a line to the log. Cargo treats a missing file as changed, so it is named only
    // if it exists.
    if Path::new(log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    Some(commit.to_owned())
}

/// Whether a text is a commit id. The Dockerfile's default, "unknown", is not.
fn is_commit(text: &str) -> bool {
    (DIGITS..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
