//! What replicas tell each other of agents beside their sessions, or one process leaves to the next, encrypted
//! with keys that only the bridge has.

use std::{
    fmt,
    future::ready,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::{SealedKind, StoreError, StoreFuture};
use crate::{
    id::{AgentId, TenantId},
    keyring::Keyring,
    time::{millis_now, millis_of},
};

/// A tenant's sealed values. One that no key opens counts as missing, and one that could not be written is not needed. But a
/// store that cannot be read does not say that there is none.
pub struct SealedValues {
    tenant: TenantId,
    store: Box<dyn SealedValueStore>,
    keyring: Arc<Keyring>,
    has_credentials: bool,
}

/// Whose a sealed value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The agent.
    pub agent: AgentId,
    /// The session that it was stored with, by its [`made`](super::Session::made).
    pub session: Option<u64>,
}

/// A store for the sealed values of a tenant's agents. One that does not answer takes no values, and need not say so.
pub trait SealedValueStore: Send + Sync {
    /// Stores a value for `time`. It replaces the old one. Credentials are stored only while their session is. A store in this
    /// process has the value when this returns; the future waits until more is done.
    fn put(
        &self,
        sealed_kind: SealedKind,
        owner: Owner,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()>;

    /// The value, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Removes the value.
    fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, ()>;

    /// Counts a value that no key opens, where others can write to the store.
    fn disbelieve(&self) {}
}

impl SealedValues {
    /// A tenant's sealed values in this store. `has_credentials`: credentials may be stored too.
    pub fn new(
        tenant: TenantId,
        store: Box<dyn SealedValueStore>,
        keyring: Arc<Keyring>,
        has_credentials: bool,
    ) -> Self {
        Self { tenant, store, keyring, has_credentials }
    }

    /// Whether credentials may be stored.
    pub fn has_credentials(&self) -> bool {
        self.has_credentials
    }

    /// Stores a value for `time`. It replaces the agent's old one.
    ///
    /// The session and the end of the time are sealed too, since whoever can write to the store can bring an old value back.
    /// As in [`SealedValueStore::put`], the order of calls is that of the values.
    pub fn put(
        &self,
        sealed_kind: SealedKind,
        owner: Owner,
        plain: &[u8],
        time: Duration,
    ) -> BoxFuture<'_, ()> {
        let content = content(owner.session, SystemTime::now() + time, plain);
        match sealed_kind.seal(&self.keyring, &self.tenant, owner.agent, &content) {
            Ok(sealed) => self.store.put(sealed_kind, owner, sealed, time),
            Err(_unsealed) => Box::pin(ready(())),
        }
    }

    /// The value, if there is one of this agent and session whose time is not over.
    ///
    /// # Errors
    ///
    /// As [`SealedValueStore::get`].
    pub async fn get(
        &self,
        sealed_kind: SealedKind,
        owner: Owner,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed = self.store.get(sealed_kind, owner.agent).await?;
        Ok(sealed.and_then(|sealed| self.open(sealed_kind, owner, &sealed)))
    }

    fn open(
        &self,
        sealed_kind: SealedKind,
        Owner { agent, session }: Owner,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let content = sealed_kind.open(&self.keyring, &self.tenant, agent, sealed);
        let content = content.or_else(|| {
            self.store.disbelieve();
            None
        })?;
        let (of_session, rest) = content.split_first_chunk()?;
        let (until, plain) = rest.split_first_chunk()?;
        let is_good = u64::from_be_bytes(*of_session) == session.unwrap_or(NO_SESSION)
            && u64::from_be_bytes(*until) > millis_now();
        is_good.then(|| Zeroizing::new(plain.to_vec()))
    }

    /// Removes the value.
    pub async fn remove(&self, sealed_kind: SealedKind, agent: AgentId) {
        self.store.remove(sealed_kind, agent).await;
    }
}

/// In the place of a session, where there is none. No version is as high.
const NO_SESSION: u64 = u64::MAX;

/// What is sealed of a value: its session, when it ends, and itself.
fn content(session: Option<u64>, until: SystemTime, plain: &[u8]) -> Zeroizing<Vec<u8>> {
    let head = [session.unwrap_or(NO_SESSION), millis_of(until)].map(u64::to_be_bytes);
    Zeroizing::new([head.as_flattened(), plain].concat())
}

impl fmt::Debug for SealedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedValues").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Mutex};

    use super::*;
    use crate::{
        id::DEFAULT_AGENT_IDS,
        keyring::{EncryptionKey, KEY_LEN},
    };

    /// What somebody has in the hand who keeps every value, and gives back whichever they like.
    #[derive(Clone, Default)]
    struct Rogue(Arc<Mutex<HashMap<SealedKind, Vec<u8>>>>);

    impl SealedValueStore for Rogue {
        fn put(
            &self,
            sealed_kind: SealedKind,
            _: Owner,
            sealed: Vec<u8>,
            _: Duration,
        ) -> BoxFuture<'_, ()> {
            self.0.lock().unwrap().insert(sealed_kind, sealed);
            Box::pin(ready(()))
        }

        fn get(&self, sealed_kind: SealedKind, _: AgentId) -> StoreFuture<'_, Option<Vec<u8>>> {
            Box::pin(ready(Ok(self.0.lock().unwrap().get(&sealed_kind).cloned())))
        }

        fn remove(&self, _: SealedKind, _: AgentId) -> BoxFuture<'_, ()> {
            Box::pin(ready(()))
        }
    }

    #[tokio::test]
    async fn a_value_that_is_brought_back_counts_only_in_its_time_and_for_its_session() {
        let tenant = TenantId::parse("acme").unwrap();
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        let keyring = Keyring::new("test", &[EncryptionKey::new([7; KEY_LEN])]);
        let values = SealedValues::new(tenant, Box::new(Rogue::default()), Arc::new(keyring), true);
        for sealed_kind in SealedKind::ALL {
            for (time, session, is_good) in [
                (Duration::from_secs(60), Some(5), true),
                (Duration::from_secs(60), Some(4), false),
                (Duration::from_secs(60), Some(6), false),
                (Duration::from_secs(60), None, false),
                (Duration::ZERO, Some(5), false),
            ] {
                let owner = Owner { agent, session: Some(5) };
                values.put(sealed_kind, owner, b"secret", time).await;
                let found = values.get(sealed_kind, Owner { agent, session }).await.unwrap();
                assert_eq!(found.is_some_and(|found| *found == b"secret"), is_good, "{session:?}");
            }
        }
    }
}
