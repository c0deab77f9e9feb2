//! The labels of a tenant's metrics, and their values.

use super::Confirmation;
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

impl Vocabulary for TenantVocabulary {
    type Share = Share;
    type SessionState = SessionState;
    type Confirmation = Confirmation;
    type TakeOver = TakeOver;

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

impl Label for TakeOver {
    fn as_str(self) -> &'static str {
        match self {
            Self::TakenBack => "taken_back",
            Self::Refused => "refused",
        }
    }
}
