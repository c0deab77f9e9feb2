//! Redis hangs, dies, and comes back without its data.

use std::time::Duration;

use ccgateway_bridge::{
    cluster::redis::LinkState,
    session::{EndOf, SessionStore as _, StoreError},
};
use ccgateway_test_support::RedisServer;
use tokio::time::Instant;

use crate::support::{Replica, agent, all_listen, eventually, registered, tenant};

#[tokio::test]
async fn while_redis_hangs_warm_reads_and_changes_go_on() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "first").await;
    right.hears(1001, Some("first")).await;
    server.freeze();

    assert_eq!(left.knows(1001).as_deref(), Some("first"));
    let second = left.renew(&first, 1001, "second").await.expect("renewed here");
    left.put(1002, "new").await;
    assert_eq!(left.knows(1001).as_deref(), Some("second"));
    assert_eq!(left.store.unsynced(), 2);
    // Once it is known, nobody waits for Redis any more.
    let began = Instant::now();
    for id in 2001..2101 {
        let put = left.put(id, "made-alone").await;
        left.renew(&put, id, "renewed-alone").await.expect("renewed here");
        left.remove(id, left.cached(id).expect("a session").version).await;
        left.store.load(agent(id)).await.expect_err("nobody can know");
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(matches!(left.shared.link().state(), LinkState::Down(_)));
    assert_eq!(right.knows(1001).as_deref(), Some("first"), "it has not heard yet");

    server.thaw();
    right.hears(1001, Some("second")).await;
    right.hears(1002, Some("new")).await;
    assert_eq!(right.cached(1001).unwrap().version, second.version);
    eventually("nothing to be left", || left.store.unsynced() == 0).await;
}

#[tokio::test]
async fn a_cold_read_fails_fast_while_redis_is_down() {
    let mut server = RedisServer::start().await;
    let replica = Replica::of(&server);
    server.kill().await;
    for _ in 0..20 {
        let asked = Instant::now();
        let failed = replica.store.load(agent(1001)).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    assert!(replica.shared.link().failures() > 0);
}

/// A keeper that held on to the session it saw last would sign the agent in again.
#[tokio::test]
async fn an_end_at_another_replica_is_known_while_redis_is_down() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let ended = left.put(1001, "ended").await;
    left.put(1002, "goes-on").await;
    right.hears(1001, Some("ended")).await;
    right.hears(1002, Some("goes-on")).await;
    left.remove(1001, ended.version).await;
    right.hears(1001, None).await;
    server.kill().await;
    right.store.load(agent(1001)).await.expect_err("it may be signed in again elsewhere");
    assert!(right.store.has_ended(agent(1001)));
    assert!(!right.store.has_ended(agent(1002)));
    assert!(!right.store.has_ended(agent(1003)), "nothing was heard of this one");
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_gets_everything_again() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let old = left.put(1001, "old").await;
    left.store.put(agent(1002), registered("owned", Duration::from_secs(60))).await.unwrap();
    left.store.put(agent(1003), registered("short", Duration::from_millis(1))).await.unwrap();
    let ended = left.put(1004, "ended").await;
    right.hears(1001, Some("old")).await;
    right.hears(1002, Some("owned")).await;
    right.hears(1004, Some("ended")).await;
    server.kill().await;
    left.renew(&old, 1001, "renewed").await.expect("renewed here");
    left.remove(1004, ended.version).await;
    right.put(1005, "from-right").await;
    server.restart().await;

    right.hears(1001, Some("renewed")).await;
    right.hears(1004, None).await;
    eventually("nothing to be left", || left.store.unsynced() + right.store.unsynced() == 0).await;
    // Whether the message came before the subscription or after it.
    left.asks(1005).await.expect("Redis has been told");
    let late = Replica::of(&server);
    for (id, expected) in
        [(1001, Some("renewed")), (1002, Some("owned")), (1003, None), (1004, None)]
    {
        late.asks(id).await;
        assert_eq!(late.knows(id).as_deref(), expected, "{id}");
    }
}

#[tokio::test]
async fn of_two_separate_changes_the_newer_wins() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    left.put(1001, "first").await;
    left.put(1002, "first").await;
    right.hears(1001, Some("first")).await;
    right.hears(1002, Some("first")).await;
    server.kill().await;
    left.put(1001, "older").await;
    right.put(1001, "newer").await;
    let apart = left.put(1002, "signed-in").await;
    let stale = right.cached(1002).unwrap();
    right.remove(1002, stale.version).await;
    assert!(apart.version > stale.version);
    server.restart().await;
    for replica in [&left, &right] {
        replica.hears(1001, Some("newer")).await;
        replica.hears(1002, Some("signed-in")).await;
    }
}

#[tokio::test]
async fn a_sign_out_without_redis_ends_a_session_that_another_replica_has_renewed() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let session = left.put(1001, "a").await;
    right.hears(1001, Some("a")).await;
    server.kill().await;
    left.store.sign_out(agent(1001), &session, EndOf::Session).await.expect("ended here");
    let renewed = right.renew(&session, 1001, "renewed").await.expect("renewed here");
    server.restart().await;
    right.hears(1001, None).await;
    eventually("nothing to be left", || left.store.unsynced() + right.store.unsynced() == 0).await;
    for replica in [&left, &right, &Replica::of(&server)] {
        assert!(replica.asks(1001).await.is_none() && replica.store.is_let_go(agent(1001)));
    }
    let again = left.put(1001, "again").await;
    assert!(again.version > renewed.version);
    right.asks(1001).await.expect("another session is good");
}

#[tokio::test]
async fn a_replica_that_missed_an_end_does_not_bring_the_session_back() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let put = left.put(1001, "ended").await;
    right.hears(1001, Some("ended")).await;
    // Nobody listens when the session ends, and Redis forgets that it has.
    let mut killer = server.connection().await;
    let _: u64 = ::redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .query_async(&mut killer)
        .await
        .unwrap();
    left.remove(1001, put.version).await;
    assert_eq!(left.store.unsynced(), 0);
    server.kill().await;
    server.restart().await;
    right.hears(1001, None).await;
    assert!(left.asks(1001).await.is_none());
    assert!(Replica::of(&server).asks(1001).await.is_none());
}

#[tokio::test]
async fn a_bridge_starts_before_its_redis() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    left.put(1001, "early").await;
    server.restart().await;
    eventually("Redis to be told", || left.store.unsynced() == 0).await;
    right.asks(1001).await.expect("a session");
    assert_eq!(right.knows(1001).as_deref(), Some("early"));
}

#[tokio::test]
async fn a_read_succeeds_after_a_broken_connection() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    replica.put(1001, "a").await;
    for _ in 0..20 {
        let mut killer = server.connection().await;
        let _: u64 = ::redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut killer)
            .await
            .unwrap();
        replica.store.load(agent(1001)).await.expect("asked again").expect("a session");
        replica.put(1001, "b").await;
        assert_eq!(replica.store.unsynced(), 0);
    }
}

#[tokio::test]
async fn a_sessions_password_is_deleted_with_it_however_late_redis_gets_the_end() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    let put = replica.put(1001, "a").await;
    let key = replica.shared.keys(&tenant()).credentials(agent(1001));
    let mut connection = server.connection().await;
    let mut set = ::redis::cmd("SET");
    let _: () = set.arg(&key).arg("sealed").query_async(&mut connection).await.unwrap();
    replica.renew(&put, 1001, "b").await.expect("renewed");
    let mut exists = ::redis::cmd("EXISTS");
    exists.arg(&key);
    assert!(exists.query_async::<bool>(&mut connection).await.unwrap());

    server.freeze();
    replica.remove(1001, replica.cached(1001).expect("a session").version).await;
    server.thaw();
    eventually("nothing to be left", || replica.store.unsynced() == 0).await;
    assert!(!exists.query_async::<bool>(&mut connection).await.unwrap());
}
