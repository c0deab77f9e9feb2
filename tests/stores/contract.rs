//! Contract tests, which run against every store.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ccgateway_bridge::{
    cluster::SharedStore,
    id::{AgentId, TenantId},
    session::{
        Claim, EmbeddedStore, EndOf, Guid, NewSession, Origin, Reservation, Session, SessionFuture,
        SessionStore, StoreError, StoreFuture,
    },
};
use ccgateway_test_support::RedisServer;

use crate::{
    cluster::Cluster,
    file::Folder,
    support::{Replica, agent, eventually, guid, made, registered, tenant},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn keeps_what_is_put(store: &dyn SessionStore) {
    assert!(store.cached(agent(1001)).is_none());
    assert!(store.load(agent(1001)).await.unwrap().is_none());
    let stored = store.put(agent(1001), registered("a.Node1", MINUTE)).await.unwrap();
    for found in [store.cached(agent(1001)), store.load(agent(1001)).await.unwrap()] {
        let found = found.expect("a session");
        assert_eq!(found.guid, guid("a.Node1"));
        assert_eq!((found.origin, found.version), (Origin::Registered, stored.version));
        assert_eq!(found.cookies.header().unwrap(), "lb=canary-cookie");
        assert!(found.expires_at.is_some());
    }
    assert!(store.cached(agent(1002)).is_none());
}

async fn puts_a_session_in_the_place_of_any_other(store: &dyn SessionStore) {
    let first = store.put(agent(1001), registered("a", MINUTE)).await.unwrap();
    let second = store.put(agent(1001), made("b")).await.unwrap();
    assert!(second.version > first.version);
    let found = store.load(agent(1001)).await.unwrap().unwrap();
    assert_eq!((found.guid.clone(), found.origin), (guid("b"), Origin::SignedIn));
    assert!(found.expires_at.is_none());
}

async fn stores_what_comes_late_only_where_nothing_newer_is(store: &dyn SessionStore) {
    let early = store.claim(0);
    let late = store.claim(0);
    let newer = store.put_claimed(agent(1001), made("late"), late).await.unwrap();
    assert_eq!(newer.expect("nothing was there").version, late.version);
    assert!(store.put_claimed(agent(1001), made("early"), early).await.unwrap().is_none());
    assert_eq!(store.cached(agent(1001)).unwrap().guid, guid("late"));

    let next = store.claim(late.version);
    assert!(next.version > late.version);
    let stored = store.put_claimed(agent(1001), made("next"), next).await.unwrap();
    assert_eq!(stored.expect("what was to be replaced was there").guid, guid("next"));
}

async fn renews_only_the_newest(store: &dyn SessionStore) {
    let first = store.put(agent(1001), registered("first", MINUTE)).await.unwrap();
    let renewed = store.renew(agent(1001), &first, guid("second")).await.unwrap().unwrap();
    assert!(renewed.version > first.version);
    assert_eq!(renewed.origin, Origin::Registered);
    assert_eq!(renewed.cookies.header(), first.cookies.header());
    assert!(renewed.expires_at >= first.expires_at);

    assert!(store.renew(agent(1001), &first, guid("late")).await.unwrap().is_none());
    assert_eq!(store.cached(agent(1001)).unwrap().guid, guid("second"));
}

async fn removes_only_the_version_named(store: &dyn SessionStore) {
    let first = store.put(agent(1001), made("a")).await.unwrap();
    let second = store.put(agent(1001), made("b")).await.unwrap();
    store.remove(agent(1001), first.version).await.unwrap();
    assert!(store.cached(agent(1001)).is_some());
    store.remove(agent(1001), second.version).await.unwrap();
    store.remove(agent(1001), second.version).await.unwrap();
    assert!(store.cached(agent(1001)).is_none());
    assert!(store.load(agent(1001)).await.unwrap().is_none());
    assert!(store.renew(agent(1001), &second, guid("c")).await.unwrap().is_none());

    let third = store.put(agent(1001), made("c")).await.unwrap();
    assert!(third.version > second.version, "versions grow over a removal");
    store.remove(agent(1001), second.version).await.unwrap();
    assert_eq!(store.load(agent(1001)).await.unwrap().unwrap().guid, guid("c"));
}

async fn begins_versions_with_the_time(store: &dyn SessionStore) {
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let stored = store.put(agent(1001), made("a")).await.unwrap();
    assert!(u128::from(stored.version) >= before, "or a restart would give lower ones");
}

async fn forgets_when_the_time_is_over(store: &dyn SessionStore) {
    let ttl = Duration::from_millis(300);
    store.put(agent(1001), registered("a", ttl)).await.unwrap();
    eventually("the session to end", || store.cached(agent(1001)).is_none()).await;
    assert!(store.load(agent(1001)).await.unwrap().is_none());
}

async fn refuses_more_than_it_holds(store: &dyn SessionStore) {
    store.put(agent(1001), made("a")).await.unwrap();
    store.put(agent(1002), made("b")).await.unwrap();
    assert!(store.reserve(agent(1003)).is_none() && store.reserve(agent(1002)).is_some());
    let full = store.put(agent(1003), made("c")).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    store.put(agent(1002), made("b2")).await.unwrap();
    let version = store.cached(agent(1001)).unwrap().version;
    store.remove(agent(1001), version).await.unwrap();
    store.put(agent(1003), made("c")).await.unwrap();
}

async fn keeps_a_place_for_who_is_being_signed_in(store: &dyn SessionStore) {
    store.put(agent(1001), made("a")).await.unwrap();
    let reserved = store.reserve(agent(1002)).expect("a place");
    assert!(store.reserve(agent(1003)).is_none());
    let full = store.put(agent(1003), made("c")).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    store.put(agent(1002), made("b")).await.unwrap();
    drop(reserved);
    let version = store.cached(agent(1002)).unwrap().version;
    store.remove(agent(1002), version).await.unwrap();
    drop(store.reserve(agent(1002)).expect("a place"));
    store.put(agent(1003), made("c")).await.unwrap();
}

macro_rules! contract {
    ($($promise:ident($capacity:literal)),* $(,)?) => {
        mod embedded {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    let capacity = NonZeroUsize::new($capacity).unwrap();
                    super::$promise(&EmbeddedStore::new(capacity)).await;
                }
            )*
        }

        mod file {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    let folder = Folder::new();
                    let capacity = NonZeroUsize::new($capacity).unwrap();
                    let file = folder.open_for(&[1], capacity).await.unwrap();
                    super::$promise(&file.store(&tenant(), capacity)).await;
                }
            )*
        }

        mod shared {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    let server = RedisServer::start().await;
                    let capacity = NonZeroUsize::new($capacity).unwrap();
                    let shared = Replica::of(&server).shared;
                    super::$promise(&SharedStore::start(&shared, &tenant(), capacity)).await;
                }
            )*
        }

        /// A tenant for each promise, so that they are spread over the nodes.
        #[tokio::test]
        async fn a_cluster_of_three_passes_the_contract_tests() {
            let cluster = Cluster::start().await;
            let shared = cluster.shared();
            $(
                let tenant = TenantId::parse(stringify!($promise)).unwrap();
                let capacity = NonZeroUsize::new($capacity).unwrap();
                $promise(&SharedStore::start(&shared, &tenant, capacity)).await;
            )*
        }

        /// With nobody at the other end: what a replica knows by itself works alike.
        mod alone {
            use super::*;
            $(
                #[tokio::test]
                async fn $promise() {
                    let mut server = RedisServer::start().await;
                    server.kill().await;
                    let capacity = NonZeroUsize::new($capacity).unwrap();
                    let shared = Replica::of(&server).shared;
                    let store = SharedStore::start(&shared, &tenant(), capacity);
                    super::$promise(&WithoutLoad(store)).await;
                }
            )*
        }
    };
}

contract! {
    keeps_what_is_put(8),
    puts_a_session_in_the_place_of_any_other(8),
    stores_what_comes_late_only_where_nothing_newer_is(8),
    renews_only_the_newest(8),
    removes_only_the_version_named(8),
    begins_versions_with_the_time(8),
    forgets_when_the_time_is_over(8),
    refuses_more_than_it_holds(2),
    keeps_a_place_for_who_is_being_signed_in(2),
}

/// A shared store without its Redis, which is read from memory alone.
#[derive(Debug)]
struct WithoutLoad(SharedStore);

impl SessionStore for WithoutLoad {
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.0.cached(agent)
    }

    fn reserve(&self, agent: AgentId) -> Option<Reservation> {
        self.0.reserve(agent)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn load(&self, agent: AgentId) -> SessionFuture<'_> {
        Box::pin(async move {
            let failed = self.0.load(agent).await;
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
            Ok(self.0.cached(agent))
        })
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        self.0.put(agent, session)
    }

    fn claim(&self, replaces: u64) -> Claim {
        self.0.claim(replaces)
    }

    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_> {
        self.0.put_claimed(agent, session, claim)
    }

    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a> {
        self.0.renew(agent, old, guid)
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        self.0.remove(agent, version)
    }

    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        what: EndOf,
    ) -> StoreFuture<'a, ()> {
        self.0.sign_out(agent, session, what)
    }

    fn is_let_go(&self, agent: AgentId) -> bool {
        self.0.is_let_go(agent)
    }
}
