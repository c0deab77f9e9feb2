//! Somebody who can write to Redis, and has no key, brings back what was stored there before.

use ccgateway_test_support::{PASSWORD, RedisServer, Site, TestBridge};

use crate::{
    callee::{self, CREDENTIALS, sign_ins},
    topologies::ask,
};

/// Where the password of agent 1002 is.
const STORED: &str = "test:{acme}:credentials:1002";

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
    let _: u64 = ask(&server, &["DEL", "test:{acme}:session:1002"]).await;
    bridge(&site, &server).await.set_busy(1002).await.expect_err("nor at a third one");
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
