//! What is known of what an agent is doing, from the gateway's own answers.

use tokio::time::Instant;

use crate::state::AgentState;

/// What an agent was doing when the gateway last said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) struct Activity {
    pub(in crate::tenant) state: AgentState,
    /// The number of the tenant's newest event at that time. Later events may say otherwise.
    pub(in crate::tenant) newest: u64,
    /// That time.
    pub(in crate::tenant) at: Instant,
    /// The session that the agent had, by its [`made`](crate::session::Session::made).
    pub(in crate::tenant) session: Option<u64>,
}

/// What a call has learned about its agent's activity.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tenant) enum Learned {
    /// Nothing: what was known before still holds.
    #[default]
    Nothing,
    /// The agent may be doing anything.
    Unclear,
    /// What the gateway has said.
    Said(Activity),
}

impl Learned {
    /// What is known after the call, if this was known before it.
    pub(super) fn after(self, before: Option<Activity>) -> Option<Activity> {
        match self {
            Self::Nothing => before,
            Self::Unclear => None,
            Self::Said(activity) => Some(activity),
        }
    }
}
