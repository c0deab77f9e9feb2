//! Redis never sees a secret.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use ccgateway_bridge::session::SessionStore as _;
use ccgateway_test_support::{PASSWORD, RedisServer, within};
use futures_util::{Stream, StreamExt as _};
use tonic::Code;

use crate::{
    callee::{self, CREDENTIALS},
    support::{Replica, agent, all_listen, eventually, hex, registered, tenant},
};

const MINUTE: Duration = Duration::from_secs(60);
const CANARY: &str = "canary-guid";

#[tokio::test]
async fn redis_never_sees_a_guid_or_a_cookie() {
    let server = RedisServer::start().await;
    let monitor = server.client().get_async_monitor().await.unwrap();
    let mut seen = monitor.into_on_message::<String>();
    let (left, right) = (Replica::of(&server), Replica::of(&server));
    all_listen(&server, 2).await;

    for id in 1001..1011 {
        let put = left.store.put(agent(id), registered(CANARY, MINUTE)).await.unwrap();
        left.renew(&put, id, &format!("{CANARY}-2")).await.unwrap();
        right.hears(id, Some("canary-guid-2")).await;
    }
    let last = right.cached(1010).unwrap();
    right.remove(1010, last.version).await;

    let (keys, dump) = everything(&server, &mut seen).await;
    assert_eq!(keys.len(), 10);
    assert!(dump.contains("session:1001"), "{dump}");
    for canary in [CANARY, "canary-cookie", "Y2FuYXJ5", "63616e617279"] {
        assert!(!dump.contains(canary), "{canary}");
    }
}

/// The names of all keys, and all that was ever sent to the server or is stored in it.
async fn everything(
    server: &RedisServer,
    seen: &mut (impl Stream<Item = String> + Unpin),
) -> (Vec<String>, String) {
    let mut connection = server.connection().await;
    let keys: Vec<String> =
        ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut dump = String::new();
    for key in &keys {
        let raw: Vec<u8> =
            ::redis::cmd("DUMP").arg(key).query_async(&mut connection).await.unwrap();
        dump.push_str(&String::from_utf8_lossy(&raw));
    }
    let _: String = ::redis::cmd("ECHO").arg("the-end").query_async(&mut connection).await.unwrap();
    within("the monitor to come to the end", async {
        while !dump.contains("the-end") {
            dump.push_str(&seen.next().await.expect("the monitor goes on"));
        }
    })
    .await;
    (keys, dump)
}

#[tokio::test]
async fn redis_never_sees_a_password() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let monitor = server.client().get_async_monitor().await.unwrap();
    let mut seen = monitor.into_on_message::<String>();
    let callee = callee::with(&site, &server, "canary-wrong", CREDENTIALS).await;
    callee.sign_in(1002).await.expect("signed in");
    callee.set_busy(1001).await.expect_err("rejected");

    let (keys, dump) = everything(&server, &mut seen).await;
    for kind in ["credentials:1002", "rejected:1001", "session:1002"] {
        assert!(keys.iter().any(|key| key.ends_with(kind)), "{keys:?}");
    }
    for password in [PASSWORD, "canary-wrong"] {
        let digest = |algorithm| hex(aws_lc_rs::digest::digest(algorithm, password.as_bytes()));
        let (sha1, sha256) = (digest(&SHA1_FOR_LEGACY_USE_ONLY), digest(&SHA256));
        for canary in [password, &hex(password), &sha1, &sha256] {
            assert!(!dump.contains(canary), "{canary}");
        }
    }
    for canary in ["canary", "Y2FuYXJ5", "63616e617279", "100-004", "phonenum"] {
        assert!(!dump.contains(canary), "{canary}");
    }
}

/// A stored password is bound to its agent and to its purpose.
#[tokio::test]
async fn a_password_moved_to_another_agent_is_not_accepted() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let callee = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    callee.sign_in(1002).await.expect("signed in");
    let mut copy = ::redis::cmd("COPY");
    copy.arg("test:{acme}:credentials:1002").arg("test:{acme}:credentials:1003");
    let copied: bool = copy.query_async(&mut server.connection().await).await.unwrap();
    assert!(copied);
    let status = callee.set_busy(1003).await.expect_err("nobody knows 1003's password");
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn without_the_key_a_session_cannot_be_used() {
    let server = RedisServer::start().await;
    let (left, other) = (Replica::with_keys(&server, &[1]), Replica::with_keys(&server, &[2]));
    left.put(1001, "a").await;
    assert!(other.store.load(agent(1001)).await.unwrap().is_none());
    let replaced = other.put(1001, "b").await;
    assert!(replaced.version > left.cached(1001).unwrap().version);
    assert!(other.store.load(agent(1001)).await.unwrap().is_some());
}

#[tokio::test]
async fn keys_are_replaced_without_losing_a_session() {
    let server = RedisServer::start().await;
    let old = Replica::with_keys(&server, &[1]);
    old.put(1001, "old").await;
    // First the new key is known everywhere, then it is used, then the old one goes.
    let (knowing, using) =
        (Replica::with_keys(&server, &[1, 2]), Replica::with_keys(&server, &[2, 1]));
    all_listen(&server, 3).await;
    knowing.store.load(agent(1001)).await.unwrap().expect("under the old key");
    let loaded = using.store.load(agent(1001)).await.unwrap().expect("under the old key");
    let renewed = using.renew(&loaded, 1001, "new").await.expect("renewed");
    knowing.hears(1001, Some("new")).await;
    // Replicas whose first key is the old one may still seal with it what they find.
    drop((old, knowing));
    using.renew(&renewed, 1001, "newer").await.expect("renewed");
    let after = Replica::with_keys(&server, &[2]);
    after.store.load(agent(1001)).await.unwrap().expect("under the new key");
}

#[tokio::test]
async fn a_record_that_was_moved_or_changed_is_not_accepted() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    all_listen(&server, 1).await;
    replica.put(1001, "of-1001").await;
    let keys = replica.shared.keys(&tenant());
    let mut connection = server.connection().await;
    let record: String = ::redis::cmd("HGET")
        .arg(keys.session(agent(1001)))
        .arg("record")
        .query_async(&mut connection)
        .await
        .unwrap();
    let forged = [
        record.clone(),
        record.replace("\"agent\":1001", "\"agent\":1002"),
        record.replace("\"agent\":1001,\"version\":1", "\"agent\":1002,\"version\":2"),
        "nonsense".into(),
        String::new(),
    ];
    for forged in forged {
        let _: () = ::redis::cmd("HSET")
            .arg(keys.session(agent(1002)))
            .arg(&["record", &forged])
            .query_async(&mut connection)
            .await
            .unwrap();
        let loaded = replica.store.load(agent(1002)).await.unwrap();
        assert!(loaded.is_none(), "{forged}: {loaded:?}");
        let _: u64 = ::redis::cmd("PUBLISH")
            .arg(keys.changed())
            .arg(forged)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    replica.put(1003, "after").await;
    eventually("the messages to be read", || replica.cached(1003).is_some()).await;
    assert!(replica.cached(1002).is_none());
    assert_eq!(replica.knows(1001).as_deref(), Some("of-1001"));
}
