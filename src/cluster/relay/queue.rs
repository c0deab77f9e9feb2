//! The events that wait for the store.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{event::What, id::AgentId};

/// Events in their order, of bounded number and length.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// How many of them have been told.
    told: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Queued>,
    bytes: usize,
    /// How many have been added.
    added: u64,
}

/// An event that waits to be stored.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) agent: AgentId,
    /// `None`: here there was no room for events of this agent, and perhaps of others.
    pub(super) what: Option<What>,
    /// When it was fetched.
    pub(super) fetched: Instant,
}

/// How many events may wait, and about how many bytes.
const EVENTS_MAX: usize = 4096;
const BYTES_MAX: usize = 8 * 1024 * 1024;

impl Queue {
    /// Adds an event, if there is room for it. Otherwise whoever takes it from here finds that it is missing.
    pub(super) fn push(&self, agent: AgentId, what: What, fetched: Instant) {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + weight(Some(&what));
        let has_room = waiting.events.len() < EVENTS_MAX && bytes <= BYTES_MAX;
        if has_room {
            waiting.bytes = bytes;
            waiting.events.push_back(Queued { agent, what: Some(what), fetched });
        } else if waiting.events.back().is_some_and(|last| last.what.is_some()) {
            waiting.events.push_back(Queued { agent, what: None, fetched });
        } else {
            return;
        }
        waiting.added += 1;
        self.filled.notify_one();
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn pop(&self) -> Queued {
        loop {
            if let Some(queued) = self.take() {
                return queued;
            }
            self.filled.notified().await;
        }
    }

    /// Notes that the first `count` of all events have been told.
    pub(super) fn note_told(&self, count: u64) {
        self.told.send_replace(count);
    }

    /// Waits until all events that were added before have been told.
    pub(super) async fn told(&self) {
        let added = self.waiting().added;
        // The sender lives as long as the queue.
        let mut told = self.told.subscribe();
        let _told = told.wait_for(|told| *told >= added).await;
    }

    fn take(&self) -> Option<Queued> {
        let mut waiting = self.waiting();
        let queued = waiting.events.pop_front()?;
        waiting.bytes = waiting.bytes.saturating_sub(weight(queued.what.as_ref()));
        Some(queued)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(what: Option<&What>) -> usize {
    what.map_or(0, |what| size_of::<Queued>() + what.text_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::GatewayEvent, id::DEFAULT_AGENT_IDS};

    fn event(content: usize) -> What {
        let content = Some("x".repeat(content).into());
        let (kind, work_no) = ("a".into(), "".into());
        What::Gateway(GatewayEvent { kind, work_no, content, generated_at: None })
    }

    /// How many events there are up to each gap, and after the last one.
    fn parts(queue: &Queue) -> Vec<usize> {
        let mut parts = vec![0];
        while let Some(queued) = queue.take() {
            match (queued.what, parts.last_mut()) {
                (Some(_), Some(part)) => *part += 1,
                _ => parts.push(0),
            }
        }
        parts
    }

    #[test]
    fn what_does_not_fit_is_missing_once_behind_what_came_before_it() {
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        for (len, most) in [(0, EVENTS_MAX..=EVENTS_MAX), (1 << 16, 100..=128)] {
            let queue = Queue::default();
            for _ in 0..EVENTS_MAX + 10 {
                queue.push(agent, event(len), Instant::now());
            }
            assert!(queue.take().is_some());
            for _ in 0..10 {
                queue.push(agent, event(len), Instant::now());
            }
            let parts = parts(&queue);
            assert!(most.contains(&(parts[0] + 1)) && parts.len() <= 3, "{parts:?}");
            assert_eq!(
                (parts[1..].iter().sum::<usize>(), queue.waiting().bytes),
                (usize::from(len > 0), 0)
            );
        }
    }
}
