//! What a replica knows about the leases that it should have but does not hold.

use std::collections::{HashMap, HashSet};

use crate::{cluster::ReplicaId, id::AgentId};

/// Which leases others have or had. Needed when the store no longer answers.
#[derive(Debug, Default)]
pub(super) struct UnheldLeases {
    /// The replicas at the last answer of the store.
    replicas: Vec<ReplicaId>,
    seen: HashMap<AgentId, Seen>,
    /// Agents whose polls have ended by themselves since the store went away. Their sessions are
    /// lost, and nobody can sign them in without a lease.
    ended: HashSet<AgentId>,
}

/// What is known about one lease.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The replica that had it last.
    owner: Option<ReplicaId>,
    /// Whether nobody had it at the last check.
    is_free: bool,
}

impl UnheldLeases {
    /// Notes the live replicas, and the agents that this replica should poll but has no lease on.
    pub(super) fn look(&mut self, replicas: &[ReplicaId], agents: &HashSet<AgentId>) {
        self.replicas = replicas.to_vec();
        self.seen.retain(|agent, _| agents.contains(agent));
        for agent in agents {
            self.seen.entry(*agent).or_default();
        }
    }

    /// Notes who has this lease.
    pub(super) fn saw(&mut self, agent: AgentId, owner: Option<ReplicaId>) {
        if let Some(seen) = self.seen.get_mut(&agent) {
            *seen = Seen { owner: owner.or(seen.owner), is_free: owner.is_none() };
        }
    }

    /// Notes that the polls for an agent have ended by themselves while the store is away.
    pub(super) fn ended(&mut self, agent: AgentId) {
        self.ended.insert(agent);
    }

    /// Notes that the store answers, so that lost sessions can be made anew.
    pub(super) fn store_answers(&mut self) {
        self.ended.clear();
    }

    /// Agents for whom nobody polls, because the replica that did has gone away.
    ///
    /// A free lease shows this only if its replica has gone away. While the store takes no writes,
    /// the leases of live replicas end as well, and they go on polling.
    ///
    /// * `is_read`: the leases have just been read.
    /// * `has_lasted`: the store has been away for so long that the leases of a replica that has
    ///   gone away have ended.
    pub(super) fn left_behind(&self, is_read: bool, has_lasted: bool) -> Vec<AgentId> {
        let is_left = |seen: &Seen| match seen.owner {
            Some(owner) if self.replicas.contains(&owner) => false,
            // A lease that is still held was renewed a short while ago, even if its replica sends
            // no heartbeats.
            Some(_) if is_read => seen.is_free,
            Some(_) => has_lasted,
            None => has_lasted && is_read && seen.is_free,
        };
        let left = self.seen.iter().filter(|(_, seen)| is_left(seen));
        left.map(|(agent, _)| *agent).filter(|agent| !self.ended.contains(agent)).collect()
    }
}

#[cfg(test)]
mod tests;
