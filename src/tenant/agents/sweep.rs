//! A queue for removing entries that have ended, without going through all agents.

use std::collections::VecDeque;

use crate::id::AgentId;

/// Agents with an entry that ends at some time, in the order in which they are checked.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    queue: VecDeque<(AgentId, Ticket)>,
    last: u64,
}

/// Tells an agent's newest entry from older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The state of an entry that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has ended, and has to be removed from the agent's record.
    Ended,
    /// It has not ended.
    Live,
    /// The agent's record has a newer entry, or none.
    Stale,
}

impl Sweep {
    pub(super) fn add(&mut self, agent: AgentId) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.queue.push_back((agent, ticket));
        ticket
    }

    /// Takes the next agent to check.
    pub(super) fn pop(&mut self) -> Option<(AgentId, Ticket)> {
        self.queue.pop_front()
    }

    /// Puts an entry back to the front, for a queue in which later entries end later.
    pub(super) fn put_back(&mut self, agent: AgentId, ticket: Ticket) {
        self.queue.push_front((agent, ticket));
    }

    /// Puts an entry at the end, for a queue without an order of time.
    pub(super) fn rotate(&mut self, agent: AgentId, ticket: Ticket) {
        self.queue.push_back((agent, ticket));
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(AgentId, Ticket) -> bool) {
        self.queue.retain(|(agent, ticket)| is_kept(*agent, *ticket));
    }
}
