//! Why a keeper ends, and what that means for the session.

use crate::session::SessionState;

/// Why a keeper ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Signed out, or forgotten.
    NotOurs,
    /// It was ended by a sign-out whose answer was lost.
    SignedOut,
    /// Outside of the tenant's agent ids, since these have changed.
    NotOfTenant,
    /// The gateway allows no polls for one agent (000-001), and Guids are static, so there is
    /// nothing to renew.
    PollsDisabled,
    /// Replaced by one that its owner keeps.
    Registered,
    /// The password was rejected, or there is none.
    NoCredentials,
    /// It could not be made anew in time.
    GaveUp,
    /// It was lost again and again, mostly because another client signs the agent in.
    TakenOver,
    /// Another replica keeps the session from now on.
    HandedOver,
    /// The poll of its node keeps it from now on.
    Joined,
    /// It was lost while the store did not answer, so another replica may have replaced it.
    Unclear,
    /// It was lost while the store was away again and again, so others may never have told it what they did.
    StoreUnsteady,
}

impl End {
    /// The session's status after this end; `None` if another replica keeps it.
    pub(super) fn state(self) -> Option<SessionState> {
        match self {
            Self::HandedOver | Self::Joined => None,
            Self::NotOurs | Self::SignedOut => Some(SessionState::Gone),
            Self::PollsDisabled | Self::NotOfTenant => Some(SessionState::Unkept),
            Self::Registered => Some(SessionState::Registered),
            Self::NoCredentials
            | Self::GaveUp
            | Self::TakenOver
            | Self::Unclear
            | Self::StoreUnsteady => Some(SessionState::Lost),
        }
    }

    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::NotOurs => "signed out",
            Self::SignedOut => "signed out, as it turns out",
            Self::Registered => "handed in by its owner",
            Self::NotOfTenant => "its id is outside of the tenant's agent_ids now",
            Self::PollsDisabled => "the gateway allows no polls for one agent (000-001)",
            Self::NoCredentials => "there is no password that the gateway accepts",
            Self::TakenOver => "it was lost again and again, mostly to another client",
            Self::GaveUp => "it could not be made anew in time",
            Self::HandedOver => "another replica goes on",
            Self::Joined => "the poll of its node goes on",
            Self::Unclear => {
                "it was lost while the store cannot be asked, so another replica may have it; it is \
                 made anew when the store answers, or by the agent's next call"
            }
            Self::StoreUnsteady => {
                "the store was away again and again, so another replica may have signed the agent out \
                 without having told it; whoever renews the lease tries again, and so does the \
                 agent's next call"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_keeping_has_a_cause_of_its_own() {
        let ends = [
            End::NotOurs,
            End::SignedOut,
            End::Registered,
            End::NotOfTenant,
            End::PollsDisabled,
            End::NoCredentials,
            End::TakenOver,
            End::GaveUp,
            End::HandedOver,
            End::Joined,
            End::Unclear,
            End::StoreUnsteady,
        ];
        let causes: std::collections::BTreeSet<_> = ends.iter().map(|end| end.cause()).collect();
        assert_eq!(causes.len(), ends.len());
        assert!(!causes.contains(""));
    }
}
