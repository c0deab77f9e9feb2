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

/// The watches of a log, by the agents whose events they read. A watch may name many agents, and many watches the same ones, so
/// neither a gap nor the end of a watch goes through all watches of each agent.
#[derive(Debug, Default)]
pub(super) struct Interests {
    /// Each watch once.
    all: Watches,
    of_all_agents: Watches,
    of_agents: HashMap<AgentId, Watches>,
    last_id: u64,
}

/// Watches by their ids.
type Watches = HashMap<u64, Arc<Unread>>;

/// What a watch has to read. It changes only while the log is locked.
#[derive(Debug)]
pub(super) struct Unread {
    id: u64,
    /// The number of the first event or gap that the watch wants and has not read; 0: there is none.
    first: AtomicU64,
    told: Notify,
}

// === impl Interests ===

impl Interests {
    /// Adds a watch that has to look what there is from this number on.
    pub(super) fn add(&mut self, agents: &Agents, next: u64) -> Arc<Unread> {
        self.last_id += 1;
        let id = self.last_id;
        let watch = Arc::new(Unread { id, first: next.into(), told: Notify::new() });
        self.all.insert(id, watch.clone());
        match agents {
            Agents::All => drop(self.of_all_agents.insert(id, watch.clone())),
            Agents::These(agents) => {
                for agent in agents {
                    self.of_agents.entry(*agent).or_default().insert(id, watch.clone());
                }
            }
        }
        watch
    }

    /// Removes a watch of these agents.
    pub(super) fn remove(&mut self, agents: &Agents, watch: &Unread) {
        self.all.remove(&watch.id);
        match agents {
            Agents::All => drop(self.of_all_agents.remove(&watch.id)),
            Agents::These(agents) => {
                for agent in agents {
                    self.remove_of(*agent, watch.id);
                }
            }
        }
    }

    fn remove_of(&mut self, agent: AgentId, id: u64) {
        if let Entry::Occupied(mut watches) = self.of_agents.entry(agent) {
            watches.get_mut().remove(&id);
            if watches.get().is_empty() {
                watches.remove();
            }
        }
    }

    /// Tells those who want the agent's events of one with this number.
    pub(super) fn tell(&self, agent: AgentId, number: u64) {
        let of_agent = self.of_agents.get(&agent).into_iter().flat_map(HashMap::values);
        self.of_all_agents.values().chain(of_agent).for_each(|watch| watch.tell(number));
    }

    /// Tells all watches of a gap with this number.
    pub(super) fn tell_all(&self, number: u64) {
        self.all.values().for_each(|watch| watch.tell(number));
    }
}

// === impl Unread ===

impl Unread {
    /// Wakes the watch, unless it has something to read already.
    pub(super) fn tell(&self, number: u64) {
        if self.first.compare_exchange(0, number, Relaxed, Relaxed).is_ok() {
            self.told.notify_one();
        }
    }

    /// The first number to read, if there is one. Afterwards nothing counts as unread, so a watch that does not read
    /// everything calls [`tell`](Self::tell) for the rest.
    pub(super) fn take(&self) -> Option<u64> {
        Some(self.first.swap(0, Relaxed)).filter(|first| *first > 0)
    }

    /// Waits until there may be something to read. Whoever looks first, and then waits, misses nothing.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}
