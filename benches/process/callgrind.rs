//! Instructions of a program, counted by callgrind: those in user mode, of all its threads.

use std::{
    env,
    error::Error,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    process::Command,
};

/// The program valgrind, if the environment names it.
pub(crate) fn valgrind() -> Option<OsString> {
    env::var_os("VALGRIND")
}

/// A command that runs a program, and writes into `counts` how many instructions that took when it ends.
pub(crate) fn command(valgrind: &OsStr, counts: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(counts);
    let mut command = Command::new(valgrind);
    command.args(["--quiet", "--tool=callgrind"]).arg(file).arg(program);
    command
}

/// How many there were.
pub(crate) fn counted(counts: &Path) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string(counts)?;
    let mut lines = text.lines().rev();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("callgrind has not counted to the end")?.trim().parse()?)
}
