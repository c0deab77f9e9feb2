//! What is known of a part of the agents.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::{Entry, expiry::Expiry};
use crate::id::{AgentId, AgentMap};

/// What is known of a part of the agents. The counts and times beside the entries are kept up to date with each change, so
/// that neither a call nor a scrape goes through all entries.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) entries: AgentMap<Entry>,
    /// Entries that hold a session, expired ones too.
    pub(super) sessions: usize,
    /// Agents with a place reserved, each as often as it is.
    reserved: Vec<AgentId>,
    expiry: Expiry,
    places: Arc<Places>,
}

/// Places for sessions, of all parts.
#[derive(Debug)]
pub(super) struct Places {
    /// Agents with a session, or with a place reserved.
    taken: AtomicUsize,
    most: AtomicUsize,
}

// === impl Known ===

impl Known {
    pub(super) fn new(places: Arc<Places>) -> Self {
        let (entries, reserved) = (AgentMap::default(), Vec::new());
        Self { entries, sessions: 0, reserved, expiry: Expiry::new(), places }
    }

    /// Replaces what is known of the agent. For a session, the caller [takes the place](Self::take_place) first. A session that
    /// replaces another one keeps its place.
    pub(super) fn set(&mut self, agent: AgentId, entry: Entry) {
        self.change(agent, |known| {
            known.take_out(agent);
            known.expiry.add(agent, &entry);
            known.sessions += usize::from(entry.session.is_some());
            known.entries.insert(agent, entry);
        });
    }

    /// Forgets what is known of the agent.
    pub(super) fn forget(&mut self, agent: AgentId) {
        self.change(agent, |known| known.take_out(agent));
    }

    /// Takes a place, unless the agent has one. The caller then has to call [`set`](Self::set) or [`reserve`](Self::reserve)
    /// before it unlocks the part. `false`: there is none left.
    pub(super) fn take_place(&self, agent: AgentId) -> bool {
        self.has_place(agent) || self.places.take()
    }

    /// Whether the agent has a place, or there is one left.
    pub(super) fn has_room(&self, agent: AgentId) -> bool {
        self.has_place(agent) || self.places.are_left()
    }

    /// Reserves the place that the agent has.
    pub(super) fn reserve(&mut self, agent: AgentId) {
        self.reserved.push(agent);
    }

    /// Takes a reservation back.
    pub(super) fn release(&mut self, agent: AgentId) {
        self.change(agent, |known| {
            if let Some(place) = known.reserved.iter().position(|reserved| *reserved == agent) {
                known.reserved.swap_remove(place);
            }
        });
    }

    /// Forgets a session whose time is over, but not that it was its owner's, as long as there is room for that. `false`:
    /// there is no such session.
    pub(super) fn drop_expired_session(&mut self, now: Instant, entries_max: usize) -> bool {
        let Some(agent) = self.expiry.pop_session(now) else { return false };
        let end = self.entries.get(&agent).and_then(Entry::let_go);
        match end.filter(|_| self.entries.len() < entries_max) {
            Some(end) => self.set(agent, end),
            None => self.forget(agent),
        }
        true
    }

    /// Forgets the end of a session that is of no use any more; tells whether there was one.
    pub(super) fn drop_old_end(&mut self, now: Instant) -> bool {
        let Some(agent) = self.expiry.pop_end(now) else { return false };
        self.forget(agent);
        true
    }

    /// Gives the agent's place back if the change leaves nothing for it.
    fn change(&mut self, agent: AgentId, change: impl FnOnce(&mut Self)) {
        let had_place = self.has_place(agent);
        change(self);
        if had_place && !self.has_place(agent) {
            self.places.give_back();
        }
    }

    fn take_out(&mut self, agent: AgentId) {
        if let Some(entry) = self.entries.remove(&agent) {
            self.expiry.remove(agent, &entry);
            self.sessions -= usize::from(entry.session.is_some());
        }
    }

    fn has_place(&self, agent: AgentId) -> bool {
        self.entries.get(&agent).is_some_and(|entry| entry.session.is_some())
            || self.reserved.contains(&agent)
    }
}

// === impl Places ===

impl Places {
    pub(super) fn new(most: NonZeroUsize) -> Self {
        Self { taken: AtomicUsize::new(0), most: most.get().into() }
    }

    /// Those that there are stay taken.
    pub(super) fn set_most(&self, most: NonZeroUsize) {
        self.most.store(most.get(), Relaxed);
    }

    pub(super) fn most(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.most.load(Relaxed)).unwrap_or(NonZeroUsize::MIN)
    }

    fn take(&self) -> bool {
        let most = self.most().get();
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }

    pub(super) fn are_left(&self) -> bool {
        self.taken.load(Relaxed) < self.most().get()
    }
}
