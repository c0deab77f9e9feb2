use std::{
    collections::HashMap,
    future::ready,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{Guid, NewSession, Origin, Session, SessionStore, StoreError, StoreFuture};
use crate::id::AgentId;

/// Sessions in the memory of this process: the store of a single replica.
#[derive(Debug)]
pub struct EmbeddedStore {
    sessions: Mutex<HashMap<AgentId, Arc<Stored>>>,
    /// One counter for all agents, so that versions grow over a sign-out too.
    last_version: AtomicU64,
    capacity: NonZeroUsize,
}

#[derive(Debug)]
struct Stored {
    session: Arc<Session>,
    /// A renewal by the gateway starts the time anew.
    ttl: Option<Duration>,
}

impl EmbeddedStore {
    /// A store of up to `capacity` sessions.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { sessions: Mutex::default(), last_version: AtomicU64::new(0), capacity }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<Stored>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, agent: AgentId) -> Option<Arc<Session>> {
        let session = self.sessions().get(&agent)?.session.clone();
        (!session.is_expired()).then_some(session)
    }

    /// Called with the sessions locked, so that the higher version is the later one.
    fn stored(&self, new: NewSession) -> Arc<Stored> {
        let NewSession { guid, origin, ttl, cookies } = new;
        let session = Arc::new(Session {
            guid,
            origin,
            version: self.last_version.fetch_add(1, Ordering::Relaxed) + 1,
            renewed_at: SystemTime::now(),
            expires_at: ttl.map(|ttl| Instant::now() + ttl),
            cookies,
        });
        Arc::new(Stored { session, ttl })
    }

    /// Makes room by forgetting what has expired; a live session is never given up for another.
    fn make_room(&self, sessions: &mut HashMap<AgentId, Arc<Stored>>, agent: AgentId) -> bool {
        if sessions.len() < self.capacity.get() || sessions.contains_key(&agent) {
            return true;
        }
        sessions.retain(|_, stored| !stored.session.is_expired());
        sessions.len() < self.capacity.get()
    }

    fn insert(&self, agent: AgentId, new: NewSession) -> Result<Arc<Session>, StoreError> {
        let mut sessions = self.sessions();
        if !self.make_room(&mut sessions, agent) {
            return Err(StoreError::Full(self.capacity));
        }
        let stored = self.stored(new);
        let session = stored.session.clone();
        sessions.insert(agent, stored);
        Ok(session)
    }

    fn replace(&self, agent: AgentId, old: &Session, guid: Guid) -> Option<Arc<Session>> {
        let mut sessions = self.sessions();
        let stored = sessions.get_mut(&agent)?;
        if stored.session.version != old.version {
            return None;
        }
        let (origin, ttl): (Origin, _) = (old.origin, stored.ttl);
        *stored = self.stored(NewSession { guid, origin, ttl, cookies: old.cookies.clone() });
        Some(stored.session.clone())
    }
}

impl SessionStore for EmbeddedStore {
    fn warm(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.get(agent)
    }

    fn has_room(&self, agent: AgentId) -> bool {
        self.make_room(&mut self.sessions(), agent)
    }

    fn len(&self) -> usize {
        self.sessions().len()
    }

    fn load(&self, agent: AgentId) -> StoreFuture<'_, Option<Arc<Session>>> {
        Box::pin(ready(Ok(self.get(agent))))
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        Box::pin(ready(self.insert(agent, session)))
    }

    fn renew<'a>(
        &'a self,
        agent: AgentId,
        old: &'a Session,
        guid: Guid,
    ) -> StoreFuture<'a, Option<Arc<Session>>> {
        Box::pin(ready(Ok(self.replace(agent, old, guid))))
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        let mut sessions = self.sessions();
        if sessions.get(&agent).is_some_and(|stored| stored.session.version == version) {
            sessions.remove(&agent);
        }
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::DEFAULT_AGENT_IDS, session::Cookies};

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
    }

    fn store(capacity: usize) -> EmbeddedStore {
        EmbeddedStore::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn session(guid: &str, ttl: Option<Duration>) -> NewSession {
        let guid = Guid::parse(guid).unwrap();
        NewSession { guid, origin: Origin::Registered, ttl, cookies: Arc::new(Cookies::default()) }
    }

    #[tokio::test]
    async fn a_reply_that_was_overtaken_does_not_bring_the_old_guid_back() {
        let store = store(8);
        let first = store.put(agent(1001), session("first", None)).await.unwrap();
        let newer = Guid::parse("newer").unwrap();
        let late = Guid::parse("late").unwrap();

        let renewed = store.renew(agent(1001), &first, newer.clone()).await.unwrap();
        assert!(renewed.is_some_and(|renewed| renewed.version > first.version));
        assert!(store.renew(agent(1001), &first, late).await.unwrap().is_none());
        assert_eq!(store.warm(agent(1001)).unwrap().guid, newer);
    }

    #[tokio::test]
    async fn versions_grow_over_a_removal() {
        let store = store(8);
        let first = store.put(agent(1001), session("a", None)).await.unwrap();
        store.remove(agent(1001), first.version).await.unwrap();
        let second = store.put(agent(1001), session("a", None)).await.unwrap();
        assert!(second.version > first.version);

        store.remove(agent(1001), first.version).await.unwrap();
        assert!(store.warm(agent(1001)).is_some(), "an older version must not remove a newer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_its_time_to_live_and_a_renewal_starts_it_anew() {
        let ttl = Duration::from_secs(120);
        let store = store(8);
        let first = store.put(agent(1001), session("a", Some(ttl))).await.unwrap();
        tokio::time::advance(ttl / 2).await;
        let guid = Guid::parse("b").unwrap();
        store.renew(agent(1001), &first, guid).await.unwrap().unwrap();
        tokio::time::advance(ttl / 2).await;
        assert!(store.warm(agent(1001)).is_some());
        tokio::time::advance(ttl / 2).await;
        assert!(store.warm(agent(1001)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_gives_up_expired_sessions_only() {
        let store = store(2);
        let ttl = Some(Duration::from_secs(1));
        store.put(agent(1001), session("a", ttl)).await.unwrap();
        store.put(agent(1002), session("b", None)).await.unwrap();
        let full = store.put(agent(1003), session("c", None)).await;
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        store.put(agent(1002), session("b2", None)).await.unwrap();

        tokio::time::advance(Duration::from_secs(2)).await;
        store.put(agent(1003), session("c", None)).await.unwrap();
        assert!(store.warm(agent(1002)).is_some());
    }
}
