//! The ids of replicas, and the interface to the leases by which they agree on who polls an agent.

use std::{collections::HashMap, fmt, time::Duration};

use tokio::time::Instant;

use crate::{id::AgentId, session::StoreFuture};

/// The id of one process. It is chosen at random at the start, so a restarted process is another
/// replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(super) u64);

/// The replicas of a tenant, and the agents that they have to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The live replicas, including this one.
    pub replicas: Vec<ReplicaId>,
    /// The agents whose sessions one of them has to keep.
    pub agents: Vec<AgentId>,
}

/// The number of a request for leases. The numbers grow in the order in which a replica makes its
/// requests.
///
/// A store that hangs may carry out a request long after its replica has given it up, and after
/// later requests. By the number, the store can tell that it is an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseRequest(pub u64);

/// The most leases in one request. They are limited because a script blocks everything else in
/// Redis while it runs.
pub const LEASES_AT_ONCE: usize = 256;

/// Leases on a tenant's agents, in a store that the replicas share.
///
/// A lease ends by itself after its time unless it is renewed. The holder counts that time, by its
/// own clock, from the moment at which it *asked*. So there are never two holders, even if the
/// store answers late or the replica was suspended in between.
pub trait Leases: fmt::Debug + Send + Sync {
    /// How long a lease lasts.
    fn time(&self) -> Duration;

    /// Says that this replica is alive. Returns the live replicas and the agents to be kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](crate::session::StoreError::Unavailable); so do the methods
    /// below.
    fn membership(&self) -> StoreFuture<'_, Membership>;

    /// Like [`membership`](Self::membership), but only reads. The result may include replicas that
    /// died without [leaving](Self::leave).
    fn read_membership(&self) -> StoreFuture<'_, Membership>;

    /// Says that sessions of these agents are to be kept, as storing the sessions has said before.
    fn list(&self, agents: Vec<AgentId>) -> StoreFuture<'_, ()>;

    /// Counts listed agents outside of the tenant's `agent_ids`.
    fn disbelieve_agents(&self, count: usize);

    /// Publishes a heartbeat to the other replicas. It works even while the store takes no writes.
    fn send_heartbeat(&self) -> StoreFuture<'_, ()>;

    /// When the last heartbeat of each replica was received, including this one's own.
    fn heartbeats(&self) -> HashMap<ReplicaId, Instant>;

    /// The latest request for leases of the tenant that this process has made. Others remember its number, also if the
    /// tenant has gone and come back.
    fn last_request(&self) -> LeaseRequest;

    /// Takes the leases of these agents (at most [`LEASES_AT_ONCE`]), or renews those that this
    /// replica holds. Returns the agents whose leases it holds afterwards.
    fn hold(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, Vec<AgentId>>;

    /// Which of these leases (at most [`LEASES_AT_ONCE`]) are held by other replicas, and by which.
    /// Only reads.
    fn held_by_others(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<(AgentId, ReplicaId)>>;

    /// Releases leases (at most [`LEASES_AT_ONCE`]). Leases of others stay, and so do those that a
    /// later request of this replica has taken or renewed.
    fn release(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, ()>;

    /// Says that this replica goes away, so that the others ask for its leases before these end by
    /// themselves.
    fn leave(&self) -> StoreFuture<'_, ()>;
}

// === impl ReplicaId ===

impl ReplicaId {
    /// A new, random id.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_read_as_they_are_written(id: u64) {
            prop_assert_eq!(ReplicaId::parse(&ReplicaId(id).to_string()), Some(ReplicaId(id)));
        }
    }
}
