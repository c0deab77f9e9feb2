//! Tests of rosters of several replicas on one store, with a paused clock.

mod keep;
mod random;
mod turning;
mod world;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{sleep, timeout};

use self::world::{
    ANSWER_MAX, Fortune, LEASE, Shared, agents, kill, many_agents, new_world, open, start, world_of,
};
use crate::{
    cluster::{LEASES_AT_ONCE, ReplicaId, preferred_replica},
    id::AgentId,
    tenant::{Claimed, PollOwnership as _},
};

#[track_caller]
fn check_each_is_polled_once(world: &Shared) {
    let world = open(world);
    assert_eq!(world.wrong, Vec::<String>::new(), "{:#?}", world.history);
    for agent in agents() {
        let polling = world.polling.get(&agent).map_or(0, BTreeSet::len);
        assert_eq!(polling, 1, "{agent}: {world:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_agent_is_polled_by_one_replica_and_each_replica_has_some() {
    let world = new_world();
    let _running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    check_each_is_polled_once(&world);
    let polling: BTreeSet<_> = open(&world).polling.values().flatten().copied().collect();
    assert_eq!(polling.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_agents_of_a_replica_that_dies_are_polled_by_others_soon_after_its_leases() {
    let world = new_world();
    let running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    kill(&running[0]);
    sleep(LEASE + LEASE / 2).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_replica_believes_unkept_is_left_to_the_one_that_has_to_poll() {
    let world = new_world();
    let running: Vec<_> = (1..3).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    let replicas = [running[0].me, running[1].me];
    let is_firsts = |agent: &AgentId| preferred_replica(*agent, &replicas) == Some(replicas[0]);
    let (firsts, others): (Vec<_>, Vec<_>) = agents().into_iter().partition(is_firsts);
    assert!(!firsts.is_empty() && !others.is_empty());
    open(&world).unkept = agents().into_iter().map(|agent| (agent, replicas[0])).collect();
    sleep(LEASE).await;
    let left: Vec<_> = open(&world).unkept.iter().map(|(agent, _)| *agent).collect();
    assert_eq!(left, firsts);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_hands_over_before_it_goes() {
    let world = new_world();
    let running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    running[0].leaves().await;
    for replica in &running[1..] {
        replica.roster.stir();
    }
    sleep(Duration::from_secs(2)).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_keeps_the_leases_of_polls_that_last() {
    let world = new_world();
    let running: Vec<_> = (1..3).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    open(&world).polls_last = LEASE * 3;
    let (leaving, me) = (running[0].roster.clone(), running[0].poller.clone());
    running[0].stops_turning();
    let mut leaving = Box::pin(async move { leaving.leave(&*me).await });
    assert!(timeout(LEASE * 2, &mut leaving).await.is_err(), "the polls are under way");
    let one = running[0].me;
    assert!(open(&world).polling.values().any(|polling| polling.contains(&one)), "none was cut");
    let heard = open(&world).heard[&ReplicaId(2)].get(&one).copied();
    assert!(heard.is_some_and(|at| at.elapsed() < LEASE / 2), "the other one believes its leases");
    leaving.await;
    sleep(LEASE).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_cut_off_stops_before_another_may_begin() {
    let world = new_world();
    let _running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    sleep(LEASE * 3).await;
    open(&world).cut.insert(ReplicaId(1));
    sleep(LEASE / 2).await;
    let one = ReplicaId(1);
    assert!(open(&world).polling.values().any(|polling| polling.contains(&one)), "too early");
    sleep(LEASE * 2).await;
    check_each_is_polled_once(&world);
    assert!(!open(&world).polling.values().any(|polling| polling.contains(&one)));
    open(&world).cut.clear();
    sleep(LEASE * 2).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_claimed_during_a_turn_is_kept() {
    let world = new_world();
    let agent = *many_agents(13).last().unwrap();
    // The requests of a turn take long, and are made at once.
    let slow = Fortune::Answered(Duration::from_secs(1), Duration::from_secs(1));
    open(&world).fortunes.insert(agents()[0], slow);
    let replica = start(1, &world);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(replica.roster.claim(agent, &*replica.poller).await, Claimed::Here);
    sleep(Duration::from_secs(3)).await;
    assert!(open(&world).polling.values().all(|polling| polling.contains(&replica.me)));
    assert_eq!(open(&world).polling.len(), 13);
    assert!(open(&world).history.iter().all(|(_, what)| !what.contains("polls no more")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_its_time_is_no_lease() {
    let world = world_of(1, 0);
    let agent = agents()[0];
    let late = Fortune::Answered(Duration::ZERO, LEASE.mul_f64(0.95));
    open(&world).fortunes.insert(agent, late);
    let replica = start(1, &world);
    assert_eq!(replica.roster.claim(agent, &*replica.poller).await, Claimed::Unknown);
    sleep(LEASE * 3).await;
    assert!(open(&world).polling.is_empty(), "{:#?}", open(&world).history);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_costs_no_lease_of_the_others() {
    let count = LEASES_AT_ONCE * 8;
    let world = world_of(count, 0);
    let _replica = start(1, &world);
    sleep(LEASE).await;
    assert_eq!(open(&world).polling.len(), count);
    open(&world).fortunes.insert(many_agents(1)[0], Fortune::Lost);
    sleep(LEASE * 2).await;
    let polling = open(&world).polling.values().filter(|polling| !polling.is_empty()).count();
    assert!(polling >= count - LEASES_AT_ONCE, "{polling}");
    assert!(polling < count);
}

/// Each request takes half a second. One after the other, they would take longer than a lease
/// lasts.
#[tokio::test(start_paused = true)]
async fn the_leases_of_ten_thousand_agents_are_renewed_in_time_by_a_slow_store() {
    let world = world_of(9_800, 0);
    let half = ANSWER_MAX / 2;
    let slow = many_agents(9_800).into_iter().map(|agent| (agent, Fortune::Answered(half, half)));
    open(&world).fortunes.extend(slow);
    let _replica = start(1, &world);
    sleep(LEASE * 4).await;
    assert_eq!(open(&world).polling.len(), 9_800);
    assert!(open(&world).history.iter().all(|(_, what)| !what.contains("polls no more")));
}

/// Read one after the other, the sessions would take ten times as long as a lease lasts.
#[tokio::test(start_paused = true)]
async fn a_thousand_agents_whose_sessions_have_to_be_read_are_polled_before_a_lease_is_over() {
    let world = world_of(1_000, 0);
    open(&world).reading_time = Some(Duration::from_millis(160));
    let _replica = start(1, &world);
    sleep(LEASE / 4).await;
    assert_eq!(open(&world).polling.len(), 1_000);
}

/// A session that cannot be read is left for later, and does not delay the others.
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_sessions_are_read() {
    let world = world_of(1_000, 0);
    open(&world).reading_time = Some(LEASE * 2);
    let replica = start(1, &world);
    sleep(LEASE * 2).await;
    let held = open(&world).leases.values().filter(|(owner, ..)| *owner == replica.me).count();
    assert_eq!(held, 1_000);
    open(&world).reading_time = Some(Duration::from_millis(50));
    sleep(LEASE).await;
    assert_eq!(open(&world).polling.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_comes_late_leaves_what_was_claimed_since() {
    let world = world_of(1, 0);
    let agent = agents()[0];
    let replica = start(1, &world);
    sleep(LEASE).await;
    open(&world).fortunes.insert(agent, Fortune::Unanswered(Duration::from_secs(3)));
    open(&world).agents.clear();
    // Waits for a turn, and for the poll that ends in it.
    while open(&world).is_polling(agent, replica.me) || !replica.roster.held().agents().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    open(&world).fortunes.clear();
    open(&world).agents.push(agent);
    assert_eq!(replica.roster.claim(agent, &*replica.poller).await, Claimed::Here);
    let other = start(2, &world);
    sleep(LEASE / 2).await;
    assert_eq!(open(&world).wrong, Vec::<String>::new());
    drop(other);
}
