use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::{
    Shared,
    redis::{Keys, Link, LinkError, LinkState, Script},
    seals::Seals,
    shared::RosterNews,
    shared_passwords::SharedPasswords,
};
use crate::{
    id::{AgentId, TenantId},
    session::{
        Claim, Doubt, EndOf, Entry, Guid, LastOutage, Local, NewSession, Origin, Reservation,
        Session, SessionFuture, SessionStore, StoreError, StoreFuture, Taken,
    },
};

mod key_rotation;
mod sync;
mod write;

use self::write::{Stored, Written};

/// Sessions that replicas share through Redis.
///
/// There are two levels. [`cached`](SessionStore::cached) answers with what this process knows.
/// Every change is written to Redis as an encrypted record, and Redis publishes it to the other
/// replicas. While Redis cannot take a change, the change is used here, and written to Redis later.
#[derive(Debug)]
pub struct SharedStore {
    inner: Arc<Inner>,
    _sync: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    local: Arc<Local>,
    link: Link,
    keys: Keys,
    seals: Seals,
    write: Script,
    replace: Script,
    members: Script,
    /// Wakes the task that writes such changes to Redis.
    unsynced: Notify,
    /// What the roster receives from the other replicas.
    news: RosterNews,
    passwords: Arc<SharedPasswords>,
    /// Agents with values that are not sealed with the first key.
    outdated: Mutex<BTreeSet<AgentId>>,
}

/// How often a change is tried if other replicas are faster.
const ATTEMPTS_MAX: usize = 8;

// === impl SharedStore ===

impl SharedStore {
    /// A tenant's store of up to `capacity` sessions. Starts a task that listens to the other
    /// replicas until the store is dropped. Must be called within a runtime.
    pub fn start(shared: &Shared, tenant: &TenantId, capacity: NonZeroUsize) -> Self {
        let inner = Arc::new(Inner {
            local: Arc::new(Local::new(capacity)),
            link: shared.link_of(tenant),
            keys: shared.keys(tenant),
            seals: shared.seals(tenant),
            write: write::script(),
            replace: Script::new(key_rotation::REPLACE),
            members: Script::reading(key_rotation::MEMBERS),
            unsynced: Notify::new(),
            news: shared.news(tenant),
            passwords: shared.passwords(tenant),
            outdated: Mutex::default(),
        });
        let sync = tokio::spawn(sync::run(inner.clone()));
        Self { inner, _sync: AbortOnDropHandle::new(sync) }
    }

    /// What Redis has of these agents.
    #[cfg(test)]
    pub(super) async fn records(&self, agents: &[AgentId]) -> Vec<Option<Vec<u8>>> {
        self.inner.records(agents).await.expect("read")
    }

    /// How many changes are not written to Redis yet.
    pub fn unsynced(&self) -> usize {
        self.inner.local.unsynced().len()
    }
}

impl SessionStore for SharedStore {
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.inner.local.get(agent)
    }

    fn reserve(&self, agent: AgentId) -> Option<Reservation> {
        self.inner.local.reserve(agent)
    }

    fn len(&self) -> usize {
        self.inner.local.sessions()
    }

    fn load(&self, agent: AgentId) -> SessionFuture<'_> {
        Box::pin(self.inner.load(agent))
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        Box::pin(self.inner.put(agent, session))
    }

    fn claim(&self, replaces: u64) -> Claim {
        self.inner.local.claim(replaces)
    }

    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_> {
        Box::pin(self.inner.put_claimed(agent, session, claim))
    }

    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a> {
        Box::pin(self.inner.renew(agent, old, guid))
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        Box::pin(self.inner.remove(agent, version))
    }

    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        what: EndOf,
    ) -> StoreFuture<'a, ()> {
        let next = session.version.saturating_add(1);
        let end = match what {
            EndOf::Session => Entry::signed_out(next, session.made),
            EndOf::Version => Entry::end(next, true),
        };
        Box::pin(self.inner.end(agent, end))
    }

    fn signed_in(&self) -> Vec<AgentId> {
        self.inner.local.signed_in()
    }

    fn last_outage(&self) -> Option<LastOutage> {
        self.inner.link.last_outage()
    }

    fn tell_again(&self, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Where it fails, the others know what there was before.
            let _told = self.inner.tell_again(agent).await;
        })
    }

    fn is_let_go(&self, agent: AgentId) -> bool {
        self.inner.local.is_let_go(agent)
    }

    fn has_ended(&self, agent: AgentId) -> bool {
        self.inner.local.entry(agent).is_some_and(|entry| entry.session.is_none())
    }
}

// === impl Inner ===

impl Inner {
    async fn load(&self, agent: AgentId) -> Result<Option<Arc<Session>>, StoreError> {
        Ok(self.load_entry(agent).await?.and_then(|entry| entry.live().cloned()))
    }

    /// What there is to know of an agent, cached or not.
    async fn load_entry(&self, agent: AgentId) -> Result<Option<Entry>, StoreError> {
        if let Some(error) = self.is_down() {
            return Err(error.into());
        }
        let Some(bytes) = self.records(&[agent]).await?.pop().flatten() else {
            // If Redis has lost the session, it will be written again. What is known here is good.
            let known = self.local.entry(agent);
            let is_live = known.as_ref().is_some_and(|known| known.live().is_some());
            return match self.link.refusing() {
                // Another replica may know a session that it cannot store.
                Some(refusal) if !is_live => Err(StoreError::Refused(refusal.into())),
                _ => Ok(known),
            };
        };
        let known = self.local.entry(agent).is_some();
        let Some((_, entry)) =
            self.seals.session(Some(agent), &bytes).filter(|new| self.is_believed(known, &new.1))
        else {
            return Ok(self.local.entry(agent));
        };
        self.note_sealed(agent, &bytes);
        Ok(match self.take(agent, &entry) {
            // There is no room to cache it, but it is good.
            Taken::Full => Some(entry),
            Taken::Yes | Taken::Older | Taken::SignedOut => self.local.entry(agent),
        })
    }

    async fn put(&self, agent: AgentId, new: NewSession) -> Result<Arc<Session>, StoreError> {
        if !self.local.has_room(agent) {
            return Err(self.local.full());
        }
        let mut known = self.local.entry(agent).map_or(0, |entry| entry.version);
        for _ in 0..ATTEMPTS_MAX {
            let version = self.local.next_version(known);
            let mut entry = Entry::new(version, new.clone());
            match self.write_now(agent, &entry, Stored::Below(version)).await {
                Ok(Written::Done) => {}
                Ok(Written::Overtaken(stored)) => {
                    known = stored.map_or(0, |stored| stored.version).max(version);
                    continue;
                }
                Err(error) => self.keep_unsynced(agent, &mut entry, &error),
            }
            if self.take(agent, &entry) == Taken::Full {
                return Err(self.local.full());
            }
            // An entry made from a session always holds it.
            return entry.session.ok_or_else(|| self.local.full());
        }
        Err(StoreError::Unavailable("other replicas keep changing this session".into()))
    }

    async fn put_claimed(
        &self,
        agent: AgentId,
        new: NewSession,
        Claim { replaces, version }: Claim,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        if !self.local.has_room(agent) {
            return Err(self.local.full());
        }
        let mut entry = Entry::new(version, new);
        match self.write_now(agent, &entry, Stored::UpTo(replaces)).await {
            Ok(Written::Done) => {}
            Ok(Written::Overtaken(newer)) => {
                self.take_in(agent, newer);
                return Ok(None);
            }
            Err(error) => self.keep_unsynced(agent, &mut entry, &error),
        }
        match self.take(agent, &entry) {
            Taken::Full => Err(self.local.full()),
            Taken::SignedOut => Ok(None),
            Taken::Older if entry.unsynced => Ok(None),
            // The message that Redis published about this change may have been processed already.
            Taken::Yes | Taken::Older => Ok(entry.session),
        }
    }

    async fn renew(
        &self,
        agent: AgentId,
        old: &Session,
        guid: Guid,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let known = match self.local.entry(agent) {
            Some(known) => Some(known),
            None => self.load_entry(agent).await?,
        };
        let Some(known) = known.filter(|k| k.version == old.version && k.session.is_some()) else {
            return Ok(None);
        };
        let version = self.local.next_version(old.version);
        let mut entry = Entry::renewed(version, old, guid, known.ttl);
        match self.write_now(agent, &entry, Stored::UpTo(old.version)).await {
            Ok(Written::Done) => {
                let taken = self.take(agent, &entry);
                return Ok(entry.session.filter(|_| taken != Taken::SignedOut));
            }
            Ok(Written::Overtaken(newer)) => {
                self.take_in(agent, newer);
                return Ok(None);
            }
            Err(error) => self.keep_unsynced(agent, &mut entry, &error),
        }
        match self.local.offer_over(agent, &entry, old.version) {
            Taken::Full => Err(self.local.full()),
            Taken::Yes => Ok(entry.session),
            // Another call has renewed it here meanwhile, or ended it.
            Taken::Older | Taken::SignedOut => Ok(None),
        }
    }

    async fn remove(&self, agent: AgentId, version: u64) -> Result<(), StoreError> {
        let known = self.local.entry(agent).filter(|known| known.version == version);
        let session = known.as_ref().and_then(|known| known.session.as_ref());
        // What was held for an agent whose owner has registered a Guid is of no more use to any replica.
        let is_owners = session.is_some_and(|session| session.origin == Origin::Registered);
        self.end(agent, Entry::end(version.saturating_add(1), is_owners)).await
    }

    /// Ends the session of the version before this end, which has one of its own so that it replaces the session. If the end
    /// says which session was signed out, it ends also the versions with which others have renewed that.
    async fn end(&self, agent: AgentId, mut end: Entry) -> Result<(), StoreError> {
        let mut newer = self.local.entry(agent);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(over_newer) = newer.and_then(|newer| end.sign_out_over(&newer)) {
                end = over_newer;
                end.unsynced = false;
            }
            let version = end.version.saturating_sub(1);
            let is_known = self.local.entry(agent).is_some_and(|known| known.version == version);
            let stored = if is_known { Stored::UpTo(version) } else { Stored::Exactly(version) };
            newer = match self.write_now(agent, &end, stored).await {
                Ok(Written::Done) => {
                    self.take(agent, &end);
                    return Ok(());
                }
                Ok(Written::Overtaken(newer)) => newer,
                Err(error) => {
                    self.keep_unsynced(agent, &mut end, &error);
                    self.take(agent, &end);
                    return Ok(());
                }
            };
            self.take_in(agent, newer.clone());
            if newer.as_ref().and_then(|newer| end.sign_out_over(newer)).is_none() {
                if is_known {
                    self.local.replace(agent, version, |_, _| end);
                }
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("other replicas keep renewing this session".into()))
    }

    /// Whether a session is from now. Where nothing is known of an agent, somebody may have set back a session that has
    /// ended.
    fn is_believed(&self, is_agent_known: bool, entry: &Entry) -> bool {
        let is_old = |session: &Arc<Session>| session.is_too_old();
        let is_believed = is_agent_known || !entry.session.as_ref().is_some_and(is_old);
        if !is_believed {
            self.seals.doubt(Doubt::SessionOld);
        }
        is_believed
    }

    /// Writes to Redis, unless it is known to be down.
    async fn write_now(
        &self,
        agent: AgentId,
        entry: &Entry,
        stored: Stored,
    ) -> Result<Written, LinkError> {
        match self.is_down() {
            Some(error) => Err(error),
            None => self.write(agent, entry, stored).await,
        }
    }

    /// The error if Redis is known to be down. Then callers do not wait for it again, and the task
    /// that syncs with Redis is woken: it notices when Redis is back.
    fn is_down(&self) -> Option<LinkError> {
        let LinkState::Down(error) = self.link.state_for_keys() else { return None };
        self.unsynced.notify_one();
        Some(error)
    }

    /// Marks a change that was not written to Redis, and has it written later.
    fn keep_unsynced(&self, agent: AgentId, entry: &mut Entry, error: &LinkError) {
        entry.unsynced = true;
        let (tenant, version) = (self.seals.tenant(), entry.version);
        debug!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, ccgw.guid_version = version, %error, "the session is known only to this replica until Redis takes it");
        self.unsynced.notify_one();
    }

    /// Takes over what Redis has, if it is newer than what is known.
    fn take_in(&self, agent: AgentId, newer: Option<Entry>) {
        if let Some(entry) = newer {
            self.take(agent, &entry);
        }
    }

    /// Takes in an entry. Where a sign-out and a renewal have crossed, Redis and the others get the end that follows.
    fn take(&self, agent: AgentId, entry: &Entry) -> Taken {
        let taken = self.local.offer(agent, entry);
        if taken == Taken::SignedOut {
            self.unsynced.notify_one();
        }
        taken
    }
}

#[cfg(test)]
mod tests;
