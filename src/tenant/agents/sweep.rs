use std::collections::VecDeque;

use crate::id::AgentId;

/// Agents of whom something is known that ends with time, in the order in which they are looked at.
///
/// Whoever adds one looks at two, so what has ended goes twice as fast as new things come, and nobody
/// has to go through all agents at once.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    queue: VecDeque<(AgentId, Ticket)>,
    last: u64,
}

/// Tells an agent's entry from an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// Looked at for each one that is added.
const LOOKS: usize = 2;

impl Sweep {
    /// Adds an agent, and gives those that are to be looked at now. Each of them has to come back by
    /// [`Sweep::keep`] unless there is nothing left that ends with time.
    pub(super) fn add(&mut self, agent: AgentId) -> (Ticket, Vec<(AgentId, Ticket)>) {
        let due = self.queue.drain(..LOOKS.min(self.queue.len())).collect();
        self.last += 1;
        let ticket = Ticket(self.last);
        self.queue.push_back((agent, ticket));
        (ticket, due)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn keep(&mut self, agent: AgentId, ticket: Ticket) {
        self.queue.push_back((agent, ticket));
    }
}
