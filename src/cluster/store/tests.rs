//! A store that hears nothing of the others, so that a test decides what it learns and when.

use std::time::{Duration, SystemTime};

use ccgateway_test_support::RedisServer;

use super::*;
use crate::{
    cluster::tests::world::{CAPACITY, agent, ask, guid, made, shared, tenant},
    session::Scope,
};

/// A replica without the task that keeps it up to date.
pub(super) fn deaf(server: &RedisServer, keys: &[u8]) -> Arc<Inner> {
    let capacity = NonZeroUsize::new(CAPACITY).expect("not zero");
    SharedStore::start(&shared(server, keys), &tenant(), capacity).inner.clone()
}

pub(super) fn knows(store: &Inner, id: u32) -> Option<Guid> {
    Some(store.local.get(agent(id))?.guid.clone())
}

pub(super) async fn put(store: &Inner, id: u32, guid: &str) -> Arc<Session> {
    store.put(agent(id), made(guid)).await.expect("stored")
}

/// The end by a sign-out that an answer has confirmed.
pub(super) fn sign_out_of(session: &Session) -> Entry {
    Entry::signed_out(session.version + 1, session.made)
}

pub(super) fn session_key(id: u32) -> String {
    format!("test:{{acme}}:session:{id}")
}

/// Somebody else uses this key.
pub(super) async fn taken_by_others(server: &RedisServer, key: &str) {
    let _: u64 = ask(server, &["DEL", key]).await;
    let _: String = ask(server, &["SET", key, "x"]).await;
}

/// The right to this command is withdrawn.
pub(super) async fn forbid(server: &RedisServer, command: &str) {
    let _: String = ask(server, &["ACL", "SETUSER", "default", &format!("-{command}")]).await;
}

pub(super) async fn full(server: &RedisServer, is_full: bool) {
    let bytes = if is_full { "1" } else { "0" };
    let _: String = ask(server, &["CONFIG", "SET", "maxmemory", bytes]).await;
}

#[tokio::test]
async fn whoever_is_overtaken_takes_in_what_has_overtaken_it() {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let early = left.local.claim(0);
    let first = put(&right, 1001, "a").await;
    let late = left.put_claimed(agent(1001), made("early"), early).await.expect("answered");
    assert_eq!((late.is_none(), knows(&left, 1001)), (true, Some(guid("a"))));
    let second = put(&right, 1001, "b").await;
    let renewed = left.renew(agent(1001), &first, guid("a2")).await.expect("answered");
    assert_eq!((renewed.is_none(), knows(&left, 1001)), (true, Some(guid("b"))));
    put(&right, 1001, "c").await;
    left.end(agent(1001), sign_out_of(&second)).await.expect("answered");
    assert_eq!(knows(&left, 1001), Some(guid("c")), "another one than was ended");
}

/// Whose session it has no room for, it has to ask Redis about at each call.
#[tokio::test]
async fn a_guid_that_is_renewed_where_there_is_no_room_for_its_session_is_stored() {
    let server = RedisServer::start().await;
    let (left, small) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let first = put(&left, 1001, "a").await;
    for id in 1002..1002 + u32::try_from(CAPACITY).expect("few") {
        put(&small, id, "others").await;
    }
    let loaded = small.load(agent(1001)).await.expect("read").expect("a session");
    assert!(knows(&small, 1001).is_none(), "there is no room for it");
    let renewed = small.renew(agent(1001), &loaded, guid("b")).await.expect("answered");
    let renewed = renewed.expect("stored");
    let stored = left.load(agent(1001)).await.expect("read").expect("a session");
    assert_eq!((&stored.guid, stored.version), (&guid("b"), renewed.version));
    let late = small.renew(agent(1001), &first, guid("late")).await.expect("answered");
    assert!(late.is_none(), "another answer was stored first");
    full(&server, true).await;
    let lost = small.renew(agent(1001), &renewed, guid("c")).await;
    assert!(matches!(lost, Err(StoreError::Full(_))), "nobody has it: {lost:?}");
}

/// Without room for the session, nothing of the renewal is known here.
#[tokio::test]
async fn a_sign_out_ends_what_another_replica_has_renewed_also_where_there_is_no_room_for_it() {
    let server = RedisServer::start().await;
    let (left, small) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let first = put(&left, 1001, "a").await;
    for id in 1002..1002 + u32::try_from(CAPACITY).expect("few") {
        put(&small, id, "others").await;
    }
    let mut last = first.clone();
    for text in ["b", "c"] {
        let renewed = left.renew(agent(1001), &last, guid(text)).await.expect("answered");
        last = renewed.expect("renewed");
    }
    small.end(agent(1001), sign_out_of(&first)).await.expect("ended");
    let loaded = deaf(&server, &[1]).load(agent(1001)).await.expect("read");
    assert!(loaded.is_none(), "it has ended in Redis");
    assert!(small.local.is_let_go(agent(1001)) && small.local.unsynced().is_empty());
    let another = put(&left, 1001, "d").await;
    small.end(agent(1001), sign_out_of(&last)).await.expect("answered");
    let loaded = left.load(agent(1001)).await.expect("read").expect("a session");
    assert_eq!(loaded.version, another.version, "another session stays");
}

#[tokio::test]
async fn a_claim_that_is_older_than_what_is_known_is_not_used_where_redis_is_away() {
    let mut server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    let early = store.local.claim(0);
    put(&store, 1001, "a").await;
    server.kill().await;
    let used = store.put_claimed(agent(1001), made("early"), early).await.expect("answered");
    assert_eq!((used.is_none(), knows(&store, 1001)), (true, Some(guid("a"))));
    let late = store.local.claim(0);
    let used = store.put_claimed(agent(1002), made("late"), late).await.expect("answered");
    assert_eq!(used.expect("used").guid, guid("late"));
}

#[tokio::test]
async fn a_session_that_a_redis_which_takes_no_writes_does_not_have_may_be_another_replicas() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    full(&server, true).await;
    put(&store, 1001, "a").await;
    assert!(matches!(store.link.state(), LinkState::Refusing(_)));
    let known = store.load(agent(1001)).await.expect("it is known here");
    assert_eq!(known.expect("a session").guid, guid("a"));
    let unknown = store.load(agent(1002)).await.expect_err("nobody can tell");
    let StoreError::Refused(refusal) = unknown else { panic!("{unknown}") };
    assert_eq!(refusal.scope, Scope::Writes);
}

/// Somebody has set back what was stored yesterday, perhaps before a sign-out.
#[tokio::test]
async fn a_session_that_nobody_has_used_for_a_day_is_believed_only_by_whoever_knows_of_its_agent() {
    let server = RedisServer::start().await;
    let (writer, knowing) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let before = put(&knowing, 1001, "a").await;
    for (hours, origin, is_believed) in [
        (0, Origin::SignedIn, true),
        (25, Origin::SignedIn, true),
        (27, Origin::SignedIn, false),
        (27, Origin::Registered, true),
    ] {
        let version = writer.local.next_version(before.version);
        let renewed_at = SystemTime::now() - Duration::from_secs(hours * 3600);
        let (cookies, guid, made) = (before.cookies.clone(), before.guid.clone(), before.made);
        let session =
            Session { guid, origin, version, made, renewed_at, expires_at: None, cookies };
        let entry = Entry::known(version, Some(Arc::new(session)), None);
        writer.write(agent(1001), &entry, Stored::Below(version)).await.expect("written");
        let record: Vec<u8> = ask(&server, &["HGET", &session_key(1001), "record"]).await;
        let new = deaf(&server, &[1]);
        new.apply(&record);
        assert_eq!(knows(&new, 1001).is_some(), is_believed, "{hours} {origin:?}");
        let loaded = deaf(&server, &[1]).load(agent(1001)).await.expect("read");
        assert_eq!(loaded.is_some(), is_believed, "{hours} {origin:?}");
        knowing.apply(&record);
        assert_eq!(knowing.local.get(agent(1001)).expect("known").version, version);
    }
}

#[tokio::test]
async fn a_key_that_somebody_else_uses_is_as_if_it_were_not_there() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    taken_by_others(&server, &session_key(1001)).await;
    assert!(store.load(agent(1001)).await.expect("answered").is_none());
    put(&store, 1001, "a").await;
    assert!(store.local.unsynced().is_empty() && store.link.state().is_good());
    let record: Vec<u8> = ask(&server, &["HGET", &session_key(1001), "record"]).await;
    store.seals.session(Some(agent(1001)), &record).expect("stored");
}

#[tokio::test]
async fn a_session_ends_in_a_redis_that_has_lost_it_and_another_version_does_not() {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let session = put(&left, 1001, "a").await;
    for _is_known in [false, true] {
        let end = Entry::signed_out(session.version + 2, session.made);
        right.end(agent(1001), end).await.expect("answered");
        let loaded = right.load(agent(1001)).await.expect("answered");
        assert_eq!(loaded.expect("it has not ended").guid, guid("a"));
    }
    let _: u64 = ask(&server, &["DEL", &session_key(1001)]).await;
    left.end(agent(1001), sign_out_of(&session)).await.expect("answered");
    let record: Vec<u8> = ask(&server, &["HGET", &session_key(1001), "record"]).await;
    let (_, end) = left.seals.session(Some(agent(1001)), &record).expect("a record");
    assert_eq!((end.version, end.session.is_none()), (session.version + 1, true));
}

#[tokio::test]
async fn a_redis_that_is_known_to_be_away_is_not_asked_again_by_callers() {
    let mut server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    put(&store, 1001, "a").await;
    server.kill().await;
    store.load(agent(1002)).await.expect_err("it is noticed");
    let noticed = store.link.failures();
    store.load(agent(1002)).await.expect_err("it is known");
    put(&store, 1002, "b").await;
    assert_eq!((store.link.failures(), store.local.unsynced().len()), (noticed, 1));
}
