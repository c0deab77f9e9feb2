//! Which replica signs an agent in.

use std::time::Duration;

use ccgateway_test_support::RedisServer;

use super::world::{LEASE, Replica, agent, ask, tenant};
use crate::tenant::{Attempt, SharedSignIns as _};

#[tokio::test]
async fn one_sign_in_at_a_time_has_the_lock_and_all_know_how_many_are_under_way() {
    let server = RedisServer::start().await;
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    let session = left.put(1001, "a").await;
    let [left, right] = [left, right].map(|replica| replica.shared.leases(&tenant()));
    assert_eq!(left.lock_time(), LEASE);
    let [one, other] = [10, 30].map(|seconds| Attempt::lasting(Duration::from_secs(seconds)));
    let lock = left.lock_sign_in(agent(1001), one).await.expect("asked");
    let first = lock.grant.expect("free");
    assert_eq!((lock.others, lock.stored), (0, session.version));
    let lock = left.lock_sign_in(agent(1001), one).await.expect("asked");
    assert_eq!((lock.grant, lock.others), (Some(first), 0));
    let lock = right.lock_sign_in(agent(1001), other).await.expect("asked");
    assert_eq!((lock.grant, lock.others), (None, 1));
    let lock = right.lock_sign_in(agent(1002), other).await.expect("asked");
    assert_eq!((lock.grant.is_some(), lock.others, lock.stored), (true, 0, 0));

    // A lock that is lost: its sign-in may still be under way.
    let _: u64 = ask(&server, &["DEL", "test:{acme}:sign-in:1001"]).await;
    let lock = right.lock_sign_in(agent(1001), other).await.expect("asked");
    assert_eq!((lock.grant.is_some(), lock.others), (true, 1));
    let lasts: i64 = ask(&server, &["PTTL", "test:{acme}:signing-in:1001"]).await;
    assert!((20_000..=30_000).contains(&lasts), "{lasts}");
    let granted = lock.grant;
    left.unlock_sign_in(agent(1001), one).await.expect("answered");
    let lock = right.lock_sign_in(agent(1001), other).await.expect("asked");
    assert_eq!((lock.grant, lock.others), (granted, 0), "not the other's lock");
    // A grant that no replica has written is no other's, whatever it is.
    let forged = format!("{other}:forged");
    let _: String = ask(&server, &["SET", "test:{acme}:sign-in:1001", &forged]).await;
    let first_look = right.lock_sign_in(agent(1001), other).await.expect("asked").grant;
    let second_look = right.lock_sign_in(agent(1001), other).await.expect("asked").grant;
    assert!(first_look.is_some() && second_look.is_some() && first_look != second_look);
    right.unlock_sign_in(agent(1001), other).await.expect("answered");
    // However often it is asked for before anybody looks at the first answer.
    for _ in 0..2 {
        let lock = left.lock_sign_in(agent(1001), one).await.expect("asked");
        assert!(lock.grant.is_some_and(|grant| grant != first), "held by others meanwhile");
        assert_eq!(lock.others, 0);
    }
}
