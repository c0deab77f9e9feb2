//! The labels of a tenant's metrics, and their values.

use super::{Confirmation, Repeat};
use crate::{
    call::Share,
    session::SessionState,
    telemetry::metrics::{self, Label, Vocabulary},
};

/// Metrics of one tenant.
pub type TenantMetrics = metrics::TenantMetrics<TenantVocabulary>;

/// The labels of a tenant's metrics.
#[derive(Clone, Copy, Debug)]
pub struct TenantVocabulary;

/// The result of a sign-in that found the agent signed in by another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// The bridge has the agent.
    TakenBack,
    /// The other client keeps it.
    Refused,
}

/// The result of asking the gateway what became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBack {
    /// The change was made.
    Applied,
    /// It was not made.
    NotApplied,
    /// What the agent is doing does not show it.
    Unproven,
    /// The gateway has not said what the agent is doing.
    Failed,
}

impl ReadBack {
    /// The spelling in metrics, logs and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unproven => "unproven",
            Self::Failed => "failed",
        }
    }
}

impl Vocabulary for TenantVocabulary {
    type Share = Share;
    type SessionState = SessionState;
    type Confirmation = Confirmation;
    type TakeOver = TakeOver;
    type ReadBack = ReadBack;
    type Repeat = Repeat;

    const SHARES: &'static [Share] = &Share::ALL;
    const TAKE_OVERS: &'static [TakeOver] = &[TakeOver::TakenBack, TakeOver::Refused];
}

impl Label for Share {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Label for SessionState {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Label for Confirmation {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Label for ReadBack {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Label for Repeat {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Label for TakeOver {
    fn as_str(self) -> &'static str {
        match self {
            Self::TakenBack => "taken_back",
            Self::Refused => "refused",
        }
    }
}
