//! Passwords come from files, terminals and pipes, never from a command line, which everybody on
//! the machine can see.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use secrecy::SecretString;

use super::Mistake;

pub(super) fn from_file(file: &Path) -> Result<SecretString, Mistake> {
    let text = fs::read_to_string(file);
    text.map(|text| first_line(&text))
        .map_err(|error| Mistake(format!("--password-file {}: {error}", file.display())))
}

/// Asks without showing what is typed; a pipe is not asked.
pub(super) fn ask(agent: &str) -> Result<SecretString, Mistake> {
    let text = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of agent {agent}: "))
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    };
    text.map(|text| first_line(&text))
        .map_err(|error| Mistake(format!("--password-stdin: {error}")))
}

/// Editors and `echo` end a line; a password has no second one.
fn first_line(text: &str) -> SecretString {
    SecretString::from(text.lines().next().unwrap_or_default())
}
