//! What somebody puts in the place of the bridge's keys.

use std::{collections::HashMap, time::Duration};

use ccgateway_sim::Options;
use ccgateway_test_support::{PASSWORD, RedisServer, Setup, Site, TestBridge};
use redis::RedisResult;
use tokio::time::{Instant, sleep};

use super::{Attacker, all_are_polled, disbelieved, key, until_turns};
use crate::callee;

const LEASE: Duration = Duration::from_secs(2);
const AGENTS: std::ops::Range<u32> = 1001..1009;

async fn site() -> Site {
    let options = Options { poll_wait: Duration::from_millis(200), ..Options::default() };
    Site::new(options).await
}

/// A replica that ends polls with its leases.
async fn strict(site: &Site, server: &RedisServer) -> TestBridge {
    let store = callee::on_redis(server, "lease = \"2s\"\nwhen_away = \"stop\"\n");
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into();
    let setup = Setup { keep: true, tenant, password: Some(PASSWORD), ..callee::setup(store) };
    Box::pin(TestBridge::at(site, &setup)).await
}

/// One that waits for Redis, however long that takes.
async fn patient(site: &Site, server: &RedisServer) -> TestBridge {
    let store = callee::on_redis(server, "timeouts.command = \"30s\"\n");
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into();
    let setup = Setup { keep: true, tenant, password: Some(PASSWORD), ..callee::setup(store) };
    Box::pin(TestBridge::at(site, &setup)).await
}

/// Redis, a site, and a replica that has signed all agents in.
async fn begun(
    replica: impl AsyncFn(&Site, &RedisServer) -> TestBridge,
) -> (RedisServer, Site, TestBridge) {
    let (server, site) = (RedisServer::start().await, site().await);
    let bridge = replica(&site, &server).await;
    sign_all_in(&bridge).await;
    (server, site, bridge)
}

async fn sign_all_in(bridge: &TestBridge) {
    for agent in AGENTS {
        bridge.sign_in(agent).await.expect("signed in");
    }
}

/// With `"stop"`, agents would lose their polls if leases could not be had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_set_aside_and_ends_no_polls() {
    let (server, site, bridge) = begun(strict).await;
    let mut attacker = Attacker::of(&server).await;
    let of_agents =
        ["lease", "session", "sign-in", "signing-in", "credentials", "rejected", "signed-out"];
    let of_agents =
        of_agents.into_iter().flat_map(|kind| AGENTS.map(move |id| format!("{kind}:{id}")));
    let of_tenant = ["kept", "replicas", "events", "sign-in-moments"].map(str::to_owned);
    for name in of_agents.chain(of_tenant) {
        // At once, since the bridge may write the key at any moment.
        let replace = "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')";
        let _: u64 = attacker.ask(&["EVAL", replace, "1", &key(&name)]).await;
    }
    let begun = Instant::now();
    let types = async {
        for (name, kind) in [("kept", "set"), ("replicas", "zset"), ("lease:1001", "string")] {
            while attacker.ask::<String>(&["TYPE", &key(name)]).await != kind {
                sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), types)
        .await
        .expect("the keys are the bridge's again");
    tokio::time::sleep_until(begun + 2 * LEASE).await;
    all_are_polled(&site, AGENTS).await;
    let stopped = bridge.scrape().await["ccgw_agents_polling_stopped{tenant=\"acme\"}"];
    assert!(stopped < 0.5, "{stopped}");
    bridge.sign_out(1001).await.expect("signed out");
    bridge.sign_in(1001).await.expect("signed in");
    let mut watch = bridge.watch(&[1001], None).await;
    assert!(site.gateway.tell(1001, "AgentEvent_Hold", None));
    watch.event("AgentEvent_Hold").await;
    let other = strict(&site, &server).await;
    other.set_busy(1001).await.expect("its session is shared");
    assert!(disbelieved(&bridge, "key_type").await > 4.5);
}

/// Neither the list of agents nor a session can be read then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_who_are_handed_over_are_polled_although_somebody_removes_them_from_the_list() {
    let (server, site, _first) = begun(strict).await;
    let mut attacker = Attacker::of(&server).await;
    let removing = tokio::spawn(async move {
        let names = AGENTS.map(|agent| key(&format!("session:{agent}")));
        let names: Vec<_> = ["DEL".to_owned(), key("kept")].into_iter().chain(names).collect();
        loop {
            let _removed: RedisResult<u64> = attacker.tries(&names).await;
            sleep(Duration::from_millis(5)).await;
        }
    });
    let second = strict(&site, &server).await;
    let kept = "ccgw_sessions{tenant=\"acme\",state=\"kept\"}";
    let handing_over = async {
        while second.scrape().await[kept] < 0.5 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), handing_over)
        .await
        .expect("some are handed over");
    sleep(3 * LEASE).await;
    all_are_polled(&site, AGENTS).await;
    removing.abort();
}

/// Its share of the agents would be nobody's for as long as somebody has heartbeats of it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_died_gets_no_agents_by_its_old_heartbeats() {
    let (server, site) = (RedisServer::start().await, site().await);
    let gone = strict(&site, &server).await;
    let mut attacker = Attacker::of(&server).await;
    let mut old: Vec<String> = Vec::new();
    let collecting = async {
        while old.len() < 25 {
            let mut now: Vec<String> = attacker.ask(&["ZRANGE", &key("replicas"), "0", "-1"]).await;
            now.retain(|entry| old.last() != Some(entry));
            old.extend(now);
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), collecting).await.expect("25 heartbeats");
    gone.stop().await;
    let bridge = strict(&site, &server).await;
    sign_all_in(&bridge).await;
    let begun = Instant::now();
    let planting = tokio::spawn(async move {
        for entry in old {
            let _added: RedisResult<u64> =
                attacker.tries(&["ZADD", &key("replicas"), "9e15", &entry]).await;
            sleep(LEASE / 2).await;
        }
    });
    tokio::time::sleep_until(begun + 5 * LEASE).await;
    all_are_polled(&site, AGENTS).await;
    assert!(!planting.is_finished(), "there are old heartbeats left");
    planting.abort();
}

/// As somebody does who cannot make any, and as somebody who has kept those of a replica that has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_set_again_and_again_take_nobodys_polls() {
    let (server, site) = (RedisServer::start().await, site().await);
    let (bridge, gone) = (strict(&site, &server).await, strict(&site, &server).await);
    sign_all_in(&gone).await;
    let mut attacker = Attacker::of(&server).await;
    let mut seen: HashMap<u32, Vec<String>> = HashMap::new();
    let until = Instant::now() + 2 * LEASE;
    while Instant::now() < until {
        for agent in AGENTS {
            let name = key(&format!("lease:{agent}"));
            let lease: Option<String> = attacker.ask(&["GET", &name]).await;
            let seen = seen.entry(agent).or_default();
            seen.extend(lease.filter(|lease| seen.last() != Some(lease)));
        }
        sleep(Duration::from_millis(50)).await;
    }
    gone.stop().await;
    all_are_polled(&site, AGENTS).await;
    sleep(2 * LEASE).await;

    let planting = tokio::spawn(async move {
        for round in 0.. {
            plant(&mut attacker, &seen, round).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    for _ in 0..5 {
        sleep(LEASE).await;
        all_are_polled(&site, AGENTS).await;
    }
    planting.abort();
    assert!(disbelieved(&bridge, "lease").await > 7.5);
}

/// Sets a lease of each agent: one that nobody has made, and later the next one that was seen.
async fn plant(attacker: &mut Attacker, seen: &HashMap<u32, Vec<String>>, round: usize) {
    for (agent, seen) in seen {
        let old = &seen[round / 4 % seen.len()];
        let lease = if round < 40 { "00000000000000ab:9:x" } else { old.as_str() };
        let name = key(&format!("lease:{agent}"));
        let _set: RedisResult<String> = attacker.tries(&["SET", &name, lease]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_of_what_is_there_than_replicas_write() {
    let (server, site, bridge) = begun(patient).await;
    let mut attacker = Attacker::of(&server).await;
    let long = "x".repeat(4 << 20);
    let before = sent(&mut attacker).await;
    for agent in AGENTS.chain([1020]) {
        let _: u64 =
            attacker.ask(&["HSET", &key(&format!("session:{agent}")), "record", &long]).await;
        let _: String = attacker.ask(&["SET", &key(&format!("rejected:{agent}")), &long]).await;
        let _: u64 =
            attacker.ask(&["HSET", &key(&format!("signing-in:{agent}")), "x", &long]).await;
        let _: String = attacker.ask(&["SET", &key(&format!("lease:{agent}")), &long]).await;
        let _: String = attacker.ask(&["XADD", &key("events"), "*", "sealed", &long]).await;
        let _: u64 =
            attacker.ask(&["ZADD", &key("replicas"), "9e15", &format!("{agent}{long}")]).await;
        let _: u64 = attacker.ask(&["SADD", &key("kept"), &format!("{agent}{long}")]).await;
    }
    for first in (100_000..170_000).step_by(1000) {
        let mut add = vec!["SADD".to_owned(), key("kept")];
        add.extend((first..first + 1000).map(|id: u32| id.to_string()));
        let _: u64 = attacker.ask(&add).await;
    }
    let _: u64 = attacker.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    until_turns(&bridge, 2.0).await;
    all_are_polled(&site, AGENTS).await;
    bridge.sign_in(1020).await.expect("signed in");
    let other = patient(&site, &server).await;
    let mut watch = other.watch(&[], Some(1)).await;
    watch.event("AgentState_Ready").await;
    for agent in [1001, 1002, 1003, 1020] {
        bridge.set_busy(agent).await.expect("accepted");
    }
    let sent = sent(&mut attacker).await - before;
    assert!(sent < 32_000_000, "{sent} bytes");
    for reason in ["session_seal", "event_seal", "key_type"] {
        assert!(
            disbelieved(&bridge, reason).await + disbelieved(&other, reason).await > 0.5,
            "{reason}"
        );
    }
}

/// How many bytes Redis has sent to all.
async fn sent(attacker: &mut Attacker) -> u64 {
    let info: String = attacker.ask(&["INFO", "stats"]).await;
    let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    line.expect("a count").parse().expect("a number")
}
