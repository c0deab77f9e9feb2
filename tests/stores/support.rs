//! Stores, sessions, and waiting for what happens elsewhere.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ccgateway_bridge::{
    cluster::{Shared, SharedStore},
    config::{self, Redis, RedisNode, RedisTimeouts, Topology, WhenAway},
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    keyring::EncryptionKey,
    session::{Cookies, Guid, NewSession, Origin, Session, SessionStore},
};
use ccgateway_test_support::{RedisServer, key, until_asked, until_within};
use http::HeaderValue;

pub(crate) const CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

pub(crate) fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent")
}

pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

pub(crate) fn guid(text: &str) -> Guid {
    Guid::parse(text).expect("a Guid")
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digits: Vec<_> = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// A session that the bridge made.
pub(crate) fn made(text: &str) -> NewSession {
    let cookies = Cookies::default();
    NewSession { guid: guid(text), origin: Origin::SignedIn, ttl: None, cookies }
}

/// A session with a time to live and a cookie, handed in by its owner.
pub(crate) fn registered(text: &str, ttl: Duration) -> NewSession {
    let cookies = Cookies::default();
    cookies.set(&HeaderValue::from_static("lb=canary-cookie; Path=/"), None);
    NewSession { guid: guid(text), origin: Origin::Registered, ttl: Some(ttl), cookies }
}

pub(crate) fn redis(topology: Topology, ports: &[u16]) -> Redis {
    let node = |&port| RedisNode { host: "127.0.0.1".into(), port };
    Redis {
        topology,
        nodes: ports.iter().map(node).collect(),
        tls: None,
        username: None,
        password: None,
        timeouts: RedisTimeouts {
            // Other tests run beside this one.
            connect: Duration::from_secs(2),
            command: Duration::from_secs(1),
            heartbeat: Duration::from_millis(300),
        },
    }
}

pub(crate) fn store_config(redis: Redis, keys: &[u8]) -> config::RedisStore {
    let keys = keys.iter().map(|&byte| EncryptionKey::new(key(byte))).collect();
    config::RedisStore {
        redis,
        key_prefix: "test:".into(),
        lease: Duration::from_secs(15),
        when_away: WhenAway::Keep,
        encryption_keys: keys,
        credentials: false,
    }
}

/// What one replica has: a link of its own, and a store.
pub(crate) struct Replica {
    pub(crate) shared: Shared,
    pub(crate) store: SharedStore,
}

impl Replica {
    pub(crate) fn of(server: &RedisServer) -> Self {
        Self::with_keys(server, &[1])
    }

    pub(crate) fn with_keys(server: &RedisServer, keys: &[u8]) -> Self {
        Self::with(redis(Topology::Standalone, &[server.port()]), keys)
    }

    pub(crate) fn with(redis: Redis, keys: &[u8]) -> Self {
        let shared = Shared::new(&store_config(redis, keys));
        let store = SharedStore::start(&shared, &tenant(), CAPACITY);
        Self { shared, store }
    }

    pub(crate) fn commands(&self) -> u64 {
        self.shared.link().commands()
    }

    pub(crate) fn cached(&self, id: u32) -> Option<Arc<Session>> {
        self.store.cached(agent(id))
    }

    /// The Guid that this replica knows without asking.
    pub(crate) fn knows(&self, id: u32) -> Option<String> {
        let session = self.cached(id)?;
        Some(session.guid.header().to_str().expect("text").to_owned())
    }

    pub(crate) async fn put(&self, id: u32, guid: &str) -> Arc<Session> {
        self.store.put(agent(id), made(guid)).await.expect("stored")
    }

    pub(crate) async fn renew(&self, old: &Session, id: u32, to: &str) -> Option<Arc<Session>> {
        self.store.renew(agent(id), old, guid(to)).await.expect("answered")
    }

    pub(crate) async fn remove(&self, id: u32, version: u64) {
        self.store.remove(agent(id), version).await.expect("removed");
    }

    /// Asks Redis, until it answers: a link waits before it tries again.
    pub(crate) async fn asks(&self, id: u32) -> Option<Arc<Session>> {
        let asking = async {
            loop {
                if let Ok(answer) = self.store.load(agent(id)).await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), asking).await.expect("Redis answers")
    }

    /// Waits until this replica knows this Guid.
    pub(crate) async fn hears(&self, id: u32, guid: Option<&str>) {
        eventually(&format!("agent {id} to be {guid:?}"), || self.knows(id).as_deref() == guid)
            .await;
    }
}

/// Waits until so many replicas hear which sessions change, on a server of the test's own.
pub(crate) async fn all_listen(server: &RedisServer, count: u64) {
    all_listen_to("test:{acme}:changed", server, count).await;
}

/// Waits until so many replicas hear what is published in this channel, on a server of the test's own.
pub(crate) async fn all_listen_to(channel: &str, server: &RedisServer, count: u64) {
    let mut connection = server.connection().await;
    let mut question = ::redis::cmd("PUBSUB");
    question.arg("NUMSUB").arg(channel);
    until_asked("all to listen", async || {
        let answer = question.query_async::<(String, u64)>(&mut connection).await;
        answer.expect("Redis answers").1 == count
    })
    .await;
}

/// Waits until it is so, for up to twenty seconds.
pub(crate) async fn eventually(what: &str, so: impl FnMut() -> bool) {
    until_within(Duration::from_secs(20), what, so).await;
}
