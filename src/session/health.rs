//! The state of a store outside this process.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::Doubt;

/// What a store refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// It refuses reads, and perhaps writes too.
    Reads,
    /// It refuses writes. It may still be read.
    Writes,
}

/// An error that a store has answered. Never contains what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRefusal {
    /// What it refuses.
    pub scope: Scope,
    /// Its error code, with its own text if that cannot repeat what was sent.
    pub answer: String,
    /// What the operator of the store or of the bridge can do about it.
    pub advice: &'static str,
}

/// The state of a store, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It has not been asked yet.
    Unused,
    /// It did as it was asked.
    Up,
    /// It answers, but refuses something.
    Refusing(StoreRefusal),
    /// It did not answer, or could not be reached or written, for this reason.
    Down(String),
}

/// The last time that a store was away: it did not answer, or took no writes for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOutage {
    /// When this process last knew it to be away. It answers since then, unless it is away still.
    pub until: Instant,
    /// For how long it had been away then. It counts from the last answer before.
    pub length: Duration,
    /// How long an attempt to ask it may take: another process may have begun one just before the store was back.
    pub attempt: Duration,
}

/// A store for the admin port and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreView {
    /// The kind of store, as programs read it.
    pub kind: &'static str,
    /// Its state.
    pub state: StoreState,
    /// How many requests, or attempts to write, have failed since the start.
    pub failures: u64,
    /// The length of the file in bytes, if the store is a file.
    pub file_bytes: Option<u64>,
    /// What was found in it and was not believed, by the reason: how often since the start.
    pub disbelieved: Vec<(Doubt, u64)>,
}

impl Scope {
    /// The name of the state on the admin port and in metrics.
    fn state(self) -> &'static str {
        match self {
            Self::Reads => "refuses_reads",
            Self::Writes => "refuses_writes",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
        })
    }
}

impl fmt::Display for StoreRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)
    }
}

impl StoreState {
    /// All values of [`as_str`](Self::as_str).
    pub const NAMES: [&'static str; 5] =
        ["unused", "up", "refuses_reads", "refuses_writes", "down"];

    /// The name on the admin port and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Up => "up",
            Self::Refusing(refusal) => refusal.scope.state(),
            Self::Down(_) => "down",
        }
    }

    /// What is wrong, and what can be done about it.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Unused | Self::Up => None,
            Self::Refusing(refusal) => Some(format!("{refusal}; {}", refusal.advice)),
            Self::Down(error) => Some(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_one_of_the_names() {
        let refusal = |scope| StoreRefusal { scope, answer: String::new(), advice: "" };
        let states = [
            StoreState::Unused,
            StoreState::Up,
            StoreState::Refusing(refusal(Scope::Reads)),
            StoreState::Refusing(refusal(Scope::Writes)),
            StoreState::Down(String::new()),
        ];
        assert_eq!(states.each_ref().map(StoreState::as_str), StoreState::NAMES);
    }
}
