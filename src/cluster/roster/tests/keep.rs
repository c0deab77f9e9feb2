//! Replicas that go on polling while the store does not answer (`store.when_away = "keep"`).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::world::{LEASE, Running, agents, kill, new_world, open, start_with, world_of};
use crate::{
    cluster::{LEASES_AT_ONCE, LeaseRequest, ReplicaId, preferred_replica},
    config::WhenAway,
    telemetry::log::captured::Captured,
    tenant::{Claimed, LeaseCounts, PollOwnership as _, Polls as _},
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
    for replica in &running {
        let own = before.values().filter(|polling| polling.contains(&replica.me)).count();
        assert!(own > 0, "each has something to go on with");
    }
    open(&world).cut.extend([ReplicaId(1), ReplicaId(2)]);
    open(&world).history.clear();
    sleep(LEASE * 5).await;
    let polls = |(_, what): &&(Duration, String)| what.contains("poll");
    let changes: Vec<_> = open(&world).history.iter().filter(polls).cloned().collect();
    assert_eq!(changes, [], "no poll begins or ends");
    assert_eq!(open(&world).polling, before);
    let overdue: usize = running.iter().map(|replica| replica.counts().overdue).sum();
    assert_eq!(overdue, agents().len());
    assert!(agents().iter().all(|agent| !running[0].roster.is_sole_owner(*agent)));

    open(&world).cut.clear();
    sleep(LEASE).await;
    assert_eq!(open(&world).polling, before);
    assert_eq!(open(&world).wrong, Vec::<String>::new());
    assert_eq!(running[0].counts(), LeaseCounts::default());
}

#[tokio::test(start_paused = true)]
async fn one_warning_names_all_agents_whose_leases_end() {
    let log = Captured::start();
    // More leases than the requests at once can hold, so that they end one after the other.
    let count = LEASES_AT_ONCE * 12;
    let world = world_of(count, 0);
    let replica = keeping(1, &world);
    sleep(LEASE * 3).await;
    open(&world).cut.insert(replica.me);
    sleep(LEASE * 3).await;
    let [line] = &log.with("leases have ended")[..] else {
        panic!("{:?}", log.with("leases have ended"))
    };
    assert!(line.contains(&format!("agents={count}")), "{line}");
}

#[tokio::test(start_paused = true)]
async fn polls_that_end_by_themselves_are_not_counted_as_polled_without_a_lease() {
    let world = new_world();
    let replica = keeping(1, &world);
    sleep(LEASE * 3).await;
    open(&world).cut.insert(replica.me);
    sleep(LEASE * 2).await;
    let agent = agents()[0];
    open(&world).agents.retain(|known| *known != agent);
    replica.poller.stop(agent);
    replica.roster.polls_ended(agent, &*replica.poller);
    assert_eq!(replica.counts().overdue, agents().len() - 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_cut_off_stops_for_those_whom_another_has_taken_over() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    open(&world).cut.insert(ReplicaId(1));
    sleep(LEASE * 3).await;
    // Both poll for them. That is the price of "keep".
    assert!(running[0].counts().overdue > 0);
    assert!(open(&world).polling.values().any(|polling| polling.len() == 2));

    open(&world).cut.clear();
    sleep(LEASE * 2).await;
    assert!(open(&world).polling.values().all(|polling| polling.len() == 1));
    assert_eq!(running[0].counts(), LeaseCounts::default());
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
    assert!(replica.roster.is_sole_owner(agent));
}

/// Like after a suspended machine: the store answers, and has given the leases to another replica.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_without_a_failure_of_the_store_is_not_kept() {
    let log = Captured::start();
    let world = new_world();
    let mut asleep = keeping(1, &world);
    let other = keeping(2, &world);
    sleep(LEASE * 3).await;
    let count = |me| open(&world).polling.values().filter(|polling| polling.contains(&me)).count();
    let own = count(asleep.me);
    assert!(own > 0);
    asleep.stops_turning();
    sleep(LEASE * 2).await;
    assert_eq!(count(other.me), agents().len());
    // The replica wakes, and the store is away by now.
    open(&world).cut.insert(asleep.me);
    asleep.turns_again();
    sleep(LEASE * 2).await;
    assert_eq!(count(asleep.me), 0, "it polls for agents of the other one");
    let lines = log.with("did not renew in time");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&format!("agents={own}")), "{lines:?}");
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
    assert_eq!(replica.counts(), dropped);
    open(&world).cut.clear();
    sleep(LEASE).await;
    assert_eq!(replica.counts(), LeaseCounts::default());
    assert!(open(&world).polling.values().all(|polling| polling.len() == 1));
}

/// The store begins to refuse after a lease was released and before the next replica has it.
#[tokio::test(start_paused = true)]
async fn who_is_handed_over_when_the_store_begins_to_refuse_is_taken_back_if_nobody_has_the_lease()
{
    for other in [None, Some(ReplicaId(2))] {
        let world = world_of(1, 0);
        let replica = keeping(1, &world);
        sleep(LEASE).await;
        let agent = agents()[0];
        prefers_another(&world);
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

/// The other replica knows that it goes, and takes the agents over when their leases are free.
#[tokio::test(start_paused = true)]
async fn whom_a_replica_leaves_behind_while_the_store_is_away_another_one_takes() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    // Longer than the other replica takes to notice it.
    open(&world).polls_last = LEASE / 2;
    running[0].stops_turning();
    let (roster, poller) = (running[0].roster.clone(), running[0].poller.clone());
    let leaving = tokio::spawn(async move { roster.leave(&*poller).await });
    sleep(LEASE / 3).await;
    open(&world).cut.extend([ReplicaId(1), ReplicaId(2)]);
    sleep(LEASE * 3).await;
    leaving.abort();
    let me = running[1].me;
    assert!(open(&world).polling.values().all(|polling| polling.iter().eq([&me])));
    assert_eq!(open(&world).wrong, Vec::<String>::new());
}

/// Nobody knows that it goes away, so nobody would take its agents over.
#[tokio::test(start_paused = true)]
async fn a_replica_that_is_to_leave_while_the_store_is_away_polls_on_for_as_long_as_it_may() {
    let world = new_world();
    let replica = keeping(1, &world);
    sleep(LEASE * 3).await;
    open(&world).cut.insert(replica.me);
    replica.stops_turning();
    let leaving = replica.roster.leave(&*replica.poller);
    assert!(timeout(LEASE * 3, leaving).await.is_err(), "it has nobody to leave them to");
    assert!(open(&world).polling.values().all(|polling| polling.contains(&replica.me)));
}

/// The outage begins after a lease was released and before the next replica takes it.
#[tokio::test(start_paused = true)]
async fn who_is_between_two_replicas_when_the_store_goes_away_is_taken_back() {
    let world = world_of(1, 0);
    let replica = keeping(1, &world);
    sleep(LEASE).await;
    let agent = agents()[0];
    prefers_another(&world);
    while open(&world).leases.contains_key(&agent) {
        sleep(Duration::from_millis(10)).await;
    }
    open(&world).cut.insert(replica.me);
    sleep(LEASE * 2).await;
    assert!(open(&world).is_polling(agent, replica.me));
}

/// The outage begins during the last poll before the hand-over.
#[tokio::test(start_paused = true)]
async fn who_was_about_to_be_handed_over_when_the_store_goes_away_is_polled_on() {
    let world = world_of(1, 0);
    let replica = keeping(1, &world);
    sleep(LEASE).await;
    let agent = agents()[0];
    open(&world).polls_last = LEASE / 3;
    prefers_another(&world);
    while open(&world).finishing().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    open(&world).cut.insert(replica.me);
    sleep(LEASE * 2).await;
    assert!(open(&world).is_polling(agent, replica.me));
}

/// Sessions that are slow to read must not delay the renewal of leases.
#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_the_sessions_of_those_left_behind_are_read() {
    let world = world_of(1_000, 0);
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    {
        let mut world = open(&world);
        world.polls_last = LEASE * 2;
        world.reading_time = Some(LEASE * 2);
    }
    running[0].stops_turning();
    let (roster, poller) = (running[0].roster.clone(), running[0].poller.clone());
    let leaving = tokio::spawn(async move { roster.leave(&*poller).await });
    sleep(LEASE + LEASE / 2).await;
    let me = running[1].me;
    let held = open(&world).leases.values().filter(|(owner, ..)| *owner == me).count();
    let kept = open(&world).polling.values().filter(|polling| polling.contains(&me)).count();
    assert!(kept > 300 && held == kept, "{held} leases for {kept} polls");
    leaving.abort();
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_the_store_is_slow_to_tell_who_has_the_others() {
    let world = world_of(LEASES_AT_ONCE * 12, 0);
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    {
        let mut world = open(&world);
        world.polls_last = LEASE * 3;
        world.looking_time = LEASE / 4;
    }
    running[0].stops_turning();
    let (roster, poller) = (running[0].roster.clone(), running[0].poller.clone());
    let leaving = tokio::spawn(async move { roster.leave(&*poller).await });
    sleep(LEASE * 2).await;
    let me = running[1].me;
    let held = open(&world).leases.values().filter(|(owner, ..)| *owner == me).count();
    let kept = open(&world).polling.values().filter(|polling| polling.contains(&me)).count();
    assert!(kept > LEASES_AT_ONCE * 4 && held == kept, "{held} leases for {kept} polls");
    leaving.abort();
}

/// It can still say that it goes away: the store does not refuse requests that take no memory.
#[tokio::test(start_paused = true)]
async fn whom_a_replica_leaves_behind_while_the_store_takes_no_writes_one_other_takes() {
    for lasted in [Duration::ZERO, LEASE * 2] {
        let world = new_world();
        let running = [keeping(1, &world), keeping(2, &world), keeping(3, &world)];
        sleep(LEASE * 3).await;
        let own =
            open(&world).polling.values().filter(|some| some.contains(&running[0].me)).count();
        assert!(own > 0);
        open(&world).refuses_writes = true;
        sleep(lasted).await;
        running[0].leaves().await;
        sleep(LEASE * 2).await;
        for (agent, polling) in &open(&world).polling {
            assert_eq!(polling.len(), 1, "{agent} is polled by {polling:?}");
            assert!(!polling.contains(&running[0].me), "{agent}");
        }
    }
}

/// It has not said that it goes, but the others no longer receive its heartbeats.
#[tokio::test(start_paused = true)]
async fn whom_a_replica_that_dies_leaves_behind_while_the_store_takes_no_writes_one_other_takes() {
    for lasted in [Duration::ZERO, LEASE / 2, LEASE * 3] {
        let world = new_world();
        let running = [keeping(1, &world), keeping(2, &world), keeping(3, &world)];
        sleep(LEASE * 3).await;
        open(&world).refuses_writes = true;
        sleep(lasted).await;
        let before = open(&world).polling.clone();
        kill(&running[0]);
        sleep(LEASE * 3).await;
        for (agent, polling) in &open(&world).polling {
            assert_eq!(polling.len(), 1, "{agent} is polled by {polling:?} after {lasted:?}");
            assert!(!polling.contains(&running[0].me), "{agent}");
            let stays = !before[agent].contains(&running[0].me);
            assert!(!stays || *polling == before[agent], "{agent} is moved");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_hangs_keeps_nobody_from_reading() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world), keeping(3, &world)];
    sleep(LEASE * 3).await;
    {
        let mut world = open(&world);
        world.refuses_writes = true;
        world.heartbeat_time = LEASE;
    }
    sleep(LEASE * 2).await;
    running[0].leaves().await;
    sleep(LEASE * 2).await;
    for (agent, polling) in &open(&world).polling {
        assert_eq!(polling.len(), 1, "{agent} is polled by {polling:?}");
        assert!(!polling.contains(&running[0].me), "{agent}");
    }
}

/// Then missing heartbeats of others show nothing.
#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_hear_itself_takes_nobody_over() {
    let world = new_world();
    let running = [keeping(1, &world), keeping(2, &world)];
    sleep(LEASE * 3).await;
    open(&world).refuses_writes = true;
    sleep(LEASE * 3).await;
    let before = open(&world).polling.clone();
    open(&world).deaf.extend(running.each_ref().map(|replica| replica.me));
    sleep(LEASE * 5).await;
    assert_eq!(open(&world).polling, before);
    // Heartbeats of all are received again, one after the other.
    open(&world).deaf.clear();
    sleep(LEASE * 5).await;
    assert_eq!(open(&world).polling, before);
}

/// Without a lease nobody can sign them in, so new polls would lose them again.
#[tokio::test(start_paused = true)]
async fn whoever_is_lost_while_the_store_is_away_is_not_begun_again_until_it_is_back() {
    for is_readable in [true, false] {
        let world = world_of(1, 0);
        let agent = agents()[0];
        let running = [keeping(1, &world), keeping(2, &world)];
        sleep(LEASE * 3).await;
        let first = usize::from(!open(&world).is_polling(agent, running[0].me));
        let (leaves, stays) = (&running[first], &running[1 - first]);
        open(&world).polls_last = LEASE / 2;
        leaves.stops_turning();
        let (roster, poller) = (leaves.roster.clone(), leaves.poller.clone());
        let leaving = tokio::spawn(async move { roster.leave(&*poller).await });
        sleep(LEASE / 3).await;
        if is_readable {
            open(&world).refuses_writes = true;
        } else {
            open(&world).cut.extend([leaves.me, stays.me]);
        }
        sleep(LEASE * 3).await;
        leaving.abort();
        assert!(open(&world).is_polling(agent, stays.me), "it is left behind");

        lose(stays, agent);
        sleep(LEASE * 2).await;
        assert!(!open(&world).is_polling(agent, stays.me), "readable: {is_readable}");
        open(&world).refuses_writes = false;
        open(&world).cut.clear();
        sleep(LEASE * 2).await;
        assert!(open(&world).is_polling(agent, stays.me));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_lost_after_being_taken_back_is_not_begun_again() {
    let world = world_of(1, 0);
    let replica = keeping(1, &world);
    sleep(LEASE).await;
    let agent = agents()[0];
    prefers_another(&world);
    while open(&world).leases.contains_key(&agent) {
        sleep(Duration::from_millis(10)).await;
    }
    open(&world).cut.insert(replica.me);
    while !open(&world).is_polling(agent, replica.me) {
        sleep(Duration::from_millis(10)).await;
    }
    lose(&replica, agent);
    sleep(LEASE).await;
    assert!(!open(&world).is_polling(agent, replica.me));
}

/// Another replica comes, and should poll for the first agent.
fn prefers_another(world: &super::world::Shared) {
    let is_preferred =
        |other: &ReplicaId| preferred_replica(agents()[0], &[ReplicaId(1), *other]) == Some(*other);
    let other = (2..99).map(ReplicaId).find(is_preferred).expect("one of two");
    open(world).alive.insert(other, Instant::now() + LEASE * 99);
}

/// Acts like a keeper that finds the session lost and must not sign the agent in.
fn lose(replica: &Running, agent: crate::id::AgentId) {
    replica.poller.stop(agent);
    replica.roster.polls_ended(agent, &*replica.poller);
}
