//! The leases that a replica holds, by its own clock.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::unheld_leases::UnheldLeases;
use crate::{
    cluster::{LeaseRequest, ReplicaId},
    id::AgentId,
};

/// The leases of one replica on a tenant's agents.
#[derive(Debug)]
pub(super) struct Held {
    /// How long a lease lasts.
    length: Duration,
    leases: HashMap<AgentId, Lease>,
    /// The latest release of each agent's lease. A lease that was requested before the release is
    /// gone, however late the answer comes.
    released: HashMap<AgentId, Release>,
    unheld_leases: UnheldLeases,
    /// The number of the last request.
    last: u64,
}

/// A request for leases that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) request: LeaseRequest,
    at: Instant,
    /// When the granted leases end, counted from the request, so never too late.
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Release {
    asked: Asked,
    at: Instant,
    /// Whether another replica is known to have taken the lease.
    is_taken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// The request that brought it.
    asked: Asked,
    /// Whether the store has not answered the latest request for it.
    unanswered: bool,
    /// Whether the agent is polled although the lease has ended.
    overdue: bool,
}

/// The result of [`Held::end`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Agents who must no longer be polled.
    pub(super) stopped: Vec<AgentId>,
    /// How many of their leases ended because the store did not answer.
    pub(super) unanswered: usize,
    /// How many agents are polled without a lease from now on.
    pub(super) overdue: usize,
    /// How many more leases will end soon because the store has not answered.
    pub(super) coming: usize,
}

/// How long a released lease is watched, in lease times: an outage may have kept the next replica
/// from taking it.
const LOOKED_AFTER: u32 = 3;

impl Held {
    /// No leases yet. Each will last for `length`.
    pub(super) fn none(length: Duration) -> Self {
        let (leases, released, unheld_leases) = <_>::default();
        Self { length, leases, released, unheld_leases, last: 0 }
    }

    /// The same; the numbers of requests begin above this one's.
    pub(super) fn after(LeaseRequest(last): LeaseRequest, length: Duration) -> Self {
        Self { last, ..Self::none(length) }
    }

    /// Numbers a request for leases that is about to be made, and computes when its leases will
    /// end.
    ///
    /// They end a tenth early, because clocks do not run equally fast.
    pub(super) fn ask(&mut self) -> Asked {
        self.last += 1;
        let at = Instant::now();
        Asked { request: LeaseRequest(self.last), at, until: at + self.length.mul_f64(0.9) }
    }

    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.leases.keys().copied().collect()
    }

    /// Sorts agents by the end of their leases, soonest first. Agents without a lease come last.
    pub(super) fn sort_by_end(&self, agents: &mut [AgentId]) {
        let end = |agent: &AgentId| self.leases.get(agent).map(|lease| lease.asked.until);
        agents.sort_by_cached_key(|agent| (end(agent).is_none(), end(agent)));
    }

    /// Agents who may be polled although their leases have ended.
    pub(super) fn overdue(&self) -> Vec<AgentId> {
        self.leases.iter().filter(|(_, lease)| lease.overdue).map(|(agent, _)| *agent).collect()
    }

    /// Notes that a request was granted this lease. Returns whether the lease is good. It is not if
    /// the answer took longer than the lease lasts, or if the lease has been released since.
    pub(super) fn granted(&mut self, agent: AgentId, asked: Asked) -> bool {
        let is_released = |release: &Release| release.asked.request > asked.request;
        if asked.until <= Instant::now() || self.released.get(&agent).is_some_and(is_released) {
            return false;
        }
        let known = self.leases.get(&agent);
        if known.is_none_or(|lease| lease.overdue || lease.asked.request < asked.request) {
            self.leases.insert(agent, Lease { asked, unanswered: false, overdue: false });
        }
        true
    }

    /// Notes that another replica has this lease. Returns whether this replica has lost it by that.
    /// An answer older than the request that brought the lease does not count.
    pub(super) fn refused(&mut self, agent: AgentId, asked: Asked) -> bool {
        let lost = |lease: &Lease| lease.overdue || lease.asked.request < asked.request;
        let is_lost = self.leases.get(&agent).is_some_and(lost);
        if is_lost {
            self.leases.remove(&agent);
        }
        is_lost
    }

    /// Notes that the store did not answer a request for this lease. It does not count if the lease
    /// had already ended when the request was made.
    pub(super) fn unanswered(&mut self, agent: AgentId, asked: Asked) {
        if let Some(lease) = self.leases.get_mut(&agent)
            && lease.asked.request < asked.request
            && lease.asked.until > asked.at
        {
            lease.unanswered = true;
        }
    }

    /// Notes that an agent is polled without a lease, because the store does not answer.
    pub(super) fn assume(&mut self, agent: AgentId, asked: Asked) {
        let lease = Lease { asked, unanswered: true, overdue: true };
        self.leases.entry(agent).or_insert(lease);
    }

    /// Notes that the polls for an agent have ended by themselves. If it was polled without a
    /// lease, it is forgotten.
    pub(super) fn polls_ended(&mut self, agent: AgentId) {
        if self.leases.get(&agent).is_some_and(|lease| lease.overdue) {
            self.leases.remove(&agent);
            // Otherwise the next turn would begin the polls again, and lose the session again.
            self.unheld_leases.ended(agent);
            self.taken(agent);
        }
    }

    /// Gives up the leases of these agents. The caller has to tell the store by the request `asked`.
    pub(super) fn release(&mut self, agents: &[AgentId], asked: Asked) {
        let (at, kept) = (Instant::now(), self.length * LOOKED_AFTER);
        // After that time no answer to an older request can come. Once for all of these: a replica that comes or goes moves
        // thousands, and whoever is about to poll waits for this.
        self.released.retain(|_, release| at.saturating_duration_since(release.at) <= kept);
        for agent in agents {
            self.leases.remove(agent);
            self.released.insert(*agent, Release { asked, at, is_taken: false });
        }
    }

    /// Notes that another replica has taken this released lease.
    pub(super) fn taken(&mut self, agent: AgentId) {
        if let Some(release) = self.released.get_mut(&agent) {
            release.is_taken = true;
        }
    }

    /// Agents whose leases were released here lately, and not taken by another replica as far as is
    /// known.
    pub(super) fn untaken(&self) -> Vec<AgentId> {
        let kept = self.length * LOOKED_AFTER;
        let is_untaken = |release: &Release| !release.is_taken && release.at.elapsed() <= kept;
        let agents = self.released.iter().filter(|(_, release)| is_untaken(release));
        let agents = agents.map(|(agent, _)| *agent);
        agents.filter(|agent| !self.leases.contains_key(agent)).collect()
    }

    /// Notes the live replicas and the agents that this replica should poll. Returns the agents
    /// whose leases have to be checked.
    pub(super) fn look(
        &mut self,
        replicas: &[ReplicaId],
        wanted: &HashSet<AgentId>,
    ) -> HashSet<AgentId> {
        let mut unheld = wanted.clone();
        unheld.retain(|agent| !self.leases.contains_key(agent));
        self.unheld_leases.look(replicas, &unheld);
        unheld.extend(self.untaken());
        unheld
    }

    /// Notes which of these agents' leases others have. Nobody has the rest.
    pub(super) fn saw(&mut self, agents: &[AgentId], owners: Vec<(AgentId, ReplicaId)>) {
        let owners: HashMap<AgentId, ReplicaId> = owners.into_iter().collect();
        for agent in agents {
            let owner = owners.get(agent).copied();
            if owner.is_some() {
                self.taken(*agent);
            }
            self.unheld_leases.saw(*agent, owner);
        }
    }

    pub(super) fn unheld_leases(&self) -> &UnheldLeases {
        &self.unheld_leases
    }

    pub(super) fn store_answers(&mut self) {
        self.unheld_leases.store_answers();
    }

    /// Whether the agent's lease is good now.
    pub(super) fn is_good(&self, agent: AgentId) -> bool {
        let now = Instant::now();
        self.leases.get(&agent).is_some_and(|lease| !lease.overdue && lease.asked.until > now)
    }

    /// Whether the agent may be polled: its lease is good, or the agent is polled without one.
    pub(super) fn may_poll(&self, agent: AgentId) -> bool {
        self.is_good(agent) || self.leases.get(&agent).is_some_and(|lease| lease.overdue)
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let running = self.leases.values().filter(|lease| !lease.overdue);
        running.map(|lease| lease.asked.until).min()
    }

    /// Ends the leases whose time is over. With `keep`, an agent goes on being polled if the store
    /// did not answer a request for its lease. An agent may have a lease and no polls, since its gateway allows none.
    pub(super) fn end(&mut self, keep: bool, is_polled: impl Fn(AgentId) -> bool) -> Ended {
        let now = Instant::now();
        let mut ended = Ended::default();
        self.leases.retain(|agent, lease| {
            if lease.overdue || lease.asked.until > now {
                let is_coming = !lease.overdue && lease.unanswered && is_polled(*agent);
                ended.coming += usize::from(is_coming);
                return true;
            }
            if keep && lease.unanswered {
                lease.overdue = true;
                ended.overdue += usize::from(is_polled(*agent));
                return true;
            }
            if is_polled(*agent) {
                ended.unanswered += usize::from(lease.unanswered);
                ended.stopped.push(*agent);
            }
            false
        });
        ended
    }
}

#[cfg(test)]
mod tests;
