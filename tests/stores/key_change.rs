//! A key of `store.encryption_key_files` is replaced by another one, and nothing is lost.

use std::{fs, time::Duration};

use ccgateway_bridge::session::SessionStore as _;
use ccgateway_test_support::{RedisServer, key};
use tokio::time::{Instant, sleep};

use crate::{
    callee::{self, CREDENTIALS, sign_ins},
    support::{Replica, agent, registered},
};

const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const OLD: &str = "\"store.key\"";
pub(crate) const BOTH: &str = "\"new.key\", \"store.key\"";
pub(crate) const NEW: &str = "\"new.key\"";

/// What all keys of this kind hold.
async fn values(server: &RedisServer, kind: &str) -> Vec<String> {
    let mut connection = server.connection().await;
    let mut names = ::redis::cmd("KEYS");
    let names: Vec<String> =
        names.arg(format!("test:{{acme}}:{kind}:*")).query_async(&mut connection).await.unwrap();
    let mut values = Vec::new();
    for name in names {
        let mut read = match kind {
            "session" => ::redis::cmd("HGET"),
            _ => ::redis::cmd("GET"),
        };
        read.arg(&name);
        if kind == "session" {
            read.arg("record");
        }
        values.push(read.query_async(&mut connection).await.unwrap());
    }
    values
}

/// Waits until nothing is sealed with any other key.
pub(crate) async fn until_all_is_sealed_with(server: &RedisServer, key_id: &str, kinds: &[&str]) {
    let end = Instant::now() + Duration::from_secs(20);
    for kind in kinds {
        loop {
            let values = values(server, kind).await;
            assert!(!values.is_empty(), "no {kind}");
            let key = format!("\"key\":\"{key_id}\"");
            if values.iter().all(|value| value.contains(&key)) {
                break;
            }
            assert!(Instant::now() < end, "{kind}: {values:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A `[store]` in this Redis, with these keys.
pub(crate) fn shared(server: &RedisServer, keys: &str) -> String {
    let url = server.url();
    format!(
        "urls = \"{url}\"\nkey_prefix = \"test:\"\nencryption_key_files = [{keys}]\n{CREDENTIALS}"
    )
}

pub(crate) fn key_id(byte: u8) -> String {
    ccgateway_bridge::keyring::EncryptionKey::new(key(byte)).id()
}

#[tokio::test]
async fn sessions_in_redis_that_nobody_renews_are_sealed_with_the_new_key() {
    let server = RedisServer::start().await;
    let old = Replica::with_keys(&server, &[1]);
    let made = old.put(1001, "made").await;
    old.store.put(agent(1002), registered("theirs", MINUTE)).await.unwrap();
    drop(old);
    let both = Replica::with_keys(&server, &[2, 1]);
    // Of whom no replica knows unless somebody asks.
    both.store.load(agent(1002)).await.unwrap().expect("under the old key");
    drop(both);
    let both = Replica::with_keys(&server, &[2, 1]);
    both.store.load(agent(1002)).await.unwrap().expect("under the old key");
    until_all_is_sealed_with(&server, &key_id(2), &["session"]).await;
    drop(both);

    let new = Replica::with_keys(&server, &[2]);
    let loaded = new.store.load(agent(1001)).await.unwrap().expect("under the new key");
    assert_eq!((&loaded.guid, loaded.version), (&made.guid, made.version), "it is the same");
    let theirs = new.store.load(agent(1002)).await.unwrap().expect("under the new key");
    assert!(theirs.expires_at.is_some());
}

#[tokio::test]
async fn passwords_in_redis_outlive_the_key_that_they_were_sealed_with() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    callee::on(&site, "x", shared(&server, OLD)).await.sign_in(1002).await.unwrap();
    let both = callee::on(&site, "x", shared(&server, BOTH)).await;
    let kinds = ["session", "credentials"];
    until_all_is_sealed_with(&server, &key_id(0x6b), &kinds).await;
    drop(both);

    gateway.sign_out(1002);
    let asked = sign_ins(gateway);
    let new = callee::on(&site, "x", shared(&server, NEW)).await;
    new.set_busy(1002).await.expect("signed in again with the stored password");
    assert_eq!(sign_ins(gateway), asked + 1);
}

#[tokio::test]
async fn a_password_that_is_sealed_anew_is_kept_no_longer_for_it() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    callee::on(&site, "x", shared(&server, OLD)).await.sign_in(1002).await.unwrap();
    let mut ask = ::redis::cmd("PTTL");
    ask.arg("test:{acme}:credentials:1002");
    let mut connection = server.connection().await;
    let before: i64 = ask.query_async(&mut connection).await.unwrap();
    let _both = callee::on(&site, "x", shared(&server, BOTH)).await;
    until_all_is_sealed_with(&server, &key_id(0x6b), &["credentials"]).await;
    let after: i64 = ask.query_async(&mut connection).await.unwrap();
    assert!(after > 0 && after <= before, "{after} of {before}");
}

#[tokio::test]
async fn passwords_in_a_file_outlive_the_key_that_they_were_sealed_with() {
    let site = callee::site().await;
    let gateway = &site.gateway;
    let store =
        |keys| format!("file = \"sessions.redb\"\nencryption_key_files = [{keys}]\n{CREDENTIALS}");
    let old = callee::on(&site, "canary-wrong", store(OLD)).await;
    old.sign_in(1002).await.expect("signed in");
    old.set_busy(1001).await.expect_err("rejected");
    old.stop().await;
    callee::on(&site, "canary-wrong", store(BOTH)).await.stop().await;

    gateway.sign_out(1002);
    let asked = sign_ins(gateway);
    let new = callee::on(&site, "canary-wrong", store(NEW)).await;
    new.set_busy(1002).await.expect("signed in again with the stored password");
    assert_eq!(sign_ins(gateway), asked + 1);
    new.set_busy(1001).await.expect_err("known to be rejected");
    assert_eq!(sign_ins(gateway), asked + 1, "it is not tried again");
    let aside = fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(aside.into_iter().all(|name| !name.to_string_lossy().contains(".broken-")));
}
