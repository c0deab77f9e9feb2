//! Who is there, and who polls for whom.

use std::time::Duration;

use ccgateway_test_support::RedisServer;

use super::world::{LEASE, Replica, agent, all_listen, ask, registered, shared, tenant, until};
use crate::{
    cluster::{LeaseRequest, Leases as _},
    session::SessionStore as _,
    tenant::SharedSignIns as _,
};

#[tokio::test]
async fn replicas_see_each_other_until_they_leave() {
    let server = RedisServer::start().await;
    let [left, right] = [1, 1].map(|key| shared(&server, &[key]).leases(&tenant()));
    assert_eq!((left.time(), left.replicas()), (LEASE, 1));
    assert!(left.read_membership().await.expect("read").replicas.is_empty(), "looking adds nobody");
    let alone = left.membership().await.expect("told").replicas;
    assert_eq!((alone.len(), left.replicas()), (1, 1));
    let mut both = right.membership().await.expect("told").replicas;
    assert_eq!((both.len(), right.replicas(), left.replicas()), (2, 2, 1));
    assert_eq!(left.read_membership().await.expect("read").replicas, both);
    let third = shared(&server, &[1]).leases(&tenant());
    assert_eq!(third.membership().await.expect("told").replicas.len(), 3);
    assert_eq!(left.read_membership().await.expect("read").replicas.len(), 3);
    third.leave().await.expect("left");
    left.leave().await.expect("left");
    both.retain(|replica| *replica != alone[0]);
    assert_eq!(right.membership().await.expect("told").replicas, both);
    assert_eq!(right.replicas(), 1);
}

#[tokio::test]
async fn the_agents_whom_the_bridge_has_signed_in_are_to_be_kept() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    let leases = replica.shared.leases(&tenant());
    let session = replica.put(1001, "a").await;
    let owners = registered("b", Duration::from_secs(60));
    replica.store.put(agent(1002), owners).await.expect("stored");
    for membership in [leases.membership().await, leases.read_membership().await] {
        assert_eq!(membership.expect("told").agents, [agent(1001)]);
    }
    let kept: Vec<String> = ask(&server, &["SMEMBERS", "test:{acme}:kept"]).await;
    assert_eq!(kept, ["1001"]);
    replica.store.remove(agent(1001), session.version).await.expect("removed");
    assert!(leases.read_membership().await.expect("told").agents.is_empty());
}

#[tokio::test]
async fn a_lease_is_one_replicas_until_a_later_request_gives_it_back() {
    let server = RedisServer::start().await;
    let [left, right] = [1, 1].map(|key| shared(&server, &[key]).leases(&tenant()));
    let all = || vec![agent(1001), agent(1002), agent(1003)];
    let two = || vec![agent(1001), agent(1002)];
    let left_id = left.membership().await.expect("told").replicas[0];
    assert_eq!(left.hold(two(), LeaseRequest(2)).await.expect("held"), two());
    assert_eq!(right.hold(all(), LeaseRequest(1)).await.expect("held"), [agent(1003)]);
    assert_eq!(left.hold(all(), LeaseRequest(1)).await.expect("renewed"), two());
    assert!(left.hold(Vec::new(), LeaseRequest(9)).await.expect("nothing asked").is_empty());
    let left_ms: i64 = ask(&server, &["PTTL", "test:{acme}:lease:1001"]).await;
    assert!((10_000..=15_000).contains(&left_ms), "{left_ms}");

    let taken = right.held_by_others(all()).await.expect("told");
    assert_eq!(taken, [(agent(1001), left_id), (agent(1002), left_id)]);
    let others = left.held_by_others(all()).await.expect("told");
    assert_eq!(others.iter().map(|(agent, _)| *agent).collect::<Vec<_>>(), [agent(1003)]);
    assert!(right.held_by_others(Vec::new()).await.expect("told").is_empty());

    // A release that comes late, and one of somebody else.
    left.release(two(), LeaseRequest(2)).await.expect("answered");
    right.release(all(), LeaseRequest(9)).await.expect("answered");
    assert_eq!(right.hold(all(), LeaseRequest(10)).await.expect("held"), [agent(1003)]);
    left.release(vec![agent(1001)], LeaseRequest(3)).await.expect("released");
    left.release(Vec::new(), LeaseRequest(3)).await.expect("nothing asked");
    let held = right.hold(all(), LeaseRequest(11)).await.expect("held");
    assert_eq!(held, [agent(1001), agent(1003)]);
}

#[tokio::test]
async fn replicas_hear_each_other_call_out_and_stir() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let [leases, others] = [&left, &right].map(|replica| replica.shared.leases(&tenant()));
    let me = leases.membership().await.expect("told").replicas[0];
    let is_heard =
        || others.heartbeats().contains_key(&me) && leases.heartbeats().contains_key(&me);
    until("it is heard that it has written to the list", is_heard).await;
    let before = tokio::time::Instant::now();
    leases.send_heartbeat().await.expect("told");
    until("it is heard again", || others.heartbeats().get(&me).is_some_and(|at| *at > before))
        .await;

    for stir in [0, 1] {
        let news = right.shared.news(&tenant());
        match stir {
            0 => leases.leave().await.expect("left"),
            _ => leases.release(vec![agent(1001)], LeaseRequest(1)).await.expect("released"),
        }
        let stirred = tokio::time::timeout(Duration::from_secs(20), news.stirred.notified()).await;
        assert!(stirred.is_ok(), "{stir}");
    }
}

#[tokio::test]
async fn moments_for_sign_ins_are_shared_and_taken_half_a_second_ahead_at_most() {
    let server = RedisServer::start().await;
    let [left, right] = [1, 1].map(|key| shared(&server, &[key]).leases(&tenant()));
    let hour = Duration::from_secs(3600);
    let one = left.sign_in_moments(2, hour).await.expect("taken");
    assert_eq!((one.count, one.wait), (1, Duration::ZERO));
    let none = right.sign_in_moments(2, hour).await.expect("answered");
    assert_eq!(none.count, 0);
    let longest = hour.saturating_sub(Duration::from_millis(500));
    assert!((hour / 2..=longest).contains(&none.wait), "{none:?}");

    for (name, asked, taken) in [("few", 10, 10), ("many", 1_000_000, 500_001)] {
        let id = crate::id::TenantId::parse(name).expect("an id");
        let leases = shared(&server, &[1]).leases(&id);
        // No interval is as short as can be: a microsecond.
        let moments = leases.sign_in_moments(asked, Duration::ZERO).await.expect("taken");
        assert_eq!((moments.count, moments.wait), (taken, Duration::ZERO));
    }
}

/// Nobody could take it, or ask for it by what was read of it.
#[tokio::test]
async fn a_lease_that_is_longer_than_any_holds_nobody_up() {
    let server = RedisServer::start().await;
    let leases = shared(&server, &[1]).leases(&tenant());
    let hex = "0".repeat(2000);
    for (number, forged) in (1..).zip([format!("ab:9:{hex}"), format!("{hex}:9:x"), hex]) {
        let _: String = ask(&server, &["SET", "test:{acme}:lease:1001", &forged]).await;
        let held = leases.hold(vec![agent(1001)], LeaseRequest(number)).await.expect("answered");
        assert_eq!(held, [agent(1001)], "{number}");
    }
}

/// The tenant may have gone and come back while the process ran, and the others remember its numbers.
#[tokio::test]
async fn the_numbers_of_requests_grow_for_as_long_as_the_replica_has_its_id() {
    let server = RedisServer::start().await;
    let replica = shared(&server, &[1]);
    let before = replica.leases(&tenant());
    before.hold(vec![agent(1001)], LeaseRequest(50)).await.expect("held");
    assert_eq!(replica.leases(&tenant()).last_request(), LeaseRequest(50));
}

/// Each would take all agents, also those of the others, whose leases are gone too.
#[tokio::test]
async fn replicas_that_hear_each_other_need_no_list_to_know_of_each_other() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let [left, right] = [&left, &right].map(|replica| replica.shared.leases(&tenant()));
    right.membership().await.expect("told");
    let me = left.membership().await.expect("told").replicas;
    assert_eq!(me.len(), 2);
    let are_heard =
        || [&left, &right].iter().all(|it| me.iter().all(|id| it.heartbeats().contains_key(id)));
    until("both are heard", are_heard).await;
    let _: String = ask(&server, &["FLUSHALL"]).await;
    assert_eq!(left.membership().await.expect("told").replicas, me);
    assert_eq!(right.membership().await.expect("told").replicas, me);
    let _: String = ask(&server, &["FLUSHALL"]).await;
    right.leave().await.expect("left");
    let begun = tokio::time::Instant::now();
    while left.membership().await.expect("told").replicas.len() > 1 {
        assert!(begun.elapsed() < LEASE / 2, "it has left");
    }
}
