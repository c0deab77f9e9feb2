//! Replicas with one Redis.

use std::time::Duration;

use ccgateway_bridge::{
    keyring::{EncryptionKey, Keyring},
    session::{Entry, Origin, SessionStore as _, StoredSession},
};
use ccgateway_test_support::{RedisServer, key};

use crate::support::{Replica, agent, all_listen, made, registered, tenant};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_change_reaches_the_others_without_being_asked_for() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let asked = right.commands();

    let first = left.put(1001, "first").await;
    right.hears(1001, Some("first")).await;
    assert_eq!(right.cached(1001).unwrap().version, first.version);
    left.renew(&first, 1001, "second").await.expect("renewed");
    right.hears(1001, Some("second")).await;
    let newest = left.cached(1001).unwrap();
    left.remove(1001, newest.version).await;
    right.hears(1001, None).await;
    assert_eq!(right.commands(), asked, "a warm read asks nobody");
}

#[tokio::test]
async fn everything_about_a_session_is_shared() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let put = left.store.put(agent(1001), registered("a.Node1", MINUTE)).await.unwrap();

    let loaded = right.store.load(agent(1001)).await.unwrap().expect("a session");
    assert_eq!((loaded.guid.clone(), loaded.origin), (put.guid.clone(), Origin::Registered));
    assert_eq!(loaded.cookies.header().unwrap(), "lb=canary-cookie");
    let late = put.expires_at.unwrap().saturating_duration_since(loaded.expires_at.unwrap());
    assert!(late < Duration::from_secs(5), "{late:?}");
    let renewed = right.renew(&loaded, 1001, "b").await.expect("renewed");
    assert!(renewed.expires_at.unwrap() >= loaded.expires_at.unwrap(), "its time begins anew");
    left.hears(1001, Some("b")).await;
}

#[tokio::test]
async fn a_cold_read_is_one_round_trip_and_a_warm_one_none() {
    let server = RedisServer::start().await;
    let first = Replica::of(&server);
    first.put(1001, "a").await;
    // A server gets to know a script by its first use.
    assert!(first.store.load(agent(1002)).await.unwrap().is_none());
    drop(first);
    let replica = Replica::of(&server);
    all_listen(&server, 1).await;
    assert!(replica.cached(1001).is_none());
    let before = replica.commands();
    replica.store.load(agent(1001)).await.unwrap().expect("a session");
    assert_eq!(replica.commands(), before + 1);
    for _ in 0..1000 {
        replica.cached(1001).expect("a session");
    }
    assert_eq!(replica.commands(), before + 1);
}

#[tokio::test]
async fn of_two_replicas_that_renew_one_session_only_one_does() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "first").await;
    let known = right.store.load(agent(1001)).await.unwrap().unwrap();
    let (by_left, by_right) =
        tokio::join!(left.renew(&first, 1001, "left"), right.renew(&known, 1001, "right"));
    assert!(by_left.is_some() != by_right.is_some(), "{by_left:?} {by_right:?}");
    let winner = if by_left.is_some() { "left" } else { "right" };
    left.hears(1001, Some(winner)).await;
    right.hears(1001, Some(winner)).await;
}

#[tokio::test]
async fn a_late_reply_does_not_bring_back_what_another_replica_has_removed() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "first").await;
    let known = right.store.load(agent(1001)).await.unwrap().unwrap();
    left.remove(1001, first.version).await;
    assert!(right.renew(&known, 1001, "late").await.is_none());
    right.hears(1001, None).await;
    assert!(left.store.load(agent(1001)).await.unwrap().is_none());
}

#[tokio::test]
async fn versions_that_are_ahead_of_the_clock_are_surpassed() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "first").await;
    // As a replica whose clock is an hour ahead would have left it.
    let ahead = first.version + 3_600_000_000;
    let keys = [EncryptionKey::new(key(1))];
    let keyring = Keyring::new("test:", &keys);
    let entry = Entry::new(ahead, made("ahead"));
    let record = StoredSession::of(&tenant(), agent(1001), &entry, Some(&keyring)).expect("sealed");
    let name = left.shared.keys(&tenant()).session(agent(1001));
    let _: () = ::redis::cmd("HSET")
        .arg(name)
        .arg("record")
        .arg(record.encode())
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    let second = right.put(1001, "second").await;
    assert!(second.version > ahead);
    left.hears(1001, Some("second")).await;
}

#[tokio::test]
async fn keys_carry_a_time_after_which_redis_forgets_them() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    replica.store.put(agent(1001), registered("a", MINUTE)).await.unwrap();
    replica.put(1002, "b").await;
    let gone = replica.put(1003, "c").await;
    replica.remove(1003, gone.version).await;
    let mut connection = server.connection().await;
    let keys = replica.shared.keys(&tenant());
    for (id, least, most) in [(1001, 50, 60), (1002, 60 * 60 * 24, i64::MAX), (1003, 600, 3600)] {
        let key = keys.session(agent(id));
        assert_eq!(key, format!("test:{{acme}}:session:{id}"));
        let left: i64 = ::redis::cmd("TTL").arg(key).query_async(&mut connection).await.unwrap();
        assert!((least..=most).contains(&left), "{id}: {left}");
    }
}
