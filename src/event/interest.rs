//! Which watches have something to read.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use super::Agents;
use crate::id::AgentId;

/// The watches of a log, by the agents whose events they read.
#[derive(Debug, Default)]
pub(super) struct Interests {
    of_all: Vec<Arc<Unread>>,
    of_agents: HashMap<AgentId, Vec<Arc<Unread>>>,
}

/// What a watch has to read. It changes only while the log is locked.
#[derive(Debug)]
pub(super) struct Unread {
    /// The number of the first event or gap that the watch wants and has not read; 0: there is none.
    first: AtomicU64,
    told: Notify,
}

// === impl Interests ===

impl Interests {
    pub(super) fn add(&mut self, agents: &Agents, watch: &Arc<Unread>) {
        match agents {
            Agents::All => self.of_all.push(watch.clone()),
            Agents::These(agents) => {
                for agent in agents {
                    self.of_agents.entry(*agent).or_default().push(watch.clone());
                }
            }
        }
    }

    pub(super) fn remove(&mut self, agents: &Agents, watch: &Arc<Unread>) {
        let is_other = |known: &Arc<Unread>| !Arc::ptr_eq(known, watch);
        match agents {
            Agents::All => self.of_all.retain(is_other),
            Agents::These(agents) => {
                for agent in agents {
                    let Entry::Occupied(mut watches) = self.of_agents.entry(*agent) else {
                        continue;
                    };
                    watches.get_mut().retain(is_other);
                    if watches.get().is_empty() {
                        watches.remove();
                    }
                }
            }
        }
    }

    /// Tells those who want the agent's events of one with this number.
    pub(super) fn tell(&self, agent: AgentId, number: u64) {
        let of_agent = self.of_agents.get(&agent).into_iter().flatten();
        self.of_all.iter().chain(of_agent).for_each(|watch| watch.tell(number));
    }

    /// Tells all watches of a gap with this number.
    pub(super) fn tell_all(&self, number: u64) {
        let of_agents = self.of_agents.values().flatten();
        self.of_all.iter().chain(of_agents).for_each(|watch| watch.tell(number));
    }
}

// === impl Unread ===

impl Unread {
    /// For a watch that has to look what there is from this number on.
    pub(super) fn since(number: u64) -> Self {
        Self { first: number.into(), told: Notify::new() }
    }

    /// Wakes the watch, unless it has something to read already.
    pub(super) fn tell(&self, number: u64) {
        if self.first.compare_exchange(0, number, Relaxed, Relaxed).is_ok() {
            self.told.notify_one();
        }
    }

    /// Where there is something to read, if there is anything; the watch reads all of it, or [tells](Self::tell) itself of
    /// the rest.
    pub(super) fn take(&self) -> Option<u64> {
        Some(self.first.swap(0, Relaxed)).filter(|first| *first > 0)
    }

    /// Waits until there may be something to read. Whoever looks first, and then waits, misses nothing.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}
