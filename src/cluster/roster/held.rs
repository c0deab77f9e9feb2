//! The leases that a replica has, by its own clock.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::around::Around;
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
    /// The latest release of an agent's lease. A lease that was asked for before it is gone, however
    /// late the answer comes.
    released: HashMap<AgentId, Release>,
    around: Around,
    /// The number of the last request.
    last: u64,
}

/// A request for leases that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) request: LeaseRequest,
    at: Instant,
    /// When a lease that it brings ends at the earliest.
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Release {
    asked: Asked,
    at: Instant,
    /// Whether another replica has been seen to have the lease.
    is_taken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// The request that brought it.
    asked: Asked,
    /// Whether the store has not answered to the latest request for it.
    unanswered: bool,
    /// Whether its agent is polled although it has ended.
    overdue: bool,
}

/// What the end of leases leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Agents who must not be polled any more.
    pub(super) stopped: Vec<AgentId>,
    /// How many of them ended because the store did not answer.
    pub(super) unanswered: usize,
    /// How many agents are polled on without a lease.
    pub(super) overdue: usize,
    /// For how many more leases the store has not answered, which are about to end.
    pub(super) coming: usize,
}

/// How long a lease that was given back is looked after, in leases: who was to take it may have been
/// kept from that by an outage.
const LOOKED_AFTER: u32 = 3;

impl Held {
    /// No leases; each will last for this time.
    pub(super) fn none(length: Duration) -> Self {
        let (leases, released, around) = <_>::default();
        Self { length, leases, released, around, last: 0 }
    }

    /// The number and the time of a request that is about to be made for leases.
    ///
    /// The time runs a tenth short, for clocks that do not run alike.
    pub(super) fn ask(&mut self) -> Asked {
        self.last += 1;
        let at = Instant::now();
        Asked { request: LeaseRequest(self.last), at, until: at + self.length.mul_f64(0.9) }
    }

    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.leases.keys().copied().collect()
    }

    /// Puts those first whose leases end first, and those last who have none.
    pub(super) fn sort_by_end(&self, agents: &mut [AgentId]) {
        let end = |agent: &AgentId| self.leases.get(agent).map(|lease| lease.asked.until);
        agents.sort_by_cached_key(|agent| (end(agent).is_none(), end(agent)));
    }

    /// Agents who are polled although their leases have ended.
    pub(super) fn overdue(&self) -> usize {
        self.leases.values().filter(|lease| lease.overdue).count()
    }

    /// Notes that a request brought this lease; tells whether it is any good. It is not if the
    /// answer took longer than the lease lasts, or if the lease has been given back since.
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

    /// Notes that another replica has this lease; tells whether this one had it. An answer that is
    /// older than the request that brought the lease says nothing about it.
    pub(super) fn refused(&mut self, agent: AgentId, asked: Asked) -> bool {
        let lost = |lease: &Lease| lease.overdue || lease.asked.request < asked.request;
        let is_lost = self.leases.get(&agent).is_some_and(lost);
        if is_lost {
            self.leases.remove(&agent);
        }
        is_lost
    }

    /// Notes that the store did not answer to a request for this lease. One that had ended before it was
    /// asked for again has not ended for that reason.
    pub(super) fn unanswered(&mut self, agent: AgentId, asked: Asked) {
        if let Some(lease) = self.leases.get_mut(&agent)
            && lease.asked.request < asked.request
            && lease.asked.until > asked.at
        {
            lease.unanswered = true;
        }
    }

    /// Notes that an agent is polled without a lease, since the store cannot be asked for one.
    pub(super) fn assume(&mut self, agent: AgentId, asked: Asked) {
        let lease = Lease { asked, unanswered: true, overdue: true };
        self.leases.entry(agent).or_insert(lease);
    }

    /// Notes that an agent is polled no more; without a lease, there is nothing left to hold.
    pub(super) fn polls_ended(&mut self, agent: AgentId) {
        if self.leases.get(&agent).is_some_and(|lease| lease.overdue) {
            self.leases.remove(&agent);
            // Else the next turn would begin them again, only to lose the session once more.
            self.around.ended(agent);
            self.taken(agent);
        }
    }

    /// Gives a lease up; the store has to be told by the request that is asked now.
    pub(super) fn release(&mut self, agent: AgentId, asked: Asked) {
        self.leases.remove(&agent);
        // No answer to an older request can come when that is over.
        let kept = self.length * LOOKED_AFTER;
        self.released.retain(|_, release| release.at.elapsed() <= kept);
        self.released.insert(agent, Release { asked, at: Instant::now(), is_taken: false });
    }

    /// Notes that another replica has this lease, which was given back.
    pub(super) fn taken(&mut self, agent: AgentId) {
        if let Some(release) = self.released.get_mut(&agent) {
            release.is_taken = true;
        }
    }

    /// Agents whose leases were given back not long ago, and whom nobody is known to have.
    pub(super) fn untaken(&self) -> Vec<AgentId> {
        let kept = self.length * LOOKED_AFTER;
        let is_untaken = |release: &Release| !release.is_taken && release.at.elapsed() <= kept;
        let agents = self.released.iter().filter(|(_, release)| is_untaken(release));
        let agents = agents.map(|(agent, _)| *agent);
        agents.filter(|agent| !self.leases.contains_key(agent)).collect()
    }

    /// Notes who is there and for whom this replica is to poll; gives the agents whose leases are to
    /// be looked at.
    pub(super) fn look(
        &mut self,
        replicas: &[ReplicaId],
        wanted: &HashSet<AgentId>,
    ) -> HashSet<AgentId> {
        let mut unheld = wanted.clone();
        unheld.retain(|agent| !self.leases.contains_key(agent));
        self.around.look(replicas, &unheld);
        unheld.extend(self.untaken());
        unheld
    }

    /// Notes which of these agents' leases others have, and that nobody has the rest.
    pub(super) fn saw(&mut self, agents: &[AgentId], owners: Vec<(AgentId, ReplicaId)>) {
        let owners: HashMap<AgentId, ReplicaId> = owners.into_iter().collect();
        for agent in agents {
            let owner = owners.get(agent).copied();
            if owner.is_some() {
                self.taken(*agent);
            }
            self.around.saw(*agent, owner);
        }
    }

    pub(super) fn around(&self) -> &Around {
        &self.around
    }

    pub(super) fn store_answers(&mut self) {
        self.around.store_answers();
    }

    /// Whether the agent's lease is good at this moment.
    pub(super) fn is_good(&self, agent: AgentId) -> bool {
        let now = Instant::now();
        self.leases.get(&agent).is_some_and(|lease| !lease.overdue && lease.asked.until > now)
    }

    /// Whether the agent may be polled: its lease is good, or is to be gone without.
    pub(super) fn may_poll(&self, agent: AgentId) -> bool {
        self.is_good(agent) || self.leases.get(&agent).is_some_and(|lease| lease.overdue)
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let running = self.leases.values().filter(|lease| !lease.overdue);
        running.map(|lease| lease.asked.until).min()
    }

    /// Ends the leases whose time is over. With `keep`, agents for whose leases the store could not
    /// be asked are polled on.
    pub(super) fn end(&mut self, keep: bool) -> Ended {
        let now = Instant::now();
        let mut ended = Ended::default();
        self.leases.retain(|agent, lease| {
            if lease.overdue || lease.asked.until > now {
                ended.coming += usize::from(!lease.overdue && lease.unanswered);
                return true;
            }
            if keep && lease.unanswered {
                lease.overdue = true;
                ended.overdue += 1;
                return true;
            }
            ended.unanswered += usize::from(lease.unanswered);
            ended.stopped.push(*agent);
            false
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(15);

    /// How many agents are polled without a lease, if the store does not answer to a request for it that
    /// is made so late.
    async fn overdue(asked_after: Duration) -> usize {
        let agent = AgentId::parse("101", &(1..=9999)).unwrap();
        let mut held = Held::none(LENGTH);
        let first = held.ask();
        assert!(held.granted(agent, first));
        advance(asked_after).await;
        let second = held.ask();
        held.unanswered(agent, second);
        advance(LENGTH).await;
        held.end(true).overdue
    }

    /// Whoever slept for so long may have lost the agent to another replica.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_had_ended_when_it_was_asked_for_again_is_not_kept() {
        assert_eq!(overdue(LENGTH / 2).await, 1);
        assert_eq!(overdue(LENGTH).await, 0);
    }
}
