//! The sessions that replicas share.

use std::time::Duration;

use ccgateway_test_support::RedisServer;

use super::world::{
    CAPACITY, Replica, agent, all_listen, ask, guid, made, registered, tenant, until,
};
use crate::{
    keyring::EncryptionKey,
    session::{
        EndOf, Owner, SealedKind, SealedValues, SessionStore as _, SharedStores as _, StoreError,
        StoreState,
    },
};

fn owner() -> Owner {
    Owner { agent: agent(1001), session: Some(7) }
}

async fn get(values: &SealedValues, drawer: SealedKind, owner: Owner) -> Option<Vec<u8>> {
    let found = values.get(drawer, owner).await.expect("read");
    found.map(|plain| plain.to_vec())
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn lifetime(server: &RedisServer, id: u32) -> i64 {
    ask(server, &["PTTL", &format!("test:{{acme}}:session:{id}")]).await
}

#[tokio::test]
async fn what_one_replica_stores_the_others_hear_of_and_can_load() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "a").await;
    right.hears(1001, Some("a")).await;
    assert_eq!((left.store.len(), left.store.unsynced()), (1, 0));
    let renewed = left.store.renew(agent(1001), &first, guid("b")).await.expect("answered");
    assert!(renewed.expect("renewed").version > first.version);
    right.hears(1001, Some("b")).await;
    let late = Replica::of(&server);
    assert_eq!(late.load(1001).await.as_deref(), Some("b"));
    assert_eq!(late.load(1002).await, None);
    assert_eq!(late.knows(1001).as_deref(), Some("b"), "it is remembered");
    let session = right.store.cached(agent(1001)).expect("known");
    right.store.sign_out(agent(1001), &session, EndOf::Session).await.expect("ended");
    left.hears(1001, None).await;
    assert!(left.store.is_let_go(agent(1001)) && left.store.has_ended(agent(1001)));
    assert!(!left.store.is_let_go(agent(1002)) && !left.store.has_ended(agent(1002)));
}

#[tokio::test]
async fn a_sign_out_ends_the_session_whatever_its_version_or_only_the_version_that_was_refused() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let first = left.put(1001, "a").await;
    right.hears(1001, Some("a")).await;
    let renewed = right.store.renew(agent(1001), &first, guid("b")).await.expect("answered");
    assert!(renewed.is_some());
    left.hears(1001, Some("b")).await;
    left.store.sign_out(agent(1001), &first, EndOf::Version).await.expect("answered");
    assert_eq!(left.load(1001).await.as_deref(), Some("b"));
    left.store.sign_out(agent(1001), &first, EndOf::Session).await.expect("ended");
    right.hears(1001, None).await;
    assert!(right.store.is_let_go(agent(1001)));
}

#[tokio::test]
async fn only_the_newest_is_renewed_and_only_the_named_one_is_removed() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let first = left.put(1001, "a").await;
    let second = right.put(1001, "b").await;
    assert!(second.version > first.version);
    // Whether or not the other has been heard by then.
    let late = left.store.renew(agent(1001), &first, guid("late")).await.expect("answered");
    assert!(late.is_none());
    left.hears(1001, Some("b")).await;
    left.store.remove(agent(1001), first.version).await.expect("answered");
    assert_eq!(right.load(1001).await.as_deref(), Some("b"));
    left.store.remove(agent(1001), second.version).await.expect("answered");
    assert_eq!((left.knows(1001), left.load(1001).await), (None, None));
    assert!(!left.store.is_let_go(agent(1001)) && left.store.has_ended(agent(1001)));
    let none = left.store.renew(agent(1001), &second, guid("c")).await.expect("answered");
    assert!(none.is_none());
    let third = left.put(1001, "c").await;
    assert!(third.version > second.version);
    right.store.remove(agent(1001), second.version).await.expect("answered");
    assert_eq!(right.load(1001).await.as_deref(), Some("c"));
}

#[tokio::test]
async fn a_claim_is_stored_only_where_nothing_newer_is() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let early = left.store.claim(0);
    let late = right.store.claim(0);
    let stored = right.store.put_claimed(agent(1001), made("late"), late).await.expect("answered");
    assert_eq!(stored.expect("stored").version, late.version);
    let stored = left.store.put_claimed(agent(1001), made("early"), early).await;
    assert!(stored.expect("answered").is_none());
    assert_eq!(left.knows(1001).as_deref(), Some("late"), "taken in from the answer");
    let next = left.store.claim(late.version);
    let stored = left.store.put_claimed(agent(1001), made("next"), next).await.expect("answered");
    assert_eq!(stored.expect("stored").guid, guid("next"));
}

#[tokio::test]
async fn a_full_store_takes_no_more() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    for (id, guid) in (1001..).zip(["a", "b", "c"]) {
        assert!(replica.store.reserve(agent(id)).is_some());
        replica.put(id, guid).await;
    }
    assert_eq!(replica.store.len(), CAPACITY);
    assert!(replica.store.reserve(agent(1004)).is_none());
    let full = replica.store.put(agent(1004), made("d")).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    let claim = replica.store.claim(0);
    let full = replica.store.put_claimed(agent(1004), made("d"), claim).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    assert_eq!(lifetime(&server, 1004).await, -2, "and Redis was not told");
    // What others have stored is good, though there is no room to remember it.
    let other = Replica::of(&server);
    other.put(1004, "e").await;
    assert_eq!(replica.load(1004).await.as_deref(), Some("e"));
    assert_eq!(replica.knows(1004), None);
}

#[tokio::test]
async fn redis_keeps_sessions_as_long_as_they_last_and_their_ends_for_an_hour() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    let session = replica.put(1001, "a").await;
    let left = lifetime(&server, 1001).await;
    assert!((29 * DAY_MS..=30 * DAY_MS).contains(&left), "{left}");
    replica.store.remove(agent(1001), session.version).await.expect("removed");
    let left = lifetime(&server, 1001).await;
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    let owners = registered("b", Duration::from_secs(60));
    replica.store.put(agent(1002), owners).await.expect("stored");
    let left = lifetime(&server, 1002).await;
    assert!((50_000..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_put_or_ended_while_redis_is_away_it_is_told_later() {
    let mut server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;
    let ended = left.put(1001, "a").await;
    let renewed = left.put(1002, "b").await;
    right.hears(1002, Some("b")).await;
    assert_eq!(left.shared.view().state, StoreState::Up);
    server.kill().await;
    left.store.load(agent(1003)).await.expect_err("it is noticed");
    assert!(matches!(left.shared.view().state, StoreState::Down(_)));
    assert!(left.shared.view().failures > 0);
    let unavailable = left.store.load(agent(1003)).await;
    assert!(matches!(unavailable, Err(StoreError::Unavailable(_))), "{unavailable:?}");
    left.put(1003, "c").await;
    left.store.sign_out(agent(1001), &ended, EndOf::Session).await.expect("ended here");
    let renewed = left.store.renew(agent(1002), &renewed, guid("b2")).await.expect("renewed here");
    assert_eq!(renewed.expect("renewed").guid, guid("b2"));
    assert_eq!(left.store.unsynced(), 3);
    assert_eq!((left.knows(1001), left.knows(1003)), (None, Some("c".into())));
    server.restart().await;
    until("it is told", || left.store.unsynced() == 0).await;
    // Of whom the other has not known before, it hears when it asks.
    let begun = tokio::time::Instant::now();
    while right.store.load(agent(1003)).await.ok().flatten().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is stored");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    right.hears(1002, Some("b2")).await;
    right.hears(1001, None).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_as_if_it_were_not_there_and_is_no_others() {
    let server = RedisServer::start().await;
    let (ours, theirs) = (Replica::of(&server), Replica::with_keys(&server, &[9]));
    theirs.put(1001, "a").await;
    assert_eq!(ours.load(1001).await, None);
    // One agent's record in the place of another's.
    ours.put(1002, "b").await;
    let record: Vec<u8> = ask(&server, &["HGET", "test:{acme}:session:1002", "record"]).await;
    let mut connection = server.connection().await;
    let set = redis::cmd("HSET").arg("test:{acme}:session:1003").arg("record").arg(record).take();
    let _: u64 = set.query_async(&mut connection).await.expect("set");
    assert_eq!(ours.load(1003).await, None);
}

#[tokio::test]
async fn a_key_that_is_somebody_elses_hides_no_other_session() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    all_listen(&server, 1).await;
    for (id, guid) in (1001..).zip(["a", "b", "c"]) {
        replica.put(id, guid).await;
    }
    let _: u64 = ask(&server, &["DEL", "test:{acme}:session:1002"]).await;
    let _: String = ask(&server, &["SET", "test:{acme}:session:1002", "x"]).await;
    let agents = [1001, 1002, 1003].map(agent);
    let records = replica.store.records(&agents).await;
    assert_eq!(records.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn what_an_old_key_has_sealed_is_sealed_anew() {
    let server = RedisServer::start().await;
    let old = Replica::with_keys(&server, &[1]);
    let made = old.put(1001, "a").await;
    let safe = old.shared.sealed_values(&tenant());
    safe.put(SealedKind::Rejected, owner(), b"no", Duration::from_secs(60)).await;
    drop(old);
    let both = Replica::with_keys(&server, &[2, 1]);
    let new = Replica::with_keys(&server, &[2]);
    let begun = tokio::time::Instant::now();
    while new.load(1001).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "sealed anew");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(new.store.cached(agent(1001)).expect("known").version, made.version);
    let safe = new.shared.sealed_values(&tenant());
    while get(&safe, SealedKind::Rejected, owner()).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "sealed anew");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(both);
}

#[tokio::test]
async fn what_replicas_tell_each_other_of_passwords_has_its_time() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let [safe, others] = [&left, &right].map(|replica| replica.shared.sealed_values(&tenant()));
    assert!(safe.has_credentials());
    safe.put(SealedKind::Credentials, owner(), b"word", Duration::from_secs(60)).await;
    assert!(get(&others, SealedKind::Credentials, owner()).await.is_none(), "there is no session");
    let session = left.put(1001, "a").await;
    safe.put(SealedKind::Credentials, owner(), b"word", Duration::from_secs(60)).await;
    assert!(get(&others, SealedKind::Credentials, owner()).await.is_none(), "it is another one");
    let owner = Owner { agent: agent(1001), session: Some(session.made) };
    for drawer in SealedKind::ALL {
        assert!(get(&others, drawer, owner).await.is_none());
        safe.put(drawer, owner, b"word", Duration::from_secs(60)).await;
        assert_eq!(get(&others, drawer, owner).await.as_deref(), Some(&b"word"[..]));
        let key = format!("test:{{acme}}:{}:1001", drawer.name());
        let left: i64 = ask(&server, &["PTTL", &key]).await;
        assert!((50_000..=60_000).contains(&left), "{left}");
    }
    others.remove(SealedKind::Rejected, agent(1001)).await;
    assert!(get(&safe, SealedKind::Rejected, owner).await.is_none());
    // The end of a session takes along what it was made with.
    assert!(get(&safe, SealedKind::Credentials, owner).await.is_some());
    left.store.sign_out(agent(1001), &session, EndOf::Session).await.expect("ended");
    assert!(get(&safe, SealedKind::Credentials, owner).await.is_none());
}

/// What is remembered of it was sealed with a key that is not there any more.
#[tokio::test]
async fn a_password_that_redis_loses_after_a_change_of_keys_is_shared_again() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    all_listen(&server, 1).await;
    let session = replica.put(1001, "a").await;
    let owner = Owner { agent: agent(1001), session: Some(session.made) };
    let safe = replica.shared.sealed_values(&tenant());
    safe.put(SealedKind::Credentials, owner, b"word", Duration::from_secs(60)).await;
    let keyring = replica.shared.seals(&tenant()).keyring().clone();
    let [new, old] = [2, 1].map(|byte| EncryptionKey::new([byte; 32]));
    let key = "test:{acme}:credentials:1001";
    keyring.replace(&[new.clone(), old]);
    let begun = tokio::time::Instant::now();
    while !ask::<String>(&server, &["GET", key]).await.contains(&new.id()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "sealed anew");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let _: u64 = ask(&server, &["DEL", key]).await;
    keyring.replace(&[new]);
    while get(&safe, SealedKind::Credentials, owner).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "shared again");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
