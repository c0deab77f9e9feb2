//! Which replica should poll an agent.

use super::ReplicaId;
use crate::id::AgentId;

/// The replica that should poll an agent: the one with the highest score for it (rendezvous
/// hashing). So when a replica comes or goes, only its own agents move.
pub fn preferred_replica(agent: AgentId, replicas: &[ReplicaId]) -> Option<ReplicaId> {
    let score = |replica: &ReplicaId| (mixed(replica.0 ^ mixed(agent.get().into())), *replica);
    replicas.iter().copied().max_by_key(score)
}

/// Mixes all 64 bits of the input (the finalizer of splitmix64). Every replica has to compute the
/// same result, whatever it was compiled with.
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
            let own =
                agents().filter(|agent| preferred_replica(*agent, &replicas) == Some(replica));
            assert!((850..1_150).contains(&own.count()));
        }
        assert_eq!(preferred_replica(agents().next().unwrap(), &[]), None);
    }

    /// Replicas of two versions run beside each other during a rollout.
    #[test]
    fn every_version_of_the_bridge_prefers_the_same_replica() {
        let ids = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x5555_aaaa_5555_aaaa, 7];
        let replicas = ids.map(ReplicaId);
        let preferred = (1_001..1_041).map(|id: u32| {
            let agent = AgentId::parse(&id.to_string(), &(1..=u32::MAX)).unwrap();
            let preferred = preferred_replica(agent, &replicas).unwrap();
            replicas.iter().position(|replica| *replica == preferred).unwrap()
        });
        let expected = [
            0, 1, 1, 2, 0, 2, 3, 3, 0, 0, 3, 2, 0, 1, 2, 2, 2, 1, 2, 0, //
            2, 1, 2, 3, 3, 3, 1, 2, 1, 0, 0, 1, 0, 1, 1, 2, 1, 1, 3, 2,
        ];
        assert_eq!(preferred.collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn a_replica_that_goes_moves_its_own_agents_only(ids: [u64; 5], gone in 0..5_usize) {
            let replicas = ids.map(ReplicaId);
            let mut left = replicas.to_vec();
            left.remove(gone);
            for agent in agents().take(300) {
                let before = preferred_replica(agent, &replicas);
                if before != Some(replicas[gone]) {
                    prop_assert_eq!(preferred_replica(agent, &left), before);
                }
            }
        }
    }
}
