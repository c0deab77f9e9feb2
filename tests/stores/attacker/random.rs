//! Thousands of random forgeries, from a seed, over all keys and channels.

use std::time::Duration;

use ccgateway_test_support::{RedisServer, TestBridge, until_asked};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use redis::Value;
use tokio::time::sleep;

use super::{Attacker, all_are_polled, disbelieved, key, polling};
use crate::callee::{self, sign_ins};

const STEPS: usize = 10_000;
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
            "nan",
            "-inf",
            "1e300",
            "0x7fffffffffffffff",
            "no number",
        ];
        let seen = self.seen.choose(&mut self.random).cloned();
        let Some(mut value) = seen.filter(|_| self.random.random_bool(0.7)) else {
            return nonsense.choose(&mut self.random).expect("one").as_bytes().to_vec();
        };
        match self.random.random_range(0..4) {
            0 => value.truncate(self.random.random_range(0..=value.len())),
            1 if !value.is_empty() => {
                let at = self.random.random_range(0..value.len());
                value[at] ^= 1 << self.random.random_range(0..8);
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
    for step in 0..STEPS {
        if step % 500 == 0 {
            // Some of what is seen stays, to be set back later.
            let seen = look(&mut attacker).await;
            forger.seen.extend(seen);
            let excess = forger.seen.len().saturating_sub(5_000);
            forger.seen.drain(..excess);
            all_answer(&replicas).await;
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
    mend(&mut attacker).await;
    let [left, right] = replicas;
    let mut watches = [left.watch(&[1001], None).await, right.watch(&[1001], None).await];
    let telling = async {
        loop {
            site.gateway.tell(1001, "AgentEvent_Hold", None);
            sleep(Duration::from_millis(50)).await;
        }
    };
    let [one, other] = &mut watches;
    let told = async { tokio::join!(one.event("AgentEvent_Hold"), other.event("AgentEvent_Hold")) };
    tokio::select! {
        _both = told => {}
        () = telling => {}
    }
    // One that starts now knows what the others know, and polls where another one stops.
    let third = polling(&site, &server).await;
    for agent in AGENTS {
        let known = async || third.find_session(agent).await.is_ok();
        until_asked("the session to be shared again", known).await;
    }
    all_answer(std::slice::from_ref(&third)).await;
    all_are_polled(&site, AGENTS).await;
    let listed = async || {
        let kept: Vec<String> = attacker.ask(&["SMEMBERS", &key("kept")]).await;
        AGENTS.into_iter().all(|agent| kept.contains(&agent.to_string()))
    };
    until_asked("all to be listed again", listed).await;
    left.stop().await;
    all_are_polled(&site, AGENTS).await;
    assert_eq!(sign_ins(&site.gateway), 0, "nobody was signed in again");
}

/// Takes away what is of another type than replicas need, and has them compare what they know with Redis.
async fn mend(attacker: &mut Attacker) {
    let of_agents = AGENTS.flat_map(|agent| OF_AGENT.map(|kind| (kind, format!("{kind}:{agent}"))));
    let of_tenant = OF_TENANT.map(|name| (name, name.to_owned()));
    for (kind, name) in of_agents.chain(of_tenant) {
        let found: String = attacker.ask(&["TYPE", &key(&name)]).await;
        let right = match kind {
            "session" | "signing-in" => "hash",
            "replicas" => "zset",
            "kept" => "set",
            "events" => "stream",
            _ => "string",
        };
        if found != right {
            let _: u64 = attacker.ask(&["DEL", &key(&name)]).await;
        }
    }
    let _: u64 = attacker.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
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
