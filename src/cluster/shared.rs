//! What the replicas of all tenants have in common, and what there is of each tenant.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{
    RedisEvents, RedisLeases, ReplicaId, Roster, SharedStore, StreamRelay, Voices,
    drawers::RedisDrawers,
    redis::{Keys, Link},
};
use crate::{
    config,
    event::{Events, Relay},
    id::TenantId,
    keyring::{Keyring, SealError},
    session::{Safe, SessionStore, SharedStores, StoreView},
    tenant::{Peers, Replicas},
};

/// What the replicas of all tenants have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    link: Link,
    keyring: Arc<Keyring>,
    prefix: Arc<str>,
    me: ReplicaId,
    lease: Duration,
    when_away: config::WhenAway,
    credentials: bool,
    /// By tenant, what its roster hears of the other replicas.
    news: Arc<Mutex<HashMap<TenantId, News>>>,
}

/// What a roster hears of the other replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// Told when leases are free, or about to be.
    pub(super) stirred: Arc<Notify>,
    pub(super) voices: Arc<Voices>,
}

impl Shared {
    /// What the configuration names. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`SealError`] if a key is of no use.
    pub fn new(config: &config::RedisStore) -> Result<Self, SealError> {
        Ok(Self {
            link: Link::new(&config.redis),
            keyring: Arc::new(Keyring::new(&config.encryption_keys)?),
            prefix: config.key_prefix.as_str().into(),
            me: ReplicaId::random(),
            lease: config.lease,
            when_away: config.when_away,
            credentials: config.credentials,
            news: Arc::default(),
        })
    }

    /// The link to Redis.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// This replica's leases on a tenant's agents, and its place among the replicas that sign them in.
    pub fn leases(&self, tenant: &TenantId) -> Arc<RedisLeases> {
        let (link, keys, voices) = (self.link.clone(), self.keys(tenant), self.news(tenant).voices);
        Arc::new(RedisLeases::new(self.me, link, keys, self.lease, voices))
    }

    /// A tenant's events, about `kept` of them.
    pub fn events(&self, tenant: &TenantId, kept: usize) -> RedisEvents {
        RedisEvents::new(self.link.clone(), self.keys(tenant), kept)
    }

    /// The names of a tenant's keys and channels.
    pub fn keys(&self, tenant: &TenantId) -> Keys {
        Keys::new(&self.prefix, tenant)
    }

    /// What is stored is encrypted with.
    pub(super) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    pub(super) fn news(&self, tenant: &TenantId) -> News {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.entry(tenant.clone()).or_default().clone()
    }
}

impl SharedStores for Shared {
    fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore> {
        Arc::new(SharedStore::start(self, tenant, capacity))
    }

    fn safe(&self, tenant: &TenantId) -> Safe {
        let drawers = RedisDrawers::new(tenant.clone(), self.link.clone(), self.keys(tenant));
        Safe::new(tenant.clone(), Box::new(drawers), self.keyring.clone(), self.credentials)
    }

    fn view(&self) -> StoreView {
        let (state, failures) = (self.link.state().into(), self.link.failures());
        StoreView { kind: "redis", state, failures, file_bytes: None }
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
