//! How a store is doing that is not in this process.

use std::fmt;

/// What a store refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To be asked; perhaps to be written to as well.
    Reads,
    /// To be written to; it may still be read.
    Writes,
}

/// A store has answered, and said no. Holds nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRefusal {
    /// What it refuses.
    pub scope: Scope,
    /// In its own words where those cannot repeat what was sent.
    pub answer: String,
    /// What whoever runs the store or the bridge can do about it.
    pub advice: &'static str,
}

/// How a store is doing, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Nothing has been asked yet.
    Unused,
    /// It did as it was asked.
    Up,
    /// It answers, and does not do as it is asked.
    Refusing(StoreRefusal),
    /// It did not answer, or could not be reached or written; with why.
    Down(String),
}

/// What there is to tell of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreView {
    /// What it is: one word for programs.
    pub kind: &'static str,
    /// How it is doing.
    pub state: StoreState,
    /// Requests, or attempts to write, that failed since the start.
    pub failures: u64,
    /// The length of the file, if it is one of this process's own.
    pub file_bytes: Option<u64>,
}

impl Scope {
    /// As the admin port and the metrics spell the state.
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
    /// All that [`as_str`](Self::as_str) gives.
    pub const NAMES: [&'static str; 5] =
        ["unused", "up", "refuses_reads", "refuses_writes", "down"];

    /// As the admin port and the metrics spell it.
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
