//! Mistakes in a configuration, and where they are.

use std::{fmt, sync::Arc};

/// Where a value or a mistake comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file, and the line in it.
    File {
        /// The path, as it was given.
        name: Arc<str>,
        /// Counted from 1; `None` if something is missing, or the file as a whole is wrong.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment(Arc<str>),
    /// A command-line flag, as typed.
    Flag(Arc<str>),
    /// No source: something is missing, and no file was given.
    Nowhere,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// The dotted key, such as `tenants.acme.tls.ca_file`; empty if the source as a whole is wrong.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// Every mistake in a configuration; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// A mistake without its place and key; the [`Section`](super::reader::Section) adds them.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// How many mistakes are printed; the rest is only counted.
const LINES_MAX: usize = 100;

/// How many characters of a value are quoted.
const QUOTE_MAX: usize = 80;

impl Place {
    /// The same source without the line, for something that is missing in it.
    pub(super) fn whole(&self) -> Self {
        match self {
            Self::File { name, .. } => Self::File { name: name.clone(), line: None },
            other => other.clone(),
        }
    }
}

impl ConfigErrors {
    /// Sorts the mistakes by source, line and key, and removes duplicates.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort();
        errors.dedup();
        Self(errors)
    }

    /// The mistakes; those in a file are in the order of its lines.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// `text` in quotation marks, escaped to one line, and cut to [`QUOTE_MAX`] characters.
pub(super) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { name, line: None } | Self::Flag(name) => f.write_str(name),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{count} {mistakes} in the configuration:")?;
        for error in self.0.iter().take(LINES_MAX) {
            write!(f, "\n  {error}")?;
        }
        if count > LINES_MAX {
            write!(f, "\n  … and {} more", count - LINES_MAX)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for ConfigErrors {}
