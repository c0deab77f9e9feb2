//! Disaster recovery: agents are switched over to another site.

use serde::Deserialize;
use tokio::time::Instant;

use super::retcode::Retcode;

/// How a switch-over ends for an agent (`cec_07_1430`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// The session goes on with its Guids.
    #[default]
    Complete,
    /// The session is lost; its Guids get 105-005: waiting for the recovery took too long.
    TimedOut,
    /// The session is lost; its Guids get 105-006: they do not match after the recovery.
    GuidMismatch,
    /// The session is lost; its Guids get 105-007: recovery is switched off.
    SwitchedOff,
}

/// A switch-over in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct SwitchOver {
    pub(super) ends: Instant,
    pub(super) recovery: Recovery,
}

// === impl Recovery ===

impl Recovery {
    /// The retcode that tells the agent to sign in again; `None` if the session goes on.
    pub(super) fn code(self) -> Option<Retcode> {
        match self {
            Self::Complete => None,
            Self::TimedOut => Some(Retcode::RecoveryTimedOut),
            Self::GuidMismatch => Some(Retcode::GuidMismatch),
            Self::SwitchedOff => Some(Retcode::RecoverySwitchedOff),
        }
    }
}
