//! Replicas that poll on where the store cannot be asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{LEASE, Running, agents, new_world, open, start_with, world_of};
use crate::{
    config::WhenAway,
    replica::{Claimed, LeaseCounts, LeaseRequest, ReplicaId},
};

fn keeping(id: u64, world: &super::world::Shared) -> Running {
    start_with(id, world, WhenAway::Keep)
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_for_all_every_replica_polls_on() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    let before = open(&world).polling.clone();
    open(&world).cut.extend([ReplicaId(1), ReplicaId(2)]);
    sleep(LEASE * 5).await;
    assert_eq!(open(&world).polling, before);
    let overdue: usize = running.iter().map(|replica| replica.roster.counts().overdue).sum();
    assert_eq!(overdue, agents().len());
    assert!(agents().iter().all(|agent| !running[0].roster.has_lease(*agent)));

    open(&world).cut.clear();
    sleep(LEASE).await;
    assert_eq!(open(&world).polling, before);
    assert_eq!(open(&world).wrong, Vec::<String>::new());
    assert_eq!(running[0].roster.counts(), LeaseCounts::default());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_cut_off_stops_for_those_whom_another_has_taken_over() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    open(&world).cut.insert(ReplicaId(1));
    sleep(LEASE * 3).await;
    // Both poll for them, which is the price.
    assert!(running[0].roster.counts().overdue > 0);
    assert!(open(&world).polling.values().any(|polling| polling.len() == 2));

    open(&world).cut.clear();
    sleep(LEASE * 2).await;
    assert!(open(&world).polling.values().all(|polling| polling.len() == 1));
    assert_eq!(running[0].roster.counts(), LeaseCounts::default());
}

#[tokio::test(start_paused = true)]
async fn who_is_signed_in_while_the_store_is_away_is_polled() {
    let world = world_of(1, 0);
    open(&world).cut.insert(ReplicaId(1));
    let replica = keeping(1, &world);
    let agent = agents()[0];
    assert_eq!(replica.roster.claim(agent, &*replica.poller).await, Claimed::Here);
    sleep(LEASE * 3).await;
    assert!(open(&world).is_polling(agent, replica.me));
    open(&world).cut.clear();
    sleep(LEASE).await;
    assert!(replica.roster.has_lease(agent));
}

/// As where a machine was asleep: the store could have been asked, and may have given the leases to
/// another replica.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_without_a_failure_of_the_store_is_not_kept() {
    let world = new_world();
    let replica = keeping(1, &world);
    sleep(LEASE * 3).await;
    replica.stops_turning();
    sleep(LEASE * 2).await;
    for agent in agents() {
        assert!(!replica.roster.may_poll(agent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_says_whom_it_has_stopped_for() {
    let world = new_world();
    let replica = start_with(1, &world, WhenAway::Stop);
    sleep(LEASE * 3).await;
    open(&world).cut.insert(ReplicaId(1));
    sleep(LEASE * 3).await;
    assert!(open(&world).polling.values().all(std::collections::BTreeSet::is_empty));
    let dropped = LeaseCounts { overdue: 0, dropped: agents().len() };
    assert_eq!(replica.roster.counts(), dropped);
    open(&world).cut.clear();
    sleep(LEASE).await;
    assert_eq!(replica.roster.counts(), LeaseCounts::default());
    assert!(open(&world).polling.values().all(|polling| polling.len() == 1));
}

/// Between the release of a lease and its next owner, for whom it came too late.
#[tokio::test(start_paused = true)]
async fn who_is_handed_over_when_the_store_begins_to_refuse_is_taken_back_if_nobody_has_the_lease()
{
    for other in [None, Some(ReplicaId(2))] {
        let world = world_of(1, 0);
        let replica = keeping(1, &world);
        sleep(LEASE).await;
        let agent = agents()[0];
        open(&world).agents.clear();
        while open(&world).leases.contains_key(&agent) {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!open(&world).is_polling(agent, replica.me));
        {
            let mut world = open(&world);
            world.refuses_writes = true;
            let lease = |owner| (owner, LeaseRequest(1), Instant::now() + LEASE * 9);
            world.leases.extend(other.map(|owner| (agent, lease(owner))));
        }
        sleep(LEASE * 2).await;
        assert_eq!(open(&world).is_polling(agent, replica.me), other.is_none());
    }
}
