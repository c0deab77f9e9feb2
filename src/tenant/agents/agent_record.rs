//! The record of one agent.

use std::num::NonZeroU64;

use tokio::time::Instant;

use super::{
    activity::Activity, rejected_passwords::CredentialPart, session_status::SessionPart,
    take_backs::Losses, turn_queue::Queue,
};

/// What is known of one agent. A part that is not in use takes no memory of its own.
#[derive(Debug, Default)]
pub(super) struct AgentRecord {
    pub(super) queue: Queue,
    pub(super) session: SessionPart,
    pub(super) credentials: Option<Box<CredentialPart>>,
    pub(super) losses: Option<Box<Losses>>,
    pub(super) activity: Option<Activity>,
    /// When the gateway was asked last that has taken a session of the agent for good. Alone it keeps no record.
    pub(super) good_at: Option<Instant>,
    /// The version of the session for which the gateway allows no polls. Alone it keeps no record: where the record is gone, one
    /// more poll shows it again.
    pub(super) unpollable: Option<NonZeroU64>,
}

impl AgentRecord {
    /// Whether no part is in use, so that the record can be removed.
    pub(super) fn is_unused(&self) -> bool {
        self.queue.is_empty()
            && self.session.is_unused()
            && self.credentials.is_none()
            && self.losses.is_none()
            && self.activity.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AgentId;

    /// Of each agent that is called there is one for as long as the tenant is served.
    #[test]
    fn a_record_of_which_little_is_in_use_takes_little_memory() {
        assert!(size_of::<(AgentId, AgentRecord)>() <= 120);
    }
}
