use std::{future::ready, num::NonZeroUsize, sync::Arc};

use super::{
    Claim, EndOf, Guid, NewSession, Reservation, Session, SessionFuture, SessionStore, StoreError,
    StoreFuture,
    local::{Entry, Local, Taken},
};
use crate::id::AgentId;

/// Sessions in the memory of this process: the store of a single replica.
#[derive(Debug)]
pub struct EmbeddedStore(Arc<Local>);

impl EmbeddedStore {
    /// A store of up to `capacity` sessions.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self::of(Arc::new(Local::new(capacity)))
    }

    /// A store over sessions that other parts of the process use, too.
    pub(super) fn of(local: Arc<Local>) -> Self {
        Self(local)
    }

    /// Forgets the session of this version. Returns whether it was there.
    pub(super) fn forget(&self, agent: AgentId, version: u64) -> bool {
        self.0.forget(agent, version)
    }

    /// Like [`forget`](Self::forget), but remembers the end of the session for a while.
    pub(super) fn end(&self, agent: AgentId, version: u64) -> bool {
        self.0.replace(agent, version, |end, _| Entry::end(end, false)).is_some()
    }

    fn insert(&self, agent: AgentId, new: &NewSession) -> Result<Arc<Session>, StoreError> {
        let stored = self.0.put(agent, new)?;
        // An entry made from a session always holds it.
        stored.session.ok_or_else(|| self.0.full())
    }

    fn insert_claimed(
        &self,
        agent: AgentId,
        new: NewSession,
        claim: Claim,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let entry = Entry::new(claim.version, new);
        match self.0.offer_over(agent, &entry, claim.replaces) {
            Taken::Yes => Ok(entry.session),
            Taken::Older | Taken::SignedOut => Ok(None),
            Taken::Full => Err(self.0.full()),
        }
    }
}

impl SessionStore for EmbeddedStore {
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.0.get(agent)
    }

    fn signed_in_alone(&self) -> Vec<AgentId> {
        self.0.signed_in()
    }

    fn reserve(&self, agent: AgentId) -> Option<Reservation> {
        self.0.reserve(agent)
    }

    fn len(&self) -> usize {
        // Calls forget sessions as they store others. After a shift no others come, and alerts go by this number.
        self.0.drop_long_expired();
        self.0.sessions()
    }

    fn load(&self, agent: AgentId) -> SessionFuture<'_> {
        Box::pin(ready(Ok(self.0.get(agent))))
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        Box::pin(ready(self.insert(agent, &session)))
    }

    fn claim(&self, replaces: u64) -> Claim {
        self.0.claim(replaces)
    }

    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_> {
        Box::pin(ready(self.insert_claimed(agent, session, claim)))
    }

    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a> {
        let renewed = self.0.replace(agent, old.version, |version, known| {
            Entry::renewed(version, old, guid, known.ttl)
        });
        Box::pin(ready(Ok(renewed.and_then(|entry| entry.session))))
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        self.forget(agent, version);
        Box::pin(ready(Ok(())))
    }

    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        _: EndOf,
    ) -> StoreFuture<'a, ()> {
        self.remove(agent, session.version)
    }

    fn is_let_go(&self, agent: AgentId) -> bool {
        self.0.is_let_go(agent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        id::DEFAULT_AGENT_IDS,
        session::{Cookies, Origin},
    };

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
    }

    fn store(capacity: usize) -> EmbeddedStore {
        EmbeddedStore::new(NonZeroUsize::new(capacity).unwrap())
    }

    fn session(guid: &str, ttl: Option<Duration>) -> NewSession {
        let guid = Guid::parse(guid).unwrap();
        NewSession { guid, origin: Origin::Registered, ttl, cookies: Cookies::default() }
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
        assert_eq!(store.cached(agent(1001)).unwrap().guid, newer);
    }

    /// The gateway's word goes before the clock's.
    #[tokio::test]
    async fn a_reply_after_the_time_of_a_session_renews_it() {
        let store = store(8);
        let first = store.put(agent(1001), session("a", Some(Duration::ZERO))).await.unwrap();
        assert!(store.cached(agent(1001)).is_none());
        let renewed = store.renew(agent(1001), &first, Guid::parse("b").unwrap()).await.unwrap();
        assert!(renewed.is_some_and(|renewed| renewed.version > first.version));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reply_renews_a_session_although_another_was_stored_since() {
        let (store, ttl) = (store(8), Duration::from_secs(1));
        let first = store.put(agent(1001), session("a", Some(ttl))).await.unwrap();
        tokio::time::advance(2 * ttl).await;
        store.put(agent(1002), session("another", None)).await.unwrap();
        let renewed = store.renew(agent(1001), &first, Guid::parse("b").unwrap()).await.unwrap();
        assert!(renewed.is_some_and(|renewed| renewed.version > first.version));
    }

    #[tokio::test]
    async fn versions_grow_over_a_removal() {
        let store = store(8);
        let first = store.put(agent(1001), session("a", None)).await.unwrap();
        store.remove(agent(1001), first.version).await.unwrap();
        let second = store.put(agent(1001), session("a", None)).await.unwrap();
        assert!(second.version > first.version);

        store.remove(agent(1001), first.version).await.unwrap();
        assert!(store.cached(agent(1001)).is_some(), "an older version must not remove a newer");
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
        assert!(store.cached(agent(1001)).is_some());
        tokio::time::advance(ttl / 2).await;
        assert!(store.cached(agent(1001)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_whose_time_has_been_over_for_long_are_not_counted_though_no_others_come() {
        let store = store(8);
        let ttl = Duration::from_secs(1);
        store.put(agent(1001), session("a", Some(ttl))).await.unwrap();
        store.put(agent(1002), session("b", None)).await.unwrap();
        tokio::time::advance(ttl).await;
        assert_eq!(store.len(), 2, "a late answer may still renew it");
        tokio::time::advance(Duration::from_secs(60 * 60)).await;
        assert_eq!(store.len(), 1);
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
        assert!(store.cached(agent(1002)).is_some());
    }
}
