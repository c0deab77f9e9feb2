//! A Redis cluster of several masters.

use std::time::Duration;

use ccgateway_bridge::{
    cluster::{Shared, SharedStore, redis::LinkState},
    config::Topology,
    id::TenantId,
    session::{SessionStore as _, StoreError},
};
use ccgateway_test_support::{RedisServer, until_asked};

use crate::{
    support::{CAPACITY, Replica, agent, eventually, made, redis, store_config, tenant},
    topologies::{ask, with},
};

/// Three masters that share the slots.
pub(crate) struct Cluster([RedisServer; 3]);

const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

async fn node() -> RedisServer {
    with(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]).await
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let nodes = [node().await, node().await, node().await];
        for (epoch, (node, (first, last))) in nodes.iter().zip(SLOTS).enumerate() {
            let _: () = ask(node, &["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
            let epoch = (epoch + 1).to_string();
            let _: () = ask(node, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for other in &nodes[1..] {
            let port = other.port().to_string();
            let _: () = ask(&nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        }
        for node in &nodes {
            until_asked("the cluster", async || {
                let info: String = ask(node, &["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
            .await;
        }
        Self(nodes)
    }

    /// What a replica needs that is told of one node only.
    pub(crate) fn shared(&self) -> Shared {
        let config = redis(Topology::Cluster, &[self.0[0].port()]);
        Shared::new(&store_config(config, &[1]))
    }

    pub(crate) fn nodes(&self) -> &[RedisServer; 3] {
        &self.0
    }

    fn replica(&self) -> Replica {
        Replica::with(redis(Topology::Cluster, &[self.0[0].port()]), &[1])
    }

    /// Which node has a slot.
    async fn owner(&self, slot: &str) -> usize {
        for (place, node) in self.0.iter().enumerate() {
            let keys: Result<Vec<String>, _> = ::redis::cmd("CLUSTER")
                .arg(&["GETKEYSINSLOT", slot, "100"])
                .query_async(&mut node.connection().await)
                .await;
            if keys.is_ok_and(|keys| !keys.is_empty()) {
                return place;
            }
        }
        panic!("nobody has a key in slot {slot}");
    }

    /// A tenant whose keys this node has.
    async fn tenant_of(&self, node: usize) -> TenantId {
        let (first, last) = SLOTS[node];
        let slots = first.parse::<u16>().expect("a slot")..=last.parse().expect("a slot");
        let mut tried = 0;
        loop {
            let (name, key) = (format!("t{tried}"), format!("{{t{tried}}}"));
            let slot: u16 = ask(&self.0[0], &["CLUSTER", "KEYSLOT", &key]).await;
            if slots.contains(&slot) {
                return TenantId::parse(&name).expect("a tenant");
            }
            tried += 1;
        }
    }

    /// Moves a slot to another node with all that is in it, as an operator does.
    async fn move_slot(&self, slot: &str) {
        let from = self.owner(slot).await;
        let (source, target) = (&self.0[from], &self.0[(from + 1) % 3]);
        let source_id: String = ask(source, &["CLUSTER", "MYID"]).await;
        let target_id: String = ask(target, &["CLUSTER", "MYID"]).await;
        let _: () = ask(target, &["CLUSTER", "SETSLOT", slot, "IMPORTING", &source_id]).await;
        let _: () = ask(source, &["CLUSTER", "SETSLOT", slot, "MIGRATING", &target_id]).await;
        let keys: Vec<String> = ask(source, &["CLUSTER", "GETKEYSINSLOT", slot, "1000"]).await;
        let port = target.port().to_string();
        for key in keys {
            let _: () = ask(source, &["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
        }
        for node in [target, source] {
            let _: () = ask(node, &["CLUSTER", "SETSLOT", slot, "NODE", &target_id]).await;
        }
    }
}

#[tokio::test]
async fn a_slot_that_is_moved_is_followed() {
    let cluster = Cluster::start().await;
    let (left, right) = (cluster.replica(), cluster.replica());
    let first = left.put(1001, "first").await;
    left.put(1002, "other").await;
    right.store.load(agent(1001)).await.unwrap().expect("a session");

    let key = left.shared.keys(&tenant()).session(agent(1001));
    let slot: u64 = ask(&cluster.0[0], &["CLUSTER", "KEYSLOT", &key]).await;
    cluster.move_slot(&slot.to_string()).await;
    let second = left.renew(&first, 1001, "second").await.expect("renewed");
    assert_eq!(left.store.unsynced(), 0, "it went to the new owner at once");
    right.hears(1001, Some("second")).await;
    cluster.replica().store.load(agent(1002)).await.unwrap().expect("a session");
    left.remove(1001, second.version).await;
    right.hears(1001, None).await;
}

#[tokio::test]
async fn what_one_node_refuses_for_a_while_is_an_outage_for_the_tenants_whose_keys_it_has() {
    let cluster = Cluster::start().await;
    let patient = Duration::from_secs(20);
    let mut config = redis(Topology::Cluster, &[cluster.0[0].port()]);
    (config.timeouts.connect, config.timeouts.command) = (patient, patient);
    let shared = Shared::new(&store_config(config, &[1]));
    let refused = SharedStore::start(&shared, &cluster.tenant_of(0).await, CAPACITY);
    let stored = SharedStore::start(&shared, &cluster.tenant_of(1).await, CAPACITY);

    let _: () = ask(&cluster.0[0], &["CONFIG", "SET", "maxmemory", "1"]).await;
    for store in [&refused, &stored] {
        store.put(agent(1001), made("a")).await.expect("known here");
    }
    assert_eq!((refused.unsynced(), stored.unsynced()), (1, 0));
    assert!(refused.last_outage().is_some());
    assert_eq!(stored.last_outage(), None);
    let unknown = refused.load(agent(1002)).await;
    assert!(matches!(unknown, Err(StoreError::Refused(_))), "others may know it: {unknown:?}");
    assert!(stored.load(agent(1002)).await.expect("asked").is_none());
}

#[tokio::test]
async fn a_node_that_is_gone_stops_nobody_and_is_told_when_it_is_back() {
    let cluster = Cluster::start().await;
    let (left, right) = (cluster.replica(), cluster.replica());
    let first = left.put(1001, "first").await;
    right.asks(1001).await.expect("a session");
    let key = left.shared.keys(&tenant()).session(agent(1001));
    let slot: u64 = ask(&cluster.0[0], &["CLUSTER", "KEYSLOT", &key]).await;
    let owner = cluster.owner(&slot.to_string()).await;
    cluster.0[owner].freeze();
    left.renew(&first, 1001, "second").await.expect("renewed here");
    assert_eq!(left.knows(1001).as_deref(), Some("second"));
    assert!(matches!(left.shared.link().state(), LinkState::Down(_)));
    cluster.0[owner].thaw();
    eventually("nothing to be left", || left.store.unsynced() == 0).await;
    right.hears(1001, Some("second")).await;
}

/// Of a machine that is gone, too, nothing comes back.
#[tokio::test]
async fn a_node_that_does_not_answer_keeps_nobody_from_connecting_to_the_others() {
    let cluster = Cluster::start().await;
    let tenant = cluster.tenant_of(1).await;
    let ports = cluster.0.each_ref().map(RedisServer::port);
    cluster.0[0].freeze();
    let shared = Shared::new(&store_config(redis(Topology::Cluster, &ports), &[1]));
    let store = SharedStore::start(&shared, &tenant, CAPACITY);
    store.put(agent(1001), made("a")).await.expect("known here");
    eventually("Redis to be told", || store.unsynced() == 0).await;
}

#[tokio::test]
async fn a_node_that_hangs_is_away_only_for_the_tenants_whose_keys_it_has() {
    let cluster = Cluster::start().await;
    let mut config = redis(Topology::Cluster, &[cluster.0[2].port()]);
    // The other node has as long, beside other tests.
    config.timeouts.command = Duration::from_secs(3);
    // The connection is kept if others were answered by it within this time.
    config.timeouts.heartbeat = Duration::from_secs(20);
    let shared = Shared::new(&store_config(config, &[1]));
    let hung = SharedStore::start(&shared, &cluster.tenant_of(0).await, CAPACITY);
    let stored = SharedStore::start(&shared, &cluster.tenant_of(1).await, CAPACITY);
    for store in [&hung, &stored] {
        store.put(agent(1001), made("a")).await.expect("known here");
    }
    eventually("Redis to be told", || hung.unsynced() + stored.unsynced() == 0).await;

    cluster.0[0].freeze();
    for store in [&hung, &stored] {
        store.put(agent(1001), made("b")).await.expect("known here");
    }
    assert_eq!((hung.unsynced(), stored.unsynced()), (1, 0));
    hung.load(agent(1002)).await.expect_err("its node does not answer");
    assert!(stored.load(agent(1002)).await.expect("asked").is_none());
    assert!(matches!(shared.link().state(), LinkState::Down(_)), "somebody has to look at it");
    cluster.0[0].thaw();
    eventually("nothing to be left", || hung.unsynced() == 0).await;
    assert!(hung.last_outage().is_some());
}
