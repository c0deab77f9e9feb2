//! Somebody who can read, write and publish in Redis, and has no key.

mod dump;
mod obstacles;
mod random;

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ccgateway_sim::{Interface, Options};
use ccgateway_test_support::{PASSWORD, RedisServer, Setup, Site, TestBridge, asked, until_within};
use redis::{FromRedisValue, ToRedisArgs, aio::MultiplexedConnection};

use crate::{
    callee::{self, CREDENTIALS, sign_ins},
    support::{all_listen_to, hex},
};

/// The attacker's connection.
pub(crate) struct Attacker(MultiplexedConnection);

impl Attacker {
    pub(crate) async fn of(server: &RedisServer) -> Self {
        Self(server.connection().await)
    }

    pub(crate) async fn ask<T: FromRedisValue>(&mut self, words: &[impl ToRedisArgs]) -> T {
        self.tries(words).await.expect("answered")
    }

    /// Like [`Self::ask`], where Redis may say no.
    pub(crate) async fn tries<T: FromRedisValue>(
        &mut self,
        words: &[impl ToRedisArgs],
    ) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut self.0).await
    }

    async fn publish(&mut self, channel: &str, message: impl AsRef<str>) {
        let _: u64 = self.ask(&["PUBLISH", &key(channel), message.as_ref()]).await;
    }
}

/// A key or channel of the tenant.
pub(crate) fn key(name: &str) -> String {
    format!("test:{{acme}}:{name}")
}

/// A replica that polls for its agents.
pub(crate) async fn polling(site: &Site, server: &RedisServer) -> TestBridge {
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into();
    let setup = callee::setup(callee::on_redis(server, ""));
    let setup = Setup { keep: true, tenant, password: Some(PASSWORD), ..setup };
    Box::pin(TestBridge::at(site, &setup)).await
}

/// How often a bridge has not believed something for this reason.
pub(crate) async fn disbelieved(bridge: &TestBridge, reason: &str) -> f64 {
    let name = format!("ccgw_store_disbelieved_total{{reason=\"{reason}\"}}");
    bridge.scrape().await.get(&name).copied().unwrap_or_default()
}

fn micros_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    u64::try_from(since.as_micros()).expect("a time")
}

/// Numbers that are above all that there will be, and the last of them has nothing above it.
const BEYOND: [&str; 3] =
    ["9999999999999-0", "18446744073709551614-7", "18446744073709551615-18446744073709551615"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_with_numbers_from_beyond_stop_no_replica_and_are_told_to_nobody() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let (left, right) = (polling(&site, &server).await, polling(&site, &server).await);
    let mut attacker = Attacker::of(&server).await;
    let mut watches = [left.watch(&[], None).await, right.watch(&[], None).await];
    let what = r#"{"session":{"state":"gone","cause":"canary-forged"}}"#;
    all_listen_to(&key("news"), &server, 2).await;
    for number in BEYOND {
        attacker.publish("news", format!("{number} 1002 {what}")).await;
    }
    left.sign_in(1001).await.expect("signed in");
    for watch in &mut watches {
        let ready = watch.event("AgentState_Ready").await;
        assert!(ready.sequence >> 20 < micros_now() / 1000 + 86_400_000, "{ready:?}");
    }
    for bridge in [&left, &right] {
        assert!(disbelieved(bridge, "event_number").await > 2.5);
        let mut all = bridge.watch(&[], Some(1)).await;
        loop {
            let told = format!("{:?}", all.next().await);
            assert!(!told.contains("canary"), "{told}");
            if told.contains("AgentState_Ready") {
                break;
            }
        }
        bridge.set_busy(1001).await.expect("accepted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_that_takes_no_more_numbers_is_set_aside_and_begun_anew() {
    for number in BEYOND {
        let (server, site) = (RedisServer::start().await, callee::site().await);
        let mut attacker = Attacker::of(&server).await;
        let what = r#"{"session":{"state":"gone","cause":"canary-forged"}}"#;
        let _: String =
            attacker.ask(&["XADD", &key("events"), number, "agent", "1002", "event", what]).await;
        let (left, right) = (polling(&site, &server).await, polling(&site, &server).await);
        let mut watches = [left.watch(&[], None).await, right.watch(&[], None).await];
        left.sign_in(1001).await.expect("signed in");
        for watch in &mut watches {
            watch.event("AgentState_Ready").await;
        }
        let begun: u64 = attacker.ask(&["XLEN", &key("events")]).await;
        assert!(begun > 0);
        let third = polling(&site, &server).await;
        let mut again = third.watch(&[1001], Some(1)).await;
        again.event("AgentState_Ready").await;
        assert!(disbelieved(&left, "event_number").await > 0.5);
    }
}

/// Redis numbers events above the highest number that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_has_the_time_of_its_replica_whatever_number_somebody_has_made_redis_give_it() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let mut attacker = Attacker::of(&server).await;
    let ahead = Duration::from_secs(23 * 60 * 60);
    let number = format!("{}-0", (micros_now() / 1000) + 23 * 60 * 60 * 1000);
    let _: String = attacker.ask(&["XADD", &key("events"), &number, "sealed", "x"]).await;
    let (left, right) = (polling(&site, &server).await, polling(&site, &server).await);
    let mut watches = [left.watch(&[], None).await, right.watch(&[], None).await];
    left.sign_in(1001).await.expect("signed in");
    for watch in &mut watches {
        let ready = watch.event("AgentState_Ready").await;
        assert!(ready.sequence >> 20 > micros_now() / 1000, "the number is far ahead");
        let received = SystemTime::try_from(ready.receive_time.expect("a time")).expect("a time");
        assert!(received < SystemTime::now() + ahead / 2, "{received:?}");
    }
}

#[tokio::test]
async fn passwords_and_rejections_that_no_replica_has_sealed_are_counted_and_not_used() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    let mut attacker = Attacker::of(&server).await;
    let sealed = r#"{"key":"00000000","salt":"","data":""}"#;
    for forged in ["x", sealed] {
        for kind in ["credentials", "rejected"] {
            let _: () = attacker.ask(&["SET", &key(&format!("{kind}:1001")), forged]).await;
        }
        let before = disbelieved(&bridge, "password_seal").await;
        bridge.set_busy(1001).await.expect("signed in with the file's password");
        assert!(disbelieved(&bridge, "password_seal").await > before + 0.5, "{forged}");
        bridge.sign_out(1001).await.expect("signed out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_no_replica_has_sealed_or_that_come_again_are_told_to_nobody() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = polling(&site, &server).await;
    let mut attacker = Attacker::of(&server).await;
    let mut watch = bridge.watch(&[], None).await;
    bridge.sign_in(1001).await.expect("signed in");
    watch.event("AgentState_Ready").await;
    let kept: Vec<(String, Vec<String>)> =
        attacker.ask(&["XRANGE", &key("events"), "-", "+"]).await;
    let (_, fields) = kept.last().expect("an event");
    let sealed = fields.last().expect("sealed");
    let now = micros_now() / 1000;
    all_listen_to(&key("news"), &server, 1).await;
    // What was told before, under another number, and what was never told.
    attacker.publish("news", format!("{}-7 {sealed}", now + 10)).await;
    attacker.publish("news", format!("{}-8 {}", now + 10, sealed.replace('a', "b"))).await;
    let what = r#"{"session":{"state":"gone","cause":"canary-forged"}}"#;
    attacker.publish("news", format!("{}-9 1001 {what}", now + 10)).await;
    let _: String =
        attacker.ask(&["XADD", &key("events"), "*", "agent", "1001", "event", what]).await;
    bridge.set_busy(1001).await.expect("accepted");
    loop {
        let next = watch.next().await;
        let words = format!("{next:?}");
        assert!(!words.contains("AgentState_Ready") && !words.contains("canary"), "{words}");
        if words.contains("AgentState_SetNotReady_Success") {
            break;
        }
    }
    assert!(disbelieved(&bridge, "event_repeated").await > 0.5);
    assert!(disbelieved(&bridge, "event_seal").await > 1.5);
}

/// What a file without keys has of the end of a session, and of a session.
const END: &str = "{\"end\":{\"signed_out\":true}}\n\n";
const SESSION: &str = "{\"session\":{\"origin\":\"signed_in\",\"made\":1,\"renewed_at\":1,\"expires_at\":null,\"ttl\":null}}\ncanary-forged.Node1\n";

#[tokio::test]
async fn records_that_no_replica_has_sealed_end_no_session_and_raise_no_version() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let (left, right) = (callee::start(&site, &server).await, callee::start(&site, &server).await);
    all_listen_to(&key("changed"), &server, 2).await;
    let mut attacker = Attacker::of(&server).await;
    left.sign_in(1001).await.expect("signed in");
    right.set_busy(1001).await.expect("accepted");
    let version = left.session(1001).await.guid_version;
    for version in [version + 1, (1 << 53) - 1, u64::MAX] {
        for agent in [1001, 1002, 77_777, 999_999_999] {
            let plain = |words: &str| format!(r#","content":{{"plain":"{}"}}"#, hex(words));
            for more in [
                r#","session":null,"signed_out":true"#.to_owned(),
                plain(""),
                plain(END),
                plain(SESSION),
            ] {
                let forged = format!("{{\"agent\":{agent},\"version\":{version}{more}}}");
                attacker.publish("changed", &forged).await;
                let key = key(&format!("session:{agent}"));
                let version = version.to_string();
                let _: u64 =
                    attacker.ask(&["HSET", &key, "version", &version, "record", &forged]).await;
            }
        }
    }
    for bridge in [&left, &right] {
        bridge.set_busy(1001).await.expect("still signed in");
        assert_eq!(bridge.session(1001).await.guid_version, version);
    }
    assert_eq!(sign_ins(&site.gateway), 1);
    // Whoever comes later, and whoever writes there, is not held up by it.
    let third = callee::start(&site, &server).await;
    third.sign_in(1002).await.expect("signed in");
    let second = third.session(1002).await.guid_version;
    assert!(second < micros_now() + 60_000_000, "{second}");
    left.set_busy(1002).await.expect("the third has stored it");
    assert_eq!(sign_ins(&site.gateway), 2);
    for reason in ["session_seal", "session_version"] {
        assert!(disbelieved(&left, reason).await > 0.5, "{reason}");
    }
}

#[tokio::test]
async fn a_lock_on_a_sign_in_that_no_replica_has_sealed_holds_nobody_up() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::start(&site, &server).await;
    let mut attacker = Attacker::of(&server).await;
    let lock = "00000000000000ab";
    let _: () = attacker.ask(&["SET", &key("sign-in:1001"), lock]).await;
    for attempt in [lock, "00000000000000ac", "ad", "x"] {
        let sealed = r#"{"key":"00000000","salt":"","data":""}"#;
        let _: u64 = attacker.ask(&["HSET", &key("signing-in:1001"), attempt, sealed]).await;
    }
    bridge.sign_in(1001).await.expect("signed in");
    assert!(disbelieved(&bridge, "sign_in_lock").await > 0.5);
    let _: () = attacker.ask(&["SET", &key("signing-in:1002"), lock]).await;
    bridge.sign_in(1002).await.expect("signed in without a lock");
}

/// Its share of the agents would be nobody's, and a lease without an end would be an agent's last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_live_gets_no_agents() {
    let options = Options { poll_wait: Duration::from_millis(200), ..Options::default() };
    let (server, site) = (RedisServer::start().await, Site::new(options).await);
    let mut attacker = Attacker::of(&server).await;
    for id in 0..50 {
        let member = format!("{id:016x}");
        let _: u64 = attacker.ask(&["ZADD", &key("replicas"), "9e15", &member]).await;
    }
    let store = callee::on_redis(&server, "lease = \"2s\"\n");
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into();
    let setup = Setup { keep: true, tenant, password: Some(PASSWORD), ..callee::setup(store) };
    let bridge = Box::pin(TestBridge::at(&site, &setup)).await;
    for agent in 1001..1009 {
        bridge.sign_in(agent).await.expect("signed in");
    }
    let mut others = 0;
    for agent in ["70000", "999999999", "x"] {
        others += attacker.ask::<u64>(&["SADD", &key("kept"), agent]).await;
    }
    assert_eq!(others, 3);
    until_turns(&bridge, 2.0).await;
    all_are_polled(&site, 1001..1009).await;
    assert!(disbelieved(&bridge, "heartbeat").await > 49.5);
}

/// Waits until each of these agents is polled for once more.
async fn all_are_polled(site: &Site, agents: Range<u32>) {
    site.gateway.clear_journal();
    for agent in agents {
        until_within(Duration::from_secs(60), "it is polled", || {
            let polls = asked(&site.gateway, Interface::Poll);
            polls.iter().any(|poll| poll.agent == Some(agent))
        })
        .await;
    }
}

/// Waits until two agents were not believed in so many turns.
async fn until_turns(bridge: &TestBridge, turns: f64) {
    let limit = Duration::from_secs(60);
    let turning = async {
        while disbelieved(bridge, "agent_id").await < 2.0 * turns {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, turning).await.expect("the replica takes its turns");
}
