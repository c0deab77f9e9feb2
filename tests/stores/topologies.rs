//! Sentinels and clusters.

use ccgateway_bridge::{
    config::{Sentinel, Topology},
    session::SessionStore as _,
};
use ccgateway_test_support::{RedisServer, until_asked};

use crate::support::{Replica, agent, eventually, redis, tenant};

const NO_FILES: [&str; 4] = ["--save", "", "--appendonly", "no"];

pub(crate) async fn with(more: &[&str]) -> RedisServer {
    RedisServer::with(&[&NO_FILES, more].concat()).await
}

pub(crate) async fn ask<T: ::redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut command = ::redis::Cmd::new();
    command.arg(words);
    command.query_async(&mut server.connection().await).await.expect("answered")
}

/// Waits until the server's `INFO` has this line.
async fn informs(server: &RedisServer, line: &str) {
    let mut connection = server.connection().await;
    until_asked(line, async || {
        let info: String =
            ::redis::cmd("INFO").query_async(&mut connection).await.expect("answered");
        info.lines().any(|given| given == line)
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_fail_over_is_followed_and_loses_no_session() {
    let mut master = with(&[]).await;
    let port = master.port().to_string();
    let standby =
        with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
    informs(&standby, "master_link_status:up").await;
    let sentinel = RedisServer::sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 2000\n"
    ))
    .await;
    informs_of_standby(&sentinel).await;

    let asked = Sentinel { master: "main".into(), username: None, password: None };
    let config = redis(Topology::Sentinel(asked), &[sentinel.port()]);
    let (left, right) = (Replica::with(config.clone(), &[1]), Replica::with(config, &[1]));
    let first = left.put(1001, "first").await;
    right.store.load(agent(1001)).await.unwrap().expect("a session");
    assert_eq!(left.store.unsynced(), 0);
    master.kill().await;

    let second = left.renew(&first, 1001, "second").await.expect("renewed here");
    assert_eq!(right.knows(1001).as_deref(), Some("first"), "warm reads go on");
    right.hears(1001, Some("second")).await;
    eventually("nothing to be left", || left.store.unsynced() == 0).await;
    let role: Vec<::redis::Value> = ask(&standby, &["ROLE"]).await;
    assert_eq!(role[0], ::redis::Value::BulkString(b"master".to_vec()));
    left.remove(1001, second.version).await;
    right.hears(1001, None).await;
}

async fn informs_of_standby(sentinel: &RedisServer) {
    until_asked("the sentinel to know the standby", async || {
        let replicas: Vec<::redis::Value> = ask(sentinel, &["SENTINEL", "REPLICAS", "main"]).await;
        !replicas.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_master_that_takes_no_writes_any_more_is_left() {
    let (first, second) = (with(&[]).await, with(&[]).await);
    let sentinel =
        RedisServer::sentinel(&format!("sentinel monitor main 127.0.0.1 {} 1\n", first.port()))
            .await;
    let asked = Sentinel { master: "main".into(), username: None, password: None };
    let replica = Replica::with(redis(Topology::Sentinel(asked), &[sentinel.port()]), &[1]);
    replica.put(1001, "a").await;
    // As after a fail-over that this connection has survived.
    let (port, other) = (first.port().to_string(), second.port().to_string());
    let _: () = ask(&sentinel, &["SENTINEL", "REMOVE", "main"]).await;
    let _: () = ask(&sentinel, &["SENTINEL", "MONITOR", "main", "127.0.0.1", &other, "1"]).await;
    let _: () = ask(&first, &["REPLICAOF", "127.0.0.1", &other]).await;
    assert_ne!(port, other);
    replica.put(1002, "b").await;
    assert_eq!(replica.store.unsynced(), 0, "the write went to the new master at once");
    let found: u64 = ask(&second, &["EXISTS", "test:{acme}:session:1002"]).await;
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_cluster_holds_a_tenant_in_one_slot() {
    let cluster = with(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]).await;
    let _: () = ask(&cluster, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    until_asked("the cluster", async || {
        let info: String = ask(&cluster, &["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok")
    })
    .await;
    let config = redis(Topology::Cluster, &[cluster.port()]);
    let (left, right) = (Replica::with(config.clone(), &[1]), Replica::with(config, &[1]));
    let first = left.put(1001, "first").await;
    assert_eq!(left.store.unsynced(), 0);
    right.store.load(agent(1001)).await.unwrap().expect("a session");
    left.renew(&first, 1001, "second").await.expect("renewed");
    right.hears(1001, Some("second")).await;

    let keys = left.shared.keys(&tenant());
    let slot = async |key: String| ask::<u64>(&cluster, &["CLUSTER", "KEYSLOT", &key]).await;
    let one = slot(keys.session(agent(1001))).await;
    for other in [keys.session(agent(59_999)), keys.changed(), keys.named("owners")] {
        assert_eq!(slot(other).await, one);
    }
}
