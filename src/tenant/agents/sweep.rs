//! Forgets what has ended, without going through all agents.

use std::collections::VecDeque;

use crate::id::AgentId;

/// Agents of whom something is known that ends with time, in the order in which they are looked at, so
/// that nobody has to go through all agents at once.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    queue: VecDeque<(AgentId, Ticket)>,
    last: u64,
}

/// Tells an agent's entry from an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is at an entry of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// What was known has ended, and its record is to forget it.
    Ended,
    /// It has not ended.
    Live,
    /// Something else is known by now, which has an entry of its own, or nothing.
    Stale,
}

impl Sweep {
    pub(super) fn add(&mut self, agent: AgentId) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.queue.push_back((agent, ticket));
        ticket
    }

    /// The next agent to look at.
    pub(super) fn pop(&mut self) -> Option<(AgentId, Ticket)> {
        self.queue.pop_front()
    }

    /// Puts the agent that was looked at back to the front, where what is behind it ends later.
    pub(super) fn put_back(&mut self, agent: AgentId, ticket: Ticket) {
        self.queue.push_front((agent, ticket));
    }

    /// Puts the agent that was looked at to the end, where there is no order.
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
