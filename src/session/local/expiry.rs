//! When what is known can be forgotten.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::Entry;
use crate::id::AgentId;

/// Agents in the order in which what is known of them can be forgotten, so that nobody has to go through all for that.
#[derive(Debug)]
pub(super) struct Expiry {
    /// Ticks count from here.
    began: Instant,
    /// Those with a session whose time will be over.
    sessions: BTreeSet<(u32, AgentId)>,
    /// Those of whom only the end of a session is known.
    ends: BTreeSet<(u32, AgentId)>,
}

/// What can be forgotten is forgotten up to a tick later, so that a time takes little memory.
const TICK: Duration = Duration::from_millis(100);

impl Expiry {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), sessions: BTreeSet::new(), ends: BTreeSet::new() }
    }

    /// Adds an entry that can be forgotten some time.
    pub(super) fn add(&mut self, agent: AgentId, entry: &Entry) {
        if let Some(tick) = self.tick(entry) {
            self.of_kind(entry).insert((tick, agent));
        }
    }

    /// Removes an entry that was added, and has not been changed since.
    pub(super) fn remove(&mut self, agent: AgentId, entry: &Entry) {
        if let Some(tick) = self.tick(entry) {
            self.of_kind(entry).remove(&(tick, agent));
        }
    }

    /// Takes out an agent whose session's time is over.
    pub(super) fn pop_session(&mut self, now: Instant) -> Option<AgentId> {
        let last = self.last_tick(now);
        pop(&mut self.sessions, last)
    }

    /// Takes out an agent of whom the end of a session has been remembered for long enough.
    pub(super) fn pop_end(&mut self, now: Instant) -> Option<AgentId> {
        let last = self.last_tick(now);
        pop(&mut self.ends, last)
    }

    fn of_kind(&mut self, entry: &Entry) -> &mut BTreeSet<(u32, AgentId)> {
        if entry.session.is_some() { &mut self.sessions } else { &mut self.ends }
    }

    /// The first tick that is not before the entry's time.
    fn tick(&self, entry: &Entry) -> Option<u32> {
        let since = entry.expires_at()?.saturating_duration_since(self.began);
        Some(ticks(since.as_nanos().div_ceil(TICK.as_nanos())))
    }

    /// The last tick that is not after this time.
    fn last_tick(&self, now: Instant) -> u32 {
        ticks(now.saturating_duration_since(self.began).as_nanos() / TICK.as_nanos())
    }
}

/// Thirteen years have fewer than `u32::MAX`.
fn ticks(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn pop(queue: &mut BTreeSet<(u32, AgentId)>, last: u32) -> Option<AgentId> {
    let (first, _) = queue.first()?;
    if *first > last {
        return None;
    }
    queue.pop_first().map(|(_, agent)| agent)
}
