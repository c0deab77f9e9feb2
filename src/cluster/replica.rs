//! Who the replicas are, and the leases by which they agree on which of them polls an agent.

use std::{collections::HashMap, fmt, time::Duration};

use tokio::time::Instant;

use crate::{id::AgentId, session::StoreFuture};

/// One process. Chosen at random at its start, so that a restart is another replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(super) u64);

/// What the replicas of a tenant know of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those that are alive, this one among them.
    pub replicas: Vec<ReplicaId>,
    /// The agents whose sessions are to be kept by one of them.
    pub agents: Vec<AgentId>,
}

/// The number of a request for leases: they grow in the order in which one replica decides them.
///
/// A store that hangs may carry out a request long after its replica has given it up, and after
/// later ones. The number lets it tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseRequest(pub u64);

/// The most leases of one request: a script stops everything else in Redis while it runs.
pub const LEASES_AT_ONCE: usize = 256;

/// Leases on the tenant's agents, in a store that the replicas share.
///
/// A lease ends by itself after its time unless it is renewed. Whoever holds one may be sure of it
/// for that time from the moment at which it *asked*, by its own clock; a store that answers late,
/// or a replica that was stopped in between, so never leads to two holders.
pub trait Leases: fmt::Debug + Send + Sync {
    /// How long a lease lasts.
    fn time(&self) -> Duration;

    /// Says that this replica is alive, and tells who else is and what there is to be kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](crate::session::StoreError::Unavailable), here and below.
    fn membership(&self) -> StoreFuture<'_, Membership>;

    /// Tells the same as [`membership`](Self::membership), but only reads. Replicas that have died without
    /// [leaving](Self::leave) may be among those that it names.
    fn look(&self) -> StoreFuture<'_, Membership>;

    /// Calls out to the other replicas that this one is alive; also where the store takes no writes.
    fn call_out(&self) -> StoreFuture<'_, ()>;

    /// When each replica was last heard to call out, this one among them.
    fn heard(&self) -> HashMap<ReplicaId, Instant>;

    /// Takes the leases of these agents, up to [`LEASES_AT_ONCE`], or renews those that this
    /// replica holds; tells for which of them it now does.
    fn hold(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, Vec<AgentId>>;

    /// Which of these leases, up to [`LEASES_AT_ONCE`], other replicas hold, and who. Only reads.
    fn held_by_others(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<(AgentId, ReplicaId)>>;

    /// Gives leases back, up to [`LEASES_AT_ONCE`]; leaves those alone that others hold, and those
    /// that a later request of this replica has taken or renewed.
    fn release(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, ()>;

    /// Says that this replica goes away, so that the others ask for its leases before they are free.
    fn leave(&self) -> StoreFuture<'_, ()>;
}

// === impl ReplicaId ===

impl ReplicaId {
    /// A new one.
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

/// The replica that should poll an agent: the one with the highest score for it, so that a replica
/// that comes or goes moves no other replica's agents.
pub fn preferred(agent: AgentId, replicas: &[ReplicaId]) -> Option<ReplicaId> {
    let score = |replica: &ReplicaId| (mixed(replica.0 ^ mixed(agent.get().into())), *replica);
    replicas.iter().copied().max_by_key(score)
}

/// All 64 bits of the outcome hang on all of the input (the finalizer of splitmix64). Every replica
/// has to come to the same result, whatever it was compiled with.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agents() -> impl Iterator<Item = AgentId> {
        (101..3_101).map(|id: u32| AgentId::parse(&id.to_string(), &(1..=u32::MAX)).unwrap())
    }

    #[test]
    fn replicas_share_the_agents_evenly() {
        let replicas = [1, 2, 3].map(ReplicaId);
        for replica in replicas {
            let own = agents().filter(|agent| preferred(*agent, &replicas) == Some(replica));
            assert!((850..1_150).contains(&own.count()));
        }
        assert_eq!(preferred(agents().next().unwrap(), &[]), None);
    }

    proptest! {
        #[test]
        fn a_replica_that_goes_moves_its_own_agents_only(ids: [u64; 5], gone in 0..5_usize) {
            let replicas = ids.map(ReplicaId);
            let mut left = replicas.to_vec();
            left.remove(gone);
            for agent in agents().take(300) {
                let before = preferred(agent, &replicas);
                if before != Some(replicas[gone]) {
                    prop_assert_eq!(preferred(agent, &left), before);
                }
            }
        }

        #[test]
        fn ids_are_read_as_they_are_written(id: u64) {
            prop_assert_eq!(ReplicaId::parse(&ReplicaId(id).to_string()), Some(ReplicaId(id)));
        }
    }
}
