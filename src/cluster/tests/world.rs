//! Replicas, and what they are told.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ccgateway_test_support::RedisServer;
use redis::{FromRedisValue, ToRedisArgs};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cluster::{Shared, SharedStore, redis::Link},
    config::{self, Redis, RedisNode, RedisTimeouts, Topology, WhenAway},
    id::{AgentId, TenantId},
    keyring::EncryptionKey,
    session::{Cookies, Guid, NewSession, Origin, Session, SessionStore as _},
};

pub(in crate::cluster) const LEASE: Duration = Duration::from_secs(15);
pub(in crate::cluster) const CAPACITY: usize = 3;

pub(in crate::cluster) fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &(1..=59_999)).expect("an id")
}

pub(in crate::cluster) fn tenant() -> TenantId {
    TenantId::parse("acme").expect("an id")
}

pub(in crate::cluster) fn guid(text: &str) -> Guid {
    Guid::parse(text).expect("a Guid")
}

pub(in crate::cluster) fn made(text: &str) -> NewSession {
    let cookies = Cookies::default();
    NewSession { guid: guid(text), origin: Origin::SignedIn, ttl: None, cookies }
}

pub(in crate::cluster) fn registered(text: &str, ttl: Duration) -> NewSession {
    NewSession { origin: Origin::Registered, ttl: Some(ttl), ..made(text) }
}

pub(in crate::cluster) fn config(ports: &[u16]) -> Redis {
    let node = |&port| RedisNode { host: "127.0.0.1".into(), port };
    Redis {
        topology: Topology::Standalone,
        nodes: ports.iter().map(node).collect(),
        tls: None,
        username: None,
        password: None,
        timeouts: RedisTimeouts {
            connect: Duration::from_secs(10),
            // Other tests run beside this one.
            command: Duration::from_secs(10),
            heartbeat: Duration::from_millis(100),
        },
    }
}

/// What one replica has.
pub(in crate::cluster) struct Replica {
    pub(in crate::cluster) shared: Shared,
    pub(in crate::cluster) store: SharedStore,
}

impl Replica {
    pub(in crate::cluster) fn of(server: &RedisServer) -> Self {
        Self::with_keys(server, &[1])
    }

    pub(in crate::cluster) fn with_keys(server: &RedisServer, keys: &[u8]) -> Self {
        let shared = shared(server, keys);
        let capacity = NonZeroUsize::new(CAPACITY).expect("not zero");
        let store = SharedStore::start(&shared, &tenant(), capacity);
        Self { shared, store }
    }

    pub(in crate::cluster) fn knows(&self, id: u32) -> Option<String> {
        Some(self.store.cached(agent(id))?.guid.header().to_str().expect("text").to_owned())
    }

    pub(in crate::cluster) async fn put(&self, id: u32, guid: &str) -> Arc<Session> {
        self.store.put(agent(id), made(guid)).await.expect("stored")
    }

    pub(in crate::cluster) async fn load(&self, id: u32) -> Option<String> {
        let loaded = self.store.load(agent(id)).await.expect("answered");
        Some(loaded?.guid.header().to_str().expect("text").to_owned())
    }

    pub(in crate::cluster) async fn hears(&self, id: u32, guid: Option<&str>) {
        until(&format!("{id} is {guid:?}"), || self.knows(id).as_deref() == guid).await;
    }
}

pub(in crate::cluster) fn shared(server: &RedisServer, keys: &[u8]) -> Shared {
    Shared::new(&store_config(server.port(), keys))
}

pub(in crate::cluster) fn store_config(port: u16, keys: &[u8]) -> config::RedisStore {
    config::RedisStore {
        redis: config(&[port]),
        key_prefix: "test:".into(),
        lease: LEASE,
        when_away: WhenAway::Keep,
        encryption_keys: keys.iter().map(|&byte| EncryptionKey::new([byte; 32])).collect(),
        credentials: true,
    }
}

pub(in crate::cluster) fn link(server: &RedisServer) -> Link {
    Link::new(&config(&[server.port()]))
}

/// What the server answers to the test itself.
pub(in crate::cluster) async fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut connection = server.connection().await;
    command(words).query_async(&mut connection).await.expect("answered")
}

pub(in crate::cluster) fn command<T: ToRedisArgs>(words: &[T]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command
}

/// Waits until so many connections listen to what sessions become.
pub(in crate::cluster) async fn all_listen(server: &RedisServer, count: u64) {
    let begun = Instant::now();
    loop {
        let (_, listening): (String, u64) =
            ask(server, &["PUBSUB", "NUMSUB", "test:{acme}:changed"]).await;
        if listening >= count {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{listening} of {count} listen");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until it is so.
pub(in crate::cluster) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
