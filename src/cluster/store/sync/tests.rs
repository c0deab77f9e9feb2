use std::{sync::Arc, time::Duration};

use ccgateway_test_support::RedisServer;

use super::{Inner, plan::RETRY};
use crate::{
    cluster::{
        store::tests::{deaf, forbid, full, knows, put, session_key, sign_out_of, taken_by_others},
        tests::world::{Replica, agent, all_listen, ask, guid, registered, until},
    },
    id::AgentId,
    session::{Entry, Session},
    telemetry::log::captured::Captured,
};

/// What is only known here, compared with nothing.
fn unsynced(store: &Inner) -> Vec<(AgentId, Option<u64>)> {
    store.local.unsynced().into_iter().map(|agent| (agent, None)).collect()
}

#[tokio::test]
async fn what_redis_has_lost_is_written_again_and_what_it_has_newer_is_taken_in() {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let log = Captured::start();
    for (id, guid) in [(1001, "a"), (1002, "b"), (1003, "c")] {
        put(&left, id, guid).await;
    }
    put(&right, 1001, "newer").await;
    let _: u64 = ask(&server, &["DEL", &session_key(1002)]).await;
    for _ in 0..2 {
        left.reconcile().await.expect("compared");
    }
    assert_eq!(knows(&left, 1001), Some(guid("newer")));
    let again = right.load(agent(1002)).await.expect("answered");
    assert_eq!(again.expect("written again").guid, guid("b"));
    let [line] = &log.with("wrote sessions to Redis")[..] else { panic!("{log:?}") };
    assert!(line.ends_with("sessions=1"), "{line}");
}

#[tokio::test]
async fn a_key_that_somebody_else_uses_keeps_nothing_from_being_written() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    full(&server, true).await;
    for id in [1001, 1002] {
        put(&store, id, "a").await;
    }
    full(&server, false).await;
    taken_by_others(&server, &session_key(1001)).await;
    let written = store.push(unsynced(&store)).await.expect("written");
    assert_eq!((written, store.local.unsynced()), (2, Vec::new()));
    let theirs: String = ask(&server, &["GET", &(session_key(1001) + "-set-aside")]).await;
    assert_eq!(theirs, "x");
    forbid(&server, "hset").await;
    put(&store, 1001, "b").await;
    store.push(unsynced(&store)).await.expect_err("nobody may write");
}

/// Each has given the version while Redis was away. Whoever is there first is right.
#[tokio::test]
async fn of_two_replicas_that_have_given_one_version_the_later_takes_in_what_is_stored() {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let session = put(&left, 1001, "a").await;
    right.load(agent(1001)).await.expect("read");
    full(&server, true).await;
    for (store, renewed) in [(&left, None), (&right, Some("b"))] {
        let version = session.version + 1;
        let mut entry = match renewed {
            None => Entry::end(version, true),
            Some(text) => Entry::renewed(version, &session, guid(text), None),
        };
        entry.unsynced = true;
        store.local.offer(agent(1001), &entry);
    }
    full(&server, false).await;
    for store in [&left, &right] {
        store.push(unsynced(store)).await.expect("written");
        assert_eq!((knows(store, 1001), store.local.unsynced()), (None, Vec::new()));
    }
}

/// One has signed the agent out, and the other has heard of a new Guid, while Redis was away. Whoever is there first.
#[tokio::test]
async fn a_session_that_was_signed_out_at_one_replica_ends_at_all_though_another_has_renewed_it() {
    for is_sign_out_first in [true, false] {
        let server = RedisServer::start().await;
        let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
        let session = put(&left, 1001, "a").await;
        right.load(agent(1001)).await.expect("read");
        full(&server, true).await;
        left.end(agent(1001), sign_out_of(&session)).await.expect("ended here");
        let renewed = right.renew(agent(1001), &session, guid("b")).await.expect("renewed here");
        assert!(renewed.is_some_and(|renewed| renewed.version > session.version + 1));
        full(&server, false).await;
        let order = if is_sign_out_first { [&left, &right] } else { [&right, &left] };
        for store in [order[0], order[1], order[0]] {
            store.reconcile().await.expect("compared");
        }
        for store in [&left, &right] {
            assert!(knows(store, 1001).is_none() && store.local.is_let_go(agent(1001)));
            assert!(store.local.unsynced().is_empty());
        }
        let late = deaf(&server, &[1]).load(agent(1001)).await.expect("read");
        assert!(late.is_none(), "it has ended in Redis too");
        let again = put(&right, 1001, "c").await;
        left.load(agent(1001)).await.expect("read");
        assert_eq!(knows(&left, 1001).as_ref(), Some(&again.guid), "another session is good");
    }
}

/// One has given the session up, and the other knows that the agent was signed out.
#[tokio::test]
async fn a_sign_out_counts_also_where_another_replica_has_ended_that_version_already() {
    for (is_away, is_sign_out_first) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let server = RedisServer::start().await;
        let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
        let session = put(&left, 1001, "a").await;
        right.load(agent(1001)).await.expect("read");
        full(&server, is_away).await;
        if is_sign_out_first {
            left.end(agent(1001), sign_out_of(&session)).await.expect("ended");
            right.remove(agent(1001), session.version).await.expect("ended");
        } else {
            right.remove(agent(1001), session.version).await.expect("ended");
            left.end(agent(1001), sign_out_of(&session)).await.expect("ended");
        }
        full(&server, false).await;
        let order = if is_sign_out_first { [&left, &right] } else { [&right, &left] };
        for store in [order[0], order[1], order[0]] {
            store.reconcile().await.expect("compared");
        }
        let late = deaf(&server, &[1]);
        assert!(late.load(agent(1001)).await.expect("read").is_none());
        for store in [&left, &right, &late] {
            let known = store.local.entry(agent(1001)).expect("known");
            assert_eq!((known.ended, known.signed_out), (Some(session.made), true));
            assert!(!known.unsynced);
        }
    }
}

/// While Redis was away, the gateway has refused a Guid that another replica had renewed.
#[tokio::test]
async fn a_sign_out_that_was_refused_for_an_old_guid_does_not_end_the_newer_one() {
    for is_sign_out_first in [true, false] {
        let server = RedisServer::start().await;
        let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
        let first = put(&left, 1001, "a").await;
        let mut last = right.load(agent(1001)).await.expect("read").expect("a session");
        full(&server, true).await;
        for text in ["b", "c"] {
            let renewed = right.renew(agent(1001), &last, guid(text)).await.expect("answered");
            last = renewed.expect("renewed here");
        }
        let refused = Entry::end(first.version + 1, true);
        left.end(agent(1001), refused).await.expect("ended here");
        assert!(left.local.is_let_go(agent(1001)));
        full(&server, false).await;
        let order = if is_sign_out_first { [&left, &right] } else { [&right, &left] };
        for store in [order[0], order[1], order[0]] {
            store.reconcile().await.expect("compared");
        }
        for store in [&left, &right] {
            assert_eq!((knows(store, 1001), store.local.unsynced()), (Some(guid("c")), Vec::new()));
        }
    }
}

/// Redis, two replicas and a session. The first one has ended it by a sign-out; the second one has renewed it before, which
/// has not come to Redis.
async fn renewed_while_another_signs_out() -> (RedisServer, [Arc<Inner>; 2], Arc<Session>) {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    let session = put(&left, 1001, "a").await;
    right.load(agent(1001)).await.expect("read");
    full(&server, true).await;
    right.renew(agent(1001), &session, guid("b")).await.expect("answered").expect("renewed here");
    full(&server, false).await;
    left.end(agent(1001), sign_out_of(&session)).await.expect("ended");
    (server, [left, right], session)
}

/// What is only known here must not be written over the sign-out that ends it.
#[tokio::test]
async fn a_renewal_that_waits_for_redis_is_not_written_over_a_sign_out() {
    let (server, [_left, right], _) = renewed_while_another_signs_out().await;
    super::push(&right).await.expect("written");
    for store in [&right, &deaf(&server, &[1])] {
        let loaded = store.load(agent(1001)).await.expect("read");
        assert!(loaded.is_none() && store.local.is_let_go(agent(1001)));
    }
}

/// The sign-out comes to Redis after the renewal was compared with what is there, and before it is written.
#[tokio::test]
async fn a_renewal_is_not_written_over_a_sign_out_that_comes_in_between() {
    let (server, [_left, right], session) = renewed_while_another_signs_out().await;
    let compared = Some(session.version);
    assert_eq!(right.push_one(agent(1001), compared).await, Ok(true), "the end is written");
    for store in [&right, &deaf(&server, &[1])] {
        let loaded = store.load(agent(1001)).await.expect("read");
        assert!(loaded.is_none() && store.local.is_let_go(agent(1001)));
        assert!(store.local.unsynced().is_empty());
    }
}

/// An agent is handed over right after an outage.
#[tokio::test]
async fn what_others_are_told_again_is_not_written_over_a_sign_out() {
    let (server, [_left, right], _) = renewed_while_another_signs_out().await;
    right.tell_again(agent(1001)).await.expect("told");
    for store in [&right, &deaf(&server, &[1])] {
        let loaded = store.load(agent(1001)).await.expect("read");
        assert!(loaded.is_none() && store.local.is_let_go(agent(1001)));
    }
}

#[tokio::test]
async fn what_redis_has_is_told_again_and_what_it_has_lost_is_written_again() {
    let server = RedisServer::start().await;
    let teller = deaf(&server, &[1]);
    let session = put(&teller, 1001, "a").await;
    let key = session_key(1001);
    let before: Vec<u8> = ask(&server, &["HGET", &key, "record"]).await;
    teller.tell_again(agent(1001)).await.expect("told");
    let again: Vec<u8> = ask(&server, &["HGET", &key, "record"]).await;
    assert_ne!(before, again, "sealed, written and published once more");
    let _: u64 = ask(&server, &["DEL", &key]).await;
    teller.tell_again(agent(1001)).await.expect("told");
    let loaded = deaf(&server, &[1]).load(agent(1001)).await.expect("read");
    assert_eq!(loaded.map(|loaded| loaded.version), Some(session.version));
}

/// Redis lets nobody look whether there is one, and then it does.
#[tokio::test]
async fn a_password_that_could_not_be_shared_is_shared_with_the_next_push() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    let session = put(&store, 1001, "a").await;
    let time = Duration::from_secs(60);
    store.passwords.remember(agent(1001), session.made, b"sealed".to_vec(), time);
    store.passwords.write_later();
    forbid(&server, "get").await;
    super::push(&store).await.expect_err("nobody may read it");
    let _: String = ask(&server, &["ACL", "SETUSER", "default", "+get"]).await;
    super::push(&store).await.expect("shared");
    let shared: String = ask(&server, &["GET", "test:{acme}:credentials:1001"]).await;
    assert_eq!(shared, "sealed");
}

#[tokio::test]
async fn a_session_that_is_over_by_then_is_not_written() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    full(&server, true).await;
    let short = registered("a", Duration::from_millis(5));
    store.put(agent(1001), short).await.expect("known here");
    tokio::time::sleep(Duration::from_millis(20)).await;
    full(&server, false).await;
    assert_eq!(store.push(vec![(agent(1001), None)]).await, Ok(0));
    let there: u64 = ask(&server, &["EXISTS", &session_key(1001)]).await;
    assert_eq!((there, store.local.unsynced().len()), (0, 0));
}

#[tokio::test]
async fn a_redis_that_lets_nobody_read_is_no_redis_without_sessions() {
    let server = RedisServer::start().await;
    let store = deaf(&server, &[1]);
    put(&store, 1001, "a").await;
    forbid(&server, "hget").await;
    store.records(&[1001, 1002].map(agent)).await.expect_err("two of them");
    store.records(&[agent(1001)]).await.expect_err("one of them");
    store.reconcile().await.expect_err("nothing to compare with");
}

#[tokio::test]
async fn what_was_refused_is_written_when_redis_takes_it() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    full(&server, true).await;
    replica.put(1001, "a").await;
    assert_eq!(replica.store.unsynced(), 1);
    full(&server, false).await;
    until("written", || replica.store.unsynced() == 0).await;
}

#[tokio::test]
async fn what_is_known_newer_here_is_written_when_it_is_compared() {
    let server = RedisServer::start().await;
    let (left, right) = (deaf(&server, &[1]), deaf(&server, &[1]));
    put(&left, 1001, "a").await;
    full(&server, true).await;
    put(&left, 1001, "newer").await;
    full(&server, false).await;
    left.reconcile().await.expect("compared");
    let loaded = right.load(agent(1001)).await.expect("answered");
    assert_eq!(loaded.expect("a session").guid, guid("newer"));
}

/// How often Redis is asked within a little more than a pause between two attempts.
async fn asked(replica: &Replica) -> u64 {
    let before = replica.shared.link().commands();
    tokio::time::sleep(RETRY + RETRY / 2).await;
    replica.shared.link().commands() - before
}

#[tokio::test]
async fn redis_is_asked_nothing_while_all_is_in_step_and_now_and_then_while_it_is_not() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    replica.put(1001, "a").await;
    all_listen(&server, 1).await;
    // It compares once, when it begins to listen.
    tokio::time::sleep(RETRY / 5).await;
    assert_eq!(asked(&replica).await, 0);
    // Refused for all keys, and then for one.
    full(&server, true).await;
    replica.put(1001, "b").await;
    let times = asked(&replica).await;
    assert!((1..20).contains(&times), "{times}");
    full(&server, false).await;
    until("written", || replica.store.unsynced() == 0).await;
    taken_by_others(&server, &session_key(1001)).await;
    replica.put(1001, "c").await;
    let times = asked(&replica).await;
    assert!((1..20).contains(&times), "{times}");
}
