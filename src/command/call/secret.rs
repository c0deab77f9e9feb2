//! Reads passwords and Guids from files, terminals and pipes. They never come from the command line,
//! since everybody on the machine can see it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read},
    path::Path,
};

use secrecy::{SecretString, zeroize::Zeroizing};

use super::Mistake;

/// More than the bridge accepts. It is a bound for files and pipes that do not end, such as
/// `/dev/zero`.
const MAX_BYTES: u64 = 4 * 1024;

/// The first line of the file that `flag` names.
pub(super) fn from_file(flag: &str, file: &Path) -> Result<SecretString, Mistake> {
    let line = File::open(file).and_then(first_line);
    line.map_err(|error| Mistake(format!("{flag} {}: {error}", file.display())))
}

/// Asks without showing what is typed; if standard input is a pipe, reads its first line.
pub(super) fn ask(flag: &str, question: &str) -> Result<SecretString, Mistake> {
    let line = if io::stdin().is_terminal() {
        rpassword::prompt_password(question).map(SecretString::from)
    } else {
        first_line(io::stdin().lock())
    };
    line.map_err(|error| Mistake(format!("{flag}: {error}")))
}

/// The first line without its end, which editors and `echo` add.
fn first_line(from: impl Read) -> io::Result<SecretString> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(from.take(MAX_BYTES)).read_line(&mut line)?;
    Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])))
}
