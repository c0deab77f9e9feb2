//! The parts that all tenants share, and that make each tenant's own.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{
    Doubts, Heartbeats, RedisEvents, RedisLeases, ReplicaId, Roster, SharedStore, StreamRelay,
    change_records::RedisChangeRecords,
    redis::{Keys, Link},
    sealed_values::RedisSealedValues,
    seals::Seals,
    shared_passwords::SharedPasswords,
};
use crate::{
    config,
    event::{Events, Relay},
    id::TenantId,
    keyring::Keyring,
    session::{ChangeRecords, SealedValues, SessionStore, SharedStores, StoreView},
    tenant::{Peers, Replicas},
};

/// The parts that all tenants share: the link to Redis, the keys, and this replica's id.
#[derive(Clone, Debug)]
pub struct Shared {
    link: Link,
    keyring: Arc<Keyring>,
    doubts: Arc<Doubts>,
    prefix: Arc<str>,
    me: ReplicaId,
    lease: Duration,
    when_away: config::WhenAway,
    credentials: bool,
    tenants: Arc<Mutex<HashMap<TenantId, OfTenant>>>,
}

/// What several parts of a tenant have in common. It stays if the tenant goes, in case that it comes back.
#[derive(Clone, Debug)]
struct OfTenant {
    link: Link,
    news: RosterNews,
    passwords: Arc<SharedPasswords>,
}

/// What a roster receives from the other replicas.
#[derive(Clone, Debug)]
pub(super) struct RosterNews {
    /// Notified when leases are free, or will be soon.
    pub(super) stirred: Arc<Notify>,
    pub(super) heartbeats: Arc<Heartbeats>,
}

impl Shared {
    /// Makes it from the configuration. Opens no connection.
    pub fn new(config: &config::RedisStore) -> Self {
        Self {
            link: Link::new(&config.redis),
            keyring: Arc::new(Keyring::new(&config.key_prefix, &config.encryption_keys)),
            doubts: Arc::new(Doubts::none()),
            prefix: config.key_prefix.as_str().into(),
            me: ReplicaId::random(),
            lease: config.lease,
            when_away: config.when_away,
            credentials: config.credentials,
            tenants: Arc::default(),
        }
    }

    /// The link to Redis.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The link, as a tenant uses it.
    pub(super) fn link_of(&self, tenant: &TenantId) -> Link {
        self.of_tenant(tenant).link
    }

    /// This replica's access to a tenant's leases and sign-in locks.
    pub fn leases(&self, tenant: &TenantId) -> Arc<RedisLeases> {
        let (link, keys, heartbeats) =
            (self.link_of(tenant), self.keys(tenant), self.news(tenant).heartbeats);
        Arc::new(RedisLeases::new(self.me, link, keys, self.lease, heartbeats))
    }

    /// A tenant's events. Redis keeps about `kept` of them.
    pub fn events(&self, tenant: &TenantId, kept: usize) -> RedisEvents {
        RedisEvents::new(self.link_of(tenant), self.keys(tenant), self.seals(tenant), kept)
    }

    /// The names of a tenant's keys and channels.
    pub fn keys(&self, tenant: &TenantId) -> Keys {
        Keys::new(&self.prefix, tenant)
    }

    /// Seals and opens what the replicas of a tenant share.
    pub(super) fn seals(&self, tenant: &TenantId) -> Seals {
        Seals::new(tenant.clone(), self.keyring.clone(), self.doubts.clone())
    }

    pub(super) fn news(&self, tenant: &TenantId) -> RosterNews {
        self.of_tenant(tenant).news
    }

    /// The passwords of a tenant's agents that this replica has shared.
    pub(super) fn passwords(&self, tenant: &TenantId) -> Arc<SharedPasswords> {
        self.of_tenant(tenant).passwords
    }

    fn of_tenant(&self, tenant: &TenantId) -> OfTenant {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || {
            let (link, keys, seals) = (self.link.for_keys(), self.keys(tenant), self.seals(tenant));
            let heartbeats = Arc::new(Heartbeats::new(self.me, self.lease, seals.clone()));
            let news = RosterNews { stirred: Arc::default(), heartbeats };
            let passwords = Arc::new(SharedPasswords::new(link.clone(), keys, seals));
            OfTenant { link, news, passwords }
        };
        tenants.entry(tenant.clone()).or_insert_with(none).clone()
    }
}

impl SharedStores for Shared {
    fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore> {
        Arc::new(SharedStore::start(self, tenant, capacity))
    }

    fn change_records(&self, tenant: &TenantId) -> Option<Arc<dyn ChangeRecords>> {
        let (link, keys, seals) = (self.link_of(tenant), self.keys(tenant), self.seals(tenant));
        Some(Arc::new(RedisChangeRecords::new(link, keys, seals)))
    }

    fn sealed_values(&self, tenant: &TenantId) -> SealedValues {
        let (link, keys, seals) = (self.link_of(tenant), self.keys(tenant), self.seals(tenant));
        let store = RedisSealedValues::new(link, keys, seals, self.passwords(tenant));
        SealedValues::new(tenant.clone(), Box::new(store), self.keyring.clone(), self.credentials)
    }

    fn has_key_of(&self, config: &config::Store) -> bool {
        config.redis().is_none_or(|redis| self.keyring.is_opened_by(&redis.encryption_keys))
    }

    fn change(&self, config: &config::Store) {
        let Some(config) = config.redis() else { return };
        if !self.keyring.has(&config.encryption_keys) {
            self.keyring.replace(&config.encryption_keys);
        }
        self.link.change(&config.redis);
    }

    fn view(&self) -> StoreView {
        let (state, failures) = (self.link.state().into(), self.link.failures());
        let disbelieved = self.doubts.counts();
        StoreView { kind: "redis", state, failures, file_bytes: None, disbelieved }
    }
}

impl Replicas for Shared {
    fn of(&self, tenant: &TenantId) -> Peers {
        let leases = self.leases(tenant);
        let stirred = self.news(tenant).stirred;
        let roster = Roster::new(tenant.clone(), self.me, leases.clone(), self.when_away, stirred);
        Peers { polls: Arc::new(roster), sign_ins: leases }
    }

    fn relay(
        &self,
        tenant: &TenantId,
        events: Arc<Events>,
        kept: usize,
    ) -> (Arc<dyn Relay>, BoxFuture<'static, ()>) {
        let (relay, work) = StreamRelay::new(self.events(tenant, kept), events, kept);
        (Arc::new(relay), Box::pin(work))
    }
}
