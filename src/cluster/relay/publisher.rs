//! Tells this replica's events to all replicas, each after the one before.

use std::collections::VecDeque;

use tokio::time::{Instant, sleep};

use super::{
    PAUSE,
    queue::{Queue, Queued},
};
use crate::{cluster::RedisEvents, event::Events, id::AgentId};

/// Stores events, or tells them to this replica's own watchers.
pub(super) struct Publisher<'a> {
    stream: &'a RedisEvents,
    events: &'a Events,
    /// The events that the store has taken and that have not come back yet, each with how many were sent before.
    unheard: VecDeque<(u64, Queued)>,
    /// The agent of an event that the store has not taken. All replicas have to be told that it is missing, before they get
    /// later ones.
    owed: Option<AgentId>,
}

/// How many events may be on their way back. There are few, unless messages do not reach this replica.
const UNHEARD_MAX: usize = 128;

impl<'a> Publisher<'a> {
    pub(super) fn new(stream: &'a RedisEvents, events: &'a Events) -> Self {
        Self { stream, events, unheard: VecDeque::new(), owed: None }
    }

    pub(super) async fn run(mut self, queue: &Queue) {
        loop {
            let queued = tokio::select! {
                biased;
                queued = queue.pop() => Some(queued),
                () = sleep(PAUSE), if self.owed.is_some() => None,
            };
            if let Some(agent) = self.owed {
                let told = self.stream.add(agent, None, Instant::now(), self.events.newest());
                self.owed = told.await.err().map(|_unavailable| agent);
            }
            if let Some(queued) = queued {
                self.publish(queued).await;
            }
        }
    }

    async fn publish(&mut self, queued: Queued) {
        if self.owed.is_none() {
            let Queued { agent, what, fetched } = queued.clone();
            if let Ok(sent) = self.stream.add(agent, what, fetched, self.events.newest()).await {
                self.unheard.push_back((sent, queued));
                self.make_room();
                return;
            }
        }
        // The store has not taken it, or takes it later, for the others alone. It must not be told before those that are on
        // their way.
        while let Some((sent, unheard)) = self.unheard.pop_front() {
            self.tell_unheard(sent, unheard);
        }
        self.owed = Some(queued.agent);
        self.tell_here(queued);
    }

    fn make_room(&mut self) {
        let heard = self.stream.heard();
        while self.unheard.front().is_some_and(|(sent, _)| *sent < heard) {
            self.unheard.pop_front();
        }
        if self.unheard.len() > UNHEARD_MAX
            && let Some((sent, unheard)) = self.unheard.pop_front()
        {
            self.tell_unheard(sent, unheard);
        }
    }

    fn tell_unheard(&self, sent: u64, unheard: Queued) {
        if self.stream.is_left(sent) {
            self.tell_here(unheard);
        }
    }

    fn tell_here(&self, Queued { agent, what, fetched }: Queued) {
        match what {
            Some(what) => self.events.publish_here(agent, what, fetched),
            None => self.events.tell_gap(self.events.newest()),
        }
    }
}
