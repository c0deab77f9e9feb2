//! An agent as seen from outside the gateway.

use super::{agent::AgentState, session::Session, state_machine::StateMachine};

/// An agent as seen from outside the gateway.
#[derive(Clone, Debug)]
// Facts that are independent of each other.
#[expect(clippy::struct_excessive_bools)]
pub struct AgentView {
    /// What the agent is doing.
    pub state: AgentState,
    /// Whether a busy request waits for the end of a call or of after-call work.
    pub pending_busy: bool,
    /// Why the agent is busy; `None`: not busy, or no reason given.
    pub busy_reason: Option<u16>,
    /// Whether there is a session.
    pub signed_in: bool,
    /// The session's newest Guid.
    pub guid: Option<String>,
    /// Whether calls are answered automatically.
    pub auto_answer: bool,
    /// Whether the agent is idle after a call, and not in after-call work.
    pub auto_idle: bool,
    /// Whether the agent takes inbound calls.
    pub takes_calls: bool,
    /// The custom state, if one is set.
    pub custom_state: Option<u16>,
    /// The skill queues that the agent is signed in to; without any, no call reaches it.
    pub skills: Vec<u32>,
    /// How many events wait for a poll.
    pub events_waiting: usize,
}

// === impl AgentView ===

impl AgentView {
    pub(super) fn new(
        state_machine: &StateMachine,
        session: Option<&Session>,
        events_waiting: usize,
    ) -> Self {
        let busy = state_machine.state == AgentState::Busy && state_machine.busy_reason != 0;
        let settings = session.map(|s| &s.settings);
        Self {
            state: state_machine.shown(),
            pending_busy: state_machine.busy_pends(),
            busy_reason: busy.then_some(state_machine.busy_reason),
            signed_in: session.is_some(),
            guid: session.map(|s| s.current().to_owned()),
            auto_answer: settings.is_some_and(|s| s.auto_answer),
            auto_idle: settings.is_some_and(|s| s.auto_idle),
            takes_calls: settings.is_some_and(|s| s.takes_calls),
            custom_state: settings.and_then(|s| s.custom_state),
            skills: settings.map(|s| s.skills.clone()).unwrap_or_default(),
            events_waiting,
        }
    }
}
