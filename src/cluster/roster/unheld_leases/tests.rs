use super::*;

const LIVE: ReplicaId = ReplicaId(1);
const GONE: ReplicaId = ReplicaId(2);

fn agent() -> AgentId {
    AgentId::parse("101", &(1..=9999)).unwrap()
}

/// The lease as it was seen, from the earliest look to the latest.
fn seen(owners: &[Option<ReplicaId>]) -> UnheldLeases {
    let mut leases = UnheldLeases::default();
    leases.look(&[LIVE], &[agent()].into());
    for owner in owners {
        leases.saw(agent(), *owner);
    }
    leases
}

/// Whether the agent is left behind, for leases that can be read or not, and for an outage that has
/// lasted or not.
fn is_left(leases: &UnheldLeases) -> [bool; 4] {
    let cases = [(true, false), (true, true), (false, false), (false, true)];
    cases.map(|(is_read, has_lasted)| !leases.left_behind(is_read, has_lasted).is_empty())
}

#[test]
fn whom_a_replica_that_lives_polls_for_is_not_left_behind() {
    assert_eq!(is_left(&seen(&[Some(LIVE)])), [false; 4]);
    assert_eq!(is_left(&seen(&[Some(LIVE), None])), [false; 4]);
    assert_eq!(is_left(&seen(&[Some(GONE), Some(LIVE)])), [false; 4]);
}

#[test]
fn whom_a_replica_that_is_gone_polled_for_is_left_behind_when_its_lease_may_be_over() {
    // A lease that is still there was renewed a short while ago.
    assert_eq!(is_left(&seen(&[Some(GONE)])), [false, false, false, true]);
    assert_eq!(is_left(&seen(&[Some(GONE), None])), [true, true, false, true]);
}

#[test]
fn whom_nobody_was_seen_to_poll_for_is_left_behind_if_the_lease_is_free_for_long() {
    assert_eq!(is_left(&seen(&[])), [false; 4]);
    assert_eq!(is_left(&seen(&[None])), [false, true, false, false]);
}

#[test]
fn whoever_was_lost_is_not_begun_again_until_the_store_answers() {
    let mut leases = seen(&[Some(GONE), None]);
    leases.ended(agent());
    assert_eq!(is_left(&leases), [false; 4]);
    leases.store_answers();
    assert_eq!(is_left(&leases), [true, true, false, true]);
}

#[test]
fn whoever_is_no_longer_looked_for_is_forgotten() {
    let mut leases = seen(&[Some(GONE), None]);
    leases.look(&[LIVE], &HashSet::new());
    leases.saw(agent(), Some(GONE));
    assert_eq!(is_left(&leases), [false; 4]);
    leases.look(&[LIVE], &[agent()].into());
    assert_eq!(is_left(&leases), [false; 4], "nothing is known of it any more");
}
