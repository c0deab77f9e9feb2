//! Replicas of the bridge that share sessions: who they are, and which of them polls an agent.
//!
//! A gateway wants an agent polled by exactly one client. The live replica with the highest score
//! for an agent ([`preferred`]) is the one that should; a lease in the shared store decides which
//! one may ([`Leases`]). A [`Roster`] brings the two together.

use std::{collections::HashMap, fmt, time::Duration};

use tokio::time::Instant;

use crate::{id::AgentId, session::StoreFuture};

/// One process. Chosen at random at its start, so that a restart is another replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(super) u64);

/// What the replicas of a tenant know of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Those that are alive, this one among them.
    pub replicas: Vec<ReplicaId>,
    /// The agents whose sessions are to be kept by one of them.
    pub agents: Vec<AgentId>,
}

/// One sign-in, among those of all replicas. A new one for each: a lock is given back beside what
/// comes next, and must not take that one's lock with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    id: u64,
    time: Duration,
}

/// The right to sign an agent in, as a sign-in that asks for it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who has it now.
    pub holder: Holder,
    /// Sign-ins of the agent that have begun elsewhere and not ended, whoever has the lock: a
    /// holder that loses it may still be waiting for the gateway.
    pub others: usize,
    /// The version of the agent's session in the store; 0: none.
    pub stored: u64,
}

/// Who has the right to sign an agent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This sign-in, from now on.
    New,
    /// This sign-in, as before.
    Same,
    /// Another one.
    Other,
}

/// Moments that a replica has taken from what all share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// How many; 0: the others have taken those of the near future.
    pub count: u32,
    /// Until the first of them; with none, until some may be free.
    pub wait: Duration,
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
    fn census(&self) -> StoreFuture<'_, Census>;

    /// Tells the same as [`census`](Self::census), but only reads. Replicas that have died without
    /// [leaving](Self::leave) may be among those that it names.
    fn look(&self) -> StoreFuture<'_, Census>;

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

    /// Takes or renews the right to sign an agent in, and tells what there is to know before.
    fn lock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, Lock>;

    /// Gives that right back, and says that this sign-in is over.
    fn unlock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, ()>;

    /// Takes up to `count` of the moments at which replicas may sign agents in by themselves. All
    /// replicas together get one each `interval`, by the store's clock, and none is saved up.
    fn sign_in_moments(&self, count: u32, interval: Duration) -> StoreFuture<'_, Moments>;

    /// How many replicas there were when they were counted last; at least one.
    fn replicas(&self) -> u32;

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

// === impl Attempt ===

impl Attempt {
    /// A new one, which is over after this `time` at the latest.
    pub fn lasting(time: Duration) -> Self {
        Self { id: rand::random(), time }
    }

    /// How long it may take.
    pub fn time(self) -> Duration {
        self.time
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.id)
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
