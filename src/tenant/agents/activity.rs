//! What is known of what an agent is doing, from the gateway's own answers and events.

use std::num::NonZeroU64;

use tokio::time::Instant;

use crate::state::AgentState;

/// What an agent was doing when the gateway last said so, or when a change may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) struct Activity {
    /// `None`: it may have been doing anything.
    pub(in crate::tenant) state: Option<AgentState>,
    /// The number of the tenant's newest event at that time. Later events may say otherwise.
    pub(in crate::tenant) newest: u64,
    /// That time.
    pub(in crate::tenant) at: Instant,
    /// The session that the agent had, by its [`made`](crate::session::Session::made).
    pub(in crate::tenant) session: Option<NonZeroU64>,
}
