//! The retcodes that are not known for certain.

use crate::retcode::Retcode;

/// The retcodes that are inferred or that the pages leave open.
#[derive(Clone, Debug)]
pub struct Codes {
    /// No Guid; 000-003 or 100-006 (`cec_07_0005`).
    pub guid_missing: String,
    /// A Guid the gateway has never issued; 000-003 or 100-006 (`cec_07_0005`).
    pub guid_unknown: String,
    /// A Guid that has expired, or whose session has ended; 000-003 (`cec_07_0580`).
    pub guid_expired: String,
    /// A Guid of a session that a forcible sign-in has ended; 000-003 by its meaning.
    pub guid_taken_over: String,
    /// A valid Guid of another agent; 000-003 or 100-006 (`cec_07_0005`).
    pub guid_foreign: String,
    /// The agent is not signed in; 100-006 (`cec_07_0580`).
    pub not_signed_in: String,
    /// An agent id that the gateway does not have; 100-004 by its meaning.
    pub agent_unknown: String,
    /// Saybusy while busy, without reason or prolong; 100-009 by its meaning.
    pub busy_again: String,
    /// Another state change that the state does not allow; 100-009 by its meaning.
    pub state_refused: String,
    /// Sayfree while idle; 100-009 by its meaning. `None`: accepted without an event.
    pub free_while_idle: Option<String>,
    /// An inspector's operation by an agent that is not an inspector; 900-002 by its meaning.
    pub no_inspector: String,
    /// An inspector's operation on an agent that is not signed in; the pages list 900-001 to 900-003
    /// (`cec_07_2405`).
    pub target_absent: String,
    /// An inspector's operation that the other agent's state does not allow; 900-005 by its
    /// meaning.
    pub target_state: String,
    /// Monitoring of an agent that the gateway does not have; 900-004 by its meaning.
    pub target_unknown: String,
    /// Sign-out while talking; 100-010 by its meaning.
    pub sign_out_while_talking: String,
    /// A call before another one was answered; 000-007 by its meaning.
    pub repeated_call: String,
    /// An interface that the gateway does not have, where an envelope says so; 000-002 by its
    /// meaning.
    pub no_interface: String,
    /// A sign-in before another one was answered; 100-021 by its meaning.
    pub repeated_sign_in: String,
}

// === impl Codes ===

impl Default for Codes {
    fn default() -> Self {
        Self {
            guid_missing: Retcode::NoRight.into(),
            guid_unknown: Retcode::NoRight.into(),
            guid_expired: Retcode::NoRight.into(),
            guid_taken_over: Retcode::NoRight.into(),
            guid_foreign: Retcode::NoRight.into(),
            not_signed_in: Retcode::NotSignedIn.into(),
            agent_unknown: Retcode::BadPassword.into(),
            busy_again: Retcode::StateRefused.into(),
            state_refused: Retcode::StateRefused.into(),
            free_while_idle: Some(Retcode::StateRefused.into()),
            no_inspector: Retcode::NoInspector.into(),
            target_absent: Retcode::TargetAbsent.into(),
            target_state: Retcode::TargetState.into(),
            target_unknown: Retcode::TargetUnknown.into(),
            sign_out_while_talking: Retcode::SignOutRefused.into(),
            repeated_call: Retcode::CallOpen.into(),
            no_interface: Retcode::BadParameter.into(),
            repeated_sign_in: Retcode::SignInOpen.into(),
        }
    }
}
