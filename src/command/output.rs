//! What commands print to stdout, where their results go.
//!
//! A reader who closes the pipe has read enough. After any other error, such as a full disk, a part of
//! the result is lost, and the command must not end as if all were well.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _, stdout},
    process::ExitCode,
    sync::OnceLock,
};

use super::fail;

/// The first error that lost a part of the result.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line.
pub(super) fn say(line: impl Display) {
    let _goes_on = say_on(line);
}

/// Prints a line. Returns whether stdout takes another one.
pub(super) fn say_on(line: impl Display) -> bool {
    let result = writeln!(stdout(), "{line}");
    let goes_on = result.is_ok();
    written(result);
    goes_on
}

/// Prints text or other bytes as they are.
pub(super) fn print(bytes: &[u8]) {
    written(stdout().write_all(bytes));
}

/// Notes whether something could be written to stdout.
pub(super) fn written(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Those that come later have the same cause.
        let _first = LOST.set(error);
    }
}

/// Whether a part of the result has been lost.
#[cfg(feature = "simulator")]
pub(super) fn is_lost() -> bool {
    LOST.get().is_some()
}

/// The exit code of a command that ends with `code`: `instead` where that is a success whose result has
/// been lost.
pub(super) fn end(code: ExitCode, instead: u8) -> ExitCode {
    // What has no line break at its end is written only now.
    written(stdout().flush());
    let Some(error) = LOST.get() else { return code };
    let lost = fail(instead, format_args!("the result could not be written to stdout: {error}"));
    if code == ExitCode::SUCCESS { lost } else { code }
}
