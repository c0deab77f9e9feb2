//! What changes of a store while bridges run: its encryption keys, and how they get at its server.

use std::time::Duration;

use ccgateway_bridge::session::SessionStore as _;
use ccgateway_test_support::{RedisServer, STORE_KEY, Setup, Site, TestBridge, within};
use tokio::time::sleep;

use crate::{
    access::commands,
    callee::{self, CREDENTIALS, setup, sign_ins},
    key_change::{BOTH, NEW, OLD, key_id, shared, until_all_is_sealed_with},
    support::{Replica, agent},
};

#[tokio::test]
async fn what_is_in_redis_is_sealed_with_a_key_that_comes_while_the_bridge_runs() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::on(&site, "x", shared(&server, OLD)).await;
    bridge.sign_in(1002).await.expect("signed in");
    let with = |keys| Setup { password: Some("x"), ..setup(shared(&server, keys)) };
    let reloaded = bridge.reload(&with(BOTH));
    assert_eq!(reloaded.needs_restart, [""; 0], "{reloaded:?}");
    until_all_is_sealed_with(&server, &key_id(0x6b), &["session", "credentials"]).await;

    bridge.reload(&with(NEW));
    bridge.set_busy(1002).await.expect("busy");
    bridge.sign_in(1003).await.expect("signed in");
    let replica = Replica::with_keys(&server, &[0x6b]);
    for id in [1002, 1003] {
        replica.store.load(agent(id)).await.expect("read").expect("under the new key");
    }
    assert_eq!(sign_ins(&site.gateway), 2);
}

/// Until the others have the new key too, each would take the agents of the other for nobody's.
#[tokio::test]
async fn the_key_that_replicas_seal_with_is_not_taken_away_while_they_run() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::on(&site, "x", shared(&server, OLD)).await;
    bridge.sign_in(1002).await.expect("signed in");
    let with = |keys| Setup { password: Some("x"), ..setup(shared(&server, keys)) };
    let refused = bridge.try_reload(&with(NEW)).expect_err("the old key is not there");
    assert!(refused.to_string().starts_with("store.encryption_key_files: "), "{refused}");
    bridge.sign_in(1003).await.expect("signed in");
    let other = callee::on(&site, "x", shared(&server, OLD)).await;
    for agent in [1002, 1003] {
        other.set_busy(agent).await.expect("it is sealed with the old key");
    }
    assert_eq!(sign_ins(&site.gateway), 2);
    bridge.reload(&with(BOTH));
}

#[tokio::test]
async fn what_is_in_a_file_is_sealed_with_a_key_that_comes_while_the_bridge_runs() {
    let site = callee::site().await;
    let gateway = &site.gateway;
    let store =
        |keys| format!("file = \"sessions.redb\"\nencryption_key_files = [{keys}]\n{CREDENTIALS}");
    let with = |keys| Setup { password: Some("canary-wrong"), ..setup(store(keys)) };
    let bridge = callee::on(&site, "canary-wrong", store(OLD)).await;
    bridge.sign_in(1002).await.expect("signed in");
    bridge.set_busy(1001).await.expect_err("rejected");
    let refused = bridge.try_reload(&with(NEW)).expect_err("the old key is not there");
    assert!(refused.to_string().starts_with("store.encryption_key_files: "), "{refused}");
    for keys in [BOTH, NEW] {
        let reloaded = bridge.reload(&with(keys));
        let are_keys =
            reloaded.taken.iter().all(|key| key.starts_with("store.encryption_key_files"));
        assert!(are_keys && reloaded.needs_restart.is_empty(), "{reloaded:?}");
    }
    bridge.set_busy(1002).await.expect("busy");
    bridge.sign_in(1003).await.expect("signed in");
    bridge.stop().await;

    gateway.sign_out(1002);
    let asked = sign_ins(gateway);
    let new = callee::on(&site, "canary-wrong", store(NEW)).await;
    new.set_busy(1003).await.expect("its session was stored");
    assert_eq!(sign_ins(gateway), asked);
    new.set_busy(1002).await.expect("signed in again with the stored password");
    assert_eq!(sign_ins(gateway), asked + 1);
    new.set_busy(1001).await.expect_err("known to be rejected");
    assert_eq!(sign_ins(gateway), asked + 1, "it is not tried again");
}

#[tokio::test]
async fn whether_a_file_is_encrypted_does_not_change_while_the_bridge_runs() {
    let site = callee::site().await;
    let plain = "file = \"sessions.redb\"\n";
    let sealed = format!("{plain}encryption_key_files = [{NEW}]\n");
    for (first, then) in [(plain, &*sealed), (&*sealed, plain)] {
        let bridge = callee::on(&site, "x", first.into()).await;
        let reloaded = bridge.reload(&Setup { password: Some("x"), ..setup(then.into()) });
        let keys = &reloaded.needs_restart;
        assert!(reloaded.taken.is_empty(), "{reloaded:?}");
        assert!(keys.iter().all(|key| key.starts_with("store.encryption_key_files")), "{keys:?}");
        bridge.stop().await;
    }
}

/// A `[store]` in this Redis, as the user `bridge` with the password in the file.
fn as_user(server: &RedisServer) -> String {
    let access = "username = \"bridge\"\npassword_file = \"password\"\n";
    format!("{}\n{access}", shared(server, OLD))
}

/// Gives the user `bridge` of this Redis this password alone, and ends its connections.
async fn set_password(server: &RedisServer, password: &str) {
    let mut admin = server.connection().await;
    let rights = ["on", "resetpass", "~test:*", "&test:*"];
    let mut user = ::redis::cmd("ACL");
    user.arg("SETUSER").arg("bridge").arg(&rights).arg(format!(">{password}")).arg(commands());
    let _: () = user.query_async(&mut admin).await.expect("set");
    let mut kill = ::redis::cmd("CLIENT");
    let _: i64 =
        kill.arg(&["KILL", "USER", "bridge"]).query_async(&mut admin).await.expect("killed");
}

async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !so().await {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn is_up(bridge: &TestBridge) -> bool {
    // Has Redis asked.
    let _nobody = bridge.find_session(1005).await;
    let series = bridge.scrape().await;
    series.iter().any(|(name, value)| {
        name.starts_with("ccgw_store_state{") && name.contains("\"up\"") && *value > 0.5
    })
}

async fn on_password(site: &Site, server: &RedisServer) -> TestBridge {
    set_password(server, "first").await;
    site.write("password", "first");
    let bridge = callee::on(site, "x", as_user(server)).await;
    bridge.sign_in(1002).await.expect("signed in");
    eventually("Redis to be up", async || is_up(&bridge).await).await;
    bridge
}

#[tokio::test]
async fn a_password_of_redis_that_changes_is_used_for_the_next_connections() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = on_password(&site, &server).await;
    set_password(&server, "second").await;
    eventually("Redis to refuse the bridge", async || !is_up(&bridge).await).await;

    site.write("password", "second");
    let reloaded = bridge.reload(&Setup { password: Some("x"), ..setup(as_user(&server)) });
    assert_eq!(reloaded.taken.len(), 1, "{reloaded:?}");
    assert!(reloaded.taken[0].starts_with("store.password_file ("), "{reloaded:?}");
    eventually("Redis to be up", async || is_up(&bridge).await).await;
    bridge.sign_in(1003).await.expect("signed in");
    let replica = Replica::with_keys(&server, &[STORE_KEY]);
    eventually("the other session", async || {
        replica.store.load(agent(1003)).await.expect("read").is_some()
    })
    .await;
}

#[tokio::test]
async fn the_password_of_another_redis_is_not_shown_to_this_one() {
    let [server, other] = [RedisServer::start().await, RedisServer::start().await];
    let site = callee::site().await;
    let bridge = on_password(&site, &server).await;
    site.write("password", "of another");
    let reloaded = bridge.reload(&Setup { password: Some("x"), ..setup(as_user(&other)) });
    assert_eq!((reloaded.taken.len(), reloaded.needs_restart.len()), (0, 2), "{reloaded:?}");
    set_password(&server, "first").await;
    bridge.sign_in(1003).await.expect("signed in");
    eventually("Redis to be up", async || is_up(&bridge).await).await;
}
