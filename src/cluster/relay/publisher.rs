//! Tells this replica's events to all replicas, each after the one before.

use std::{collections::VecDeque, future::pending, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    PAUSE,
    queue::{Queue, Queued},
};
use crate::{cluster::RedisEvents, event::Events, id::AgentId};

/// Stores events, or tells them to this replica's own watchers.
pub(super) struct Publisher<'a> {
    stream: &'a RedisEvents,
    events: &'a Events,
    /// The events that the store has taken and that have not come back yet.
    unheard: VecDeque<Unheard>,
    /// When the store was last asked for them.
    looked: Instant,
    /// The agent of an event that the store has not taken. All replicas have to be told that it is missing, before they get
    /// later ones.
    owed: Option<AgentId>,
}

/// An event that the store has taken.
struct Unheard {
    /// How many were sent before.
    sent: u64,
    /// When the store has taken it.
    at: Instant,
    /// How often the store was asked for it.
    looks: u32,
    queued: Queued,
}

/// When an event should have come back. If it has not, its message was lost, or the event itself.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// How often the store is asked for an event that has not come back.
const LOOKS_MAX: u32 = 3;
/// How many events may be on their way back. There are few, unless messages do not reach this replica.
const UNHEARD_MAX: usize = 128;

impl<'a> Publisher<'a> {
    pub(super) fn new(stream: &'a RedisEvents, events: &'a Events) -> Self {
        Self { stream, events, unheard: VecDeque::new(), looked: Instant::now(), owed: None }
    }

    pub(super) async fn run(mut self, queue: &Queue) {
        let mut taken = 0;
        loop {
            let queued = tokio::select! {
                biased;
                () = self.one_missing() => {
                    self.look();
                    continue;
                }
                queued = queue.pop() => Some(queued),
                () = sleep(PAUSE), if self.owed.is_some() => None,
            };
            if let Some(agent) = self.owed {
                let told = self.stream.add(agent, None, Instant::now(), self.events.newest());
                self.owed = told.await.err().map(|_unavailable| agent);
            }
            if let Some(queued) = queued {
                self.publish(queued).await;
                taken += 1;
            }
            if self.owed.is_none() {
                queue.note_told(taken);
            }
        }
    }

    /// Waits until an event should have come back.
    async fn one_missing(&self) {
        match self.unheard.front() {
            Some(Unheard { at, .. }) => sleep_until(self.looked.max(*at) + BACK_WITHIN).await,
            None => pending().await,
        }
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        self.drop_heard();
        let Some(first) = self.unheard.front_mut() else { return };
        first.looks += 1;
        if first.looks <= LOOKS_MAX {
            self.stream.look_again();
        } else {
            // The store has lost it, or cannot be read here.
            self.owed = Some(first.queued.agent);
            self.tell_all_unheard();
        }
    }

    async fn publish(&mut self, queued: Queued) {
        if self.owed.is_none() {
            let Queued { agent, what, fetched } = queued.clone();
            if let Ok(sent) = self.stream.add(agent, what, fetched, self.events.newest()).await {
                self.unheard.push_back(Unheard { sent, at: Instant::now(), looks: 0, queued });
                self.make_room();
                return;
            }
        }
        // The store has not taken it, or takes it later, for the others alone. It must not be told before those that are on
        // their way.
        self.tell_all_unheard();
        self.owed = Some(queued.agent);
        self.tell_here(queued);
    }

    fn make_room(&mut self) {
        self.drop_heard();
        if self.unheard.len() > UNHEARD_MAX
            && let Some(unheard) = self.unheard.pop_front()
        {
            self.tell_unheard(unheard);
        }
    }

    fn drop_heard(&mut self) {
        let heard = self.stream.heard();
        while self.unheard.front().is_some_and(|unheard| unheard.sent < heard) {
            self.unheard.pop_front();
        }
    }

    fn tell_all_unheard(&mut self) {
        while let Some(unheard) = self.unheard.pop_front() {
            self.tell_unheard(unheard);
        }
    }

    fn tell_unheard(&self, Unheard { sent, queued, .. }: Unheard) {
        if self.stream.is_left(sent) {
            self.tell_here(queued);
        }
    }

    fn tell_here(&self, Queued { agent, what, fetched }: Queued) {
        match what {
            Some(what) => self.events.publish_here(agent, what, fetched),
            None => self.events.tell_gap(self.events.newest()),
        }
    }
}
