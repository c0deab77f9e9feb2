//! Thousands of random forgeries, from a seed, over all keys and channels.

use std::time::Duration;

use ccgateway_test_support::{RedisServer, TestBridge, until_within};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use redis::Value;
use tokio::time::Instant;

use super::{Attacker, disbelieved, key, polling};
use crate::callee::{self, sign_ins};

const STEPS: usize = 10_000;
/// However slow the machine is, the test ends.
const LONGEST: Duration = Duration::from_secs(60);
const AGENTS: std::ops::Range<u32> = 1001..1005;
/// Kinds of keys for one agent, and those for the tenant.
const OF_AGENT: [&str; 6] =
    ["session", "credentials", "rejected", "lease", "sign-in", "signing-in"];
const OF_TENANT: [&str; 4] = ["replicas", "kept", "events", "sign-in-moments"];
const CHANNELS: [&str; 2] = ["news", "changed"];

/// What the attacker has seen, and makes forgeries of.
struct Forger {
    random: StdRng,
    seen: Vec<Vec<u8>>,
}

impl Forger {
    fn key(&mut self) -> String {
        let agent = [1001, 1002, 1003, 1004, 1005, 101, 70_000, 999_999_999];
        let agent = agent.choose(&mut self.random).expect("one");
        if self.random.random() {
            key(&format!("{}:{agent}", OF_AGENT.choose(&mut self.random).expect("one")))
        } else {
            key(OF_TENANT.choose(&mut self.random).expect("one"))
        }
    }

    /// Something seen, something seen and changed, or nonsense.
    fn value(&mut self) -> Vec<u8> {
        let nonsense = [
            "",
            "0",
            "-1",
            "9007199254740991",
            "18446744073709551615",
            "00000000000000ab:9",
            r#"{"agent":1001,"version":9007199254740991,"content":{"plain":""}}"#,
            "{}",
            "roster",
            "alive:00000000000000ab",
            "18446744073709551615-18446744073709551615 {}",
            "1001",
            "999999999",
        ];
        let seen = self.seen.choose(&mut self.random).cloned();
        let Some(mut value) = seen.filter(|_| self.random.random_bool(0.7)) else {
            return nonsense.choose(&mut self.random).expect("one").as_bytes().to_vec();
        };
        match self.random.random_range(0..4) {
            0 => value.truncate(self.random.random_range(0..=value.len())),
            1 if !value.is_empty() => {
                let at = self.random.random_range(0..value.len());
                value[at] ^= 1 << self.random.random_range(0..7);
            }
            2 => value.splice(0..0, *b"18446744073709551614-1 ").for_each(drop),
            _ => {}
        }
        value
    }

    fn command(&mut self) -> Vec<Vec<u8>> {
        let (name, value, other) = (self.key().into_bytes(), self.value(), self.value());
        let channel = key(CHANNELS.choose(&mut self.random).expect("one")).into_bytes();
        let word = |text: &str| text.as_bytes().to_vec();
        match self.random.random_range(0..12) {
            0 => vec![word("SET"), name, value],
            1 => vec![word("HSET"), name, word("record"), value],
            2 => vec![word("HSET"), name, value, other],
            3 => vec![word("SADD"), name, value],
            4 => vec![word("SREM"), name, value],
            5 => vec![word("ZADD"), name, word("9e15"), value],
            6 => vec![word("XADD"), name, word("*"), word("sealed"), value],
            7 => {
                let id = ["18446744073709551615-18446744073709551615", "9999999999999-1"];
                let id = word(id.choose(&mut self.random).expect("one"));
                vec![word("XADD"), name, id, word("sealed"), value]
            }
            8 => vec![word("DEL"), name],
            9 => vec![word("PERSIST"), name],
            _ => vec![word("PUBLISH"), channel, value],
        }
    }
}

/// All that is in Redis now.
async fn look(attacker: &mut Attacker) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    for name in attacker.ask::<Vec<String>>(&["KEYS", &key("*")]).await {
        let kind: String = attacker.ask(&["TYPE", &name]).await;
        let found = match kind.as_str() {
            "string" => attacker.tries::<Value>(&["GET", &name]).await,
            "hash" => attacker.tries(&["HGETALL", &name]).await,
            "set" => attacker.tries(&["SMEMBERS", &name]).await,
            "zset" => attacker.tries(&["ZRANGE", &name, "0", "99"]).await,
            _ => attacker.tries(&["XRANGE", &name, "-", "+", "COUNT", "99"]).await,
        };
        collect(found.unwrap_or(Value::Nil), &mut seen);
    }
    seen
}

fn collect(value: Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::BulkString(bytes) => into.push(bytes),
        Value::Array(values) | Value::Set(values) => {
            for value in values {
                collect(value, into);
            }
        }
        Value::Map(pairs) => pairs.into_iter().for_each(|(name, value)| {
            collect(name, into);
            collect(value, into);
        }),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_forged_stops_no_replica_and_ends_no_session() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let replicas = [polling(&site, &server).await, polling(&site, &server).await];
    for (agent, replica) in AGENTS.zip(replicas.iter().cycle()) {
        replica.sign_in(agent).await.expect("signed in");
    }
    let signed_in = sign_ins(&site.gateway);
    let mut attacker = Attacker::of(&server).await;
    let mut forger = Forger { random: StdRng::seed_from_u64(18), seen: Vec::new() };
    let begun = Instant::now();
    for step in 0..STEPS {
        if step % 500 == 0 {
            // Some of what is seen stays, to be set back later.
            let seen = look(&mut attacker).await;
            forger.seen.extend(seen);
            let excess = forger.seen.len().saturating_sub(5_000);
            forger.seen.drain(..excess);
            all_answer(&replicas).await;
        }
        if begun.elapsed() > LONGEST {
            break;
        }
        let command = forger.command();
        let _refused = attacker.tries::<Value>(&command).await;
    }
    all_answer(&replicas).await;
    assert_eq!(sign_ins(&site.gateway), signed_in, "nobody was signed in again");
    for agent in AGENTS {
        let is_there = site.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
        assert!(is_there, "{agent} is signed in");
    }
    // No password is believed, and nobody is signed in who was not.
    replicas[0].set_busy(1005).await.expect_err("there is no session");
    for replica in &replicas {
        for reason in ["event_seal", "session_seal", "heartbeat"] {
            assert!(disbelieved(replica, reason).await > 0.5, "{reason}");
        }
        let known = replica.scrape().await;
        let sessions: f64 = known
            .iter()
            .filter(|(name, _)| {
                name.starts_with("ccgw_tenant_places_in_use") && name.contains("sessions")
            })
            .map(|(_, value)| value)
            .sum();
        assert!(sessions < 5.5, "{sessions}");
    }
    // Events reach watchers of the replica that fetches them, whatever is in the way of the others.
    let mut watches = Vec::new();
    for replica in &replicas {
        watches.push(replica.watch(&[1001], None).await);
    }
    let mut told = false;
    until_within(Duration::from_secs(20), "an event is told", || {
        told = told || site.gateway.tell(1001, "AgentEvent_Hold", None);
        told
    })
    .await;
    let [left, right] = &mut watches[..] else { panic!("two") };
    tokio::select! {
        _ = left.event("AgentEvent_Hold") => {}
        _ = right.event("AgentEvent_Hold") => {}
    }
}

/// Every replica answers callers and probes.
async fn all_answer(replicas: &[TestBridge]) {
    for replica in replicas {
        for agent in AGENTS {
            replica.set_busy(agent).await.expect("accepted");
        }
        let (head, _) = replica.ask("GET /healthz").await;
        assert!(head.contains(" 200 "), "{head}");
    }
}
