use std::time::Duration;

use ccgateway_test_support::RedisServer;

use super::*;
use crate::{
    cluster::{
        store::tests::{deaf, forbid, put, taken_by_others},
        tests::world::{agent, ask, shared, tenant},
    },
    session::{Owner, SharedStores as _},
    telemetry::log::captured::Captured,
};

/// Two sessions and a password, sealed with the first key.
async fn sealed_with_an_old_key(server: &RedisServer) {
    let old = deaf(server, &[1]);
    for id in [1001, 1002] {
        put(&old, id, "a").await;
    }
    let values = shared(server, &[1]).sealed_values(&tenant());
    let owner = Owner { agent: agent(1001), session: None };
    values.put(SealedKind::Rejected, owner, b"no", Duration::from_secs(60)).await;
}

#[tokio::test]
async fn what_is_sealed_anew_is_told_once_and_counted() {
    let server = RedisServer::start().await;
    sealed_with_an_old_key(&server).await;
    let store = deaf(&server, &[2, 1]);
    put(&store, 1003, "new").await;
    let log = Captured::start();
    for _ in 0..2 {
        store.seal_anew().await.expect("sealed");
    }
    let [line] = &log.with("values that were sealed with another key")[..] else {
        panic!("{log:?}")
    };
    assert!(line.ends_with("sessions=2 passwords=1"), "{line}");
}

#[tokio::test]
async fn a_session_that_is_read_under_an_old_key_is_noted_and_sealed_anew() {
    let server = RedisServer::start().await;
    sealed_with_an_old_key(&server).await;
    let store = deaf(&server, &[2, 1]);
    put(&store, 1003, "new").await;
    for id in [1002, 1003] {
        store.load(agent(id)).await.expect("read");
    }
    assert_eq!(*store.outdated(), [agent(1002)].into());
    let log = Captured::start();
    store.seal_noted().await.expect("sealed");
    let told = log.with("values that were sealed with another key");
    assert!(told.len() == 1 && told[0].ends_with("sessions=1 passwords=0"), "{told:?}");
    assert!(store.outdated().is_empty());
    let new = deaf(&server, &[2]);
    for (id, is_readable) in [(1001, false), (1002, true), (1003, true)] {
        let loaded = new.load(agent(id)).await.expect("read");
        assert_eq!(loaded.is_some(), is_readable, "{id}");
    }
}

#[tokio::test]
async fn what_could_not_be_sealed_anew_stays_noted() {
    let server = RedisServer::start().await;
    sealed_with_an_old_key(&server).await;
    let store = deaf(&server, &[2, 1]);
    store.load(agent(1001)).await.expect("read");
    forbid(&server, "hset").await;
    store.seal_noted().await.expect_err("nothing can be sealed");
    let _: String = ask(&server, &["ACL", "SETUSER", "default", "+hset"]).await;
    store.seal_noted().await.expect("sealed");
    let loaded = deaf(&server, &[2]).load(agent(1001)).await.expect("read");
    assert!(loaded.is_some() && store.outdated().is_empty());
}

#[tokio::test]
async fn keys_that_somebody_else_uses_stop_no_sealing_and_missing_rights_do() {
    let server = RedisServer::start().await;
    sealed_with_an_old_key(&server).await;
    let store = deaf(&server, &[2, 1]);
    store.load(agent(1001)).await.expect("read");
    forbid(&server, "hset").await;
    store.seal_anew().await.expect_err("nothing can be sealed");
    let _: String = ask(&server, &["ACL", "SETUSER", "default", "+hset"]).await;
    // Then the list of sessions can neither be read nor written.
    taken_by_others(&server, "test:{acme}:kept").await;
    store.seal_anew().await.expect("it goes on");
    forbid(&server, "smembers").await;
    store.kept().await.expect_err("there may be such a list");
}
