//! Somebody who can write to Redis, and has no key, brings back what was stored there before.

use std::time::Duration;

use ccgateway_bridge::session::{EndOf, Owner, SealedKind, SessionStore as _, SharedStores as _};
use ccgateway_test_support::{PASSWORD, RedisServer, Site, TestBridge, until_asked};

use crate::{
    callee::{self, CREDENTIALS, sign_ins},
    support::{Replica, agent, all_listen, tenant},
    topologies::ask,
};

/// Where the password of agent 1002 is.
const STORED: &str = "test:{acme}:credentials:1002";
/// Where its session is.
const RECORD: &str = "test:{acme}:session:1002";

async fn bridge(site: &Site, server: &RedisServer) -> TestBridge {
    callee::with(site, server, PASSWORD, CREDENTIALS).await
}

async fn bring_back(server: &RedisServer, password: &str) {
    let _: () = ask(server, &["SET", STORED, password, "PX", "600000"]).await;
}

#[tokio::test]
async fn a_password_that_is_brought_back_after_a_sign_out_signs_nobody_in() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = bridge(&site, &server).await;
    first.sign_in(1002).await.expect("signed in");
    let password: String = ask(&server, &["GET", STORED]).await;
    first.sign_out(1002).await.expect("signed out");
    let left: bool = ask(&server, &["EXISTS", STORED]).await;
    assert!(!left, "it goes with the session");

    bring_back(&server, &password).await;
    let second = bridge(&site, &server).await;
    for replica in [&first, &second] {
        replica.set_busy(1002).await.expect_err("nobody knows the password any more");
    }
    // Not even the record that the session has ended is needed for that.
    let _: u64 = ask(&server, &["DEL", RECORD]).await;
    bridge(&site, &server).await.set_busy(1002).await.expect_err("nor at a third one");
    assert_eq!(sign_ins(&site.gateway), 1);
}

/// A replica that knows of the sign-out believes no older record.
#[tokio::test]
async fn a_password_that_is_brought_back_with_its_session_signs_nobody_in_who_was_signed_out() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let (first, second) = (bridge(&site, &server).await, bridge(&site, &server).await);
    all_listen(&server, 2).await;
    first.sign_in(1002).await.expect("signed in");
    let password: String = ask(&server, &["GET", STORED]).await;
    let record: String = ask(&server, &["HGET", RECORD, "record"]).await;
    first.sign_out(1002).await.expect("signed out");
    until_asked("the other one to hear of it", async || second.find_session(1002).await.is_err())
        .await;

    bring_back(&server, &password).await;
    let _: u64 = ask(&server, &["HSET", RECORD, "record", &record]).await;
    let _: u64 = ask(&server, &["PUBLISH", "test:{acme}:changed", &record]).await;
    for replica in [&first, &second] {
        replica.set_busy(1002).await.expect_err("there is no session");
    }
    assert_eq!(sign_ins(&site.gateway), 1);
}

#[tokio::test]
async fn a_password_of_an_earlier_session_is_not_used_for_a_later_one() {
    for is_used in [false, true] {
        let (server, site) = (RedisServer::start().await, callee::site().await);
        let first = bridge(&site, &server).await;
        first.sign_in(1002).await.expect("signed in");
        let earlier: String = ask(&server, &["GET", STORED]).await;
        first.sign_out(1002).await.expect("signed out");
        first.sign_in(1002).await.expect("signed in again");
        let later: String = ask(&server, &["GET", STORED]).await;
        drop(first);

        bring_back(&server, if is_used { &later } else { &earlier }).await;
        site.gateway.sign_out(1002);
        let replica = bridge(&site, &server).await;
        assert_eq!(replica.set_busy(1002).await.is_ok(), is_used);
        assert_eq!(sign_ins(&site.gateway), 2 + usize::from(is_used));
    }
}

/// A replica that was slow to share it, while the agent was signed out and in again.
#[tokio::test]
async fn a_password_that_comes_late_does_not_replace_that_of_a_later_session() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    let passwords = replica.shared.sealed_values(&tenant());
    let earlier = replica.put(1002, "earlier").await;
    replica.store.sign_out(agent(1002), &earlier, EndOf::Session).await.expect("signed out");
    let later = replica.put(1002, "later").await;
    let renewed = replica.renew(&later, 1002, "renewed").await.expect("renewed");
    let minute = Duration::from_secs(60);
    for (session, password) in
        [(Some(later.made), "good"), (Some(earlier.made), "late"), (None, "forged")]
    {
        let owner = Owner { agent: agent(1002), session };
        passwords.put(SealedKind::Credentials, owner, password.as_bytes(), minute).await;
    }
    let owner = Owner { agent: agent(1002), session: Some(renewed.made) };
    let found = passwords.get(SealedKind::Credentials, owner).await.expect("read");
    assert_eq!(*found.expect("it is there"), b"good");
}
