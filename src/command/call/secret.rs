//! Passwords and Guids come from files, terminals and pipes, never from a command line, which
//! everybody on the machine can see.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read},
    path::Path,
};

use secrecy::SecretString;

use super::Mistake;

/// Far more than the bridge takes, and a bound where the file or the pipe has no end.
const MAX_BYTES: u64 = 4 * 1024;

/// The first line of the file that `flag` names.
pub(super) fn from_file(flag: &str, file: &Path) -> Result<SecretString, Mistake> {
    let line = File::open(file).and_then(first_line);
    line.map_err(|error| Mistake(format!("{flag} {}: {error}", file.display())))
}

/// Asks without showing what is typed; where standard input is a pipe, reads its first line.
pub(super) fn ask(flag: &str, question: &str) -> Result<SecretString, Mistake> {
    let line = if io::stdin().is_terminal() {
        rpassword::prompt_password(question).map(SecretString::from)
    } else {
        first_line(io::stdin().lock())
    };
    line.map_err(|error| Mistake(format!("{flag}: {error}")))
}

/// Editors and `echo` end a line; a password or a Guid has no second one.
fn first_line(from: impl Read) -> io::Result<SecretString> {
    let mut line = String::new();
    BufReader::new(from.take(MAX_BYTES)).read_line(&mut line)?;
    Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])))
}
