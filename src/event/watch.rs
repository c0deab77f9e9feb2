use std::{collections::HashSet, mem, sync::Arc};

use super::{
    Event,
    interest::Unread,
    log::{Events, Missed},
};
use crate::id::AgentId;

/// Reads a tenant's events in order, at the reader's own speed.
#[derive(Debug)]
pub struct Watch {
    events: Arc<Events>,
    agents: Agents,
    /// The number of the event that is read next.
    next: u64,
    /// Whether it has read nothing of this log yet.
    is_new: bool,
    unread: Arc<Unread>,
}

/// The agents whose events are read.
#[derive(Clone, Debug)]
pub enum Agents {
    /// All agents of the tenant.
    All,
    /// Only these agents.
    These(HashSet<AgentId>),
}

/// The events that a [`Watch`] returns at a time.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events that were dropped before the watch could read them. They came before those in `events`.
    pub missed: Option<Missed>,
    /// The next events, in order.
    pub events: Vec<Arc<Event>>,
}

/// The most events in a batch. It bounds a reader's memory. Events of other agents in between do not count: they are skipped
/// while the log is locked, at most all that are kept.
const BATCH_MAX: usize = 64;

impl Events {
    /// A watch of the events after number `after`; `None`: after the newest.
    pub fn watch(self: &Arc<Self>, agents: Agents, after: Option<u64>) -> Watch {
        let mut log = self.log();
        let next = after.unwrap_or(log.last).saturating_add(1);
        let unread = log.interests.add(&agents, next);
        drop(log);
        Watch { events: self.clone(), agents, next, is_new: true, unread }
    }
}

impl Watch {
    /// Waits for the next events. Dropping the future loses none.
    pub async fn more(&mut self) -> Batch {
        // A reader that always finds more must let its own time limit pass, and others run.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.unread.told().await;
        }
    }

    /// The number of the last event that was read or skipped. Events that the watch does not want are skipped when it
    /// [takes](Self::take) the next ones.
    pub fn position(&self) -> u64 {
        self.next - 1
    }

    /// The next events, if there are any now.
    pub fn take(&mut self) -> Option<Batch> {
        let log = self.events.log();
        let Some(unread) = self.unread.take() else {
            self.next = log.last + 1;
            return None;
        };
        // It wants nothing of what is before, so it has missed nothing where the log does not have that any more.
        self.next = self.next.max(unread);
        let missed = log.gap(self.next, mem::take(&mut self.is_new));
        let is_first =
            |gap: &u64| log.from(self.next).next().is_none_or(|event| event.sequence >= *gap);
        let gap = log.next_gap(self.next).filter(is_first);
        let of_gap = gap.map(|last| Missed { count: None, last });
        // Without an event in between, they are told as one.
        let missed = missed.filter(|missed| gap.is_none_or(|gap| gap <= missed.last)).or(of_gap);
        if let Some(missed) = missed {
            self.next = missed.last + 1;
        }
        let mut batch = Batch { missed, ..<_>::default() };
        let end = log.next_gap(self.next).unwrap_or(u64::MAX);
        for event in log.from(self.next) {
            if batch.events.len() == BATCH_MAX || event.sequence > end {
                break;
            }
            self.next = event.sequence + 1;
            if self.agents.contain(event.agent) {
                batch.events.push(event.clone());
            }
        }
        if self.next <= log.last {
            self.unread.tell(self.next);
        }
        (batch.missed.is_some() || !batch.events.is_empty()).then_some(batch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.events.log().interests.remove(&self.agents, &self.unread);
    }
}

impl Agents {
    fn contain(&self, agent: AgentId) -> bool {
        match self {
            Self::All => true,
            Self::These(agents) => agents.contains(&agent),
        }
    }
}

#[cfg(test)]
mod tests;
