//! Credentials and rejections that replicas share, or one process leaves to the next, encrypted
//! with keys that only the bridge has.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::SealedKind;
use crate::{
    id::{AgentId, TenantId},
    keyring::Keyring,
};

/// A tenant's sealed values. Failures are ignored: an unreadable value counts as missing, and an
/// unwritten one is not needed. The values only avoid useless work, or a locked account.
pub struct SealedValues {
    tenant: TenantId,
    store: Box<dyn SealedValueStore>,
    keyring: Arc<Keyring>,
    has_credentials: bool,
}

/// A store for the sealed values of a tenant's agents.
///
/// None of these methods fails: a store that does not answer has no values, and takes none.
pub trait SealedValueStore: Send + Sync {
    /// Stores a value for `time`. It replaces the old one.
    fn put(
        &self,
        sealed_kind: SealedKind,
        agent: AgentId,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()>;

    /// The value, if there is one.
    fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Removes the value.
    fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, ()>;
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

    /// Stores a value for `time`. It replaces the old one.
    pub async fn put(&self, sealed_kind: SealedKind, agent: AgentId, plain: &[u8], time: Duration) {
        if let Ok(sealed) = sealed_kind.seal(&self.keyring, &self.tenant, agent, plain) {
            self.store.put(sealed_kind, agent, sealed, time).await;
        }
    }

    /// The value, if there is one.
    pub async fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = self.store.get(sealed_kind, agent).await?;
        sealed_kind.open(&self.keyring, &self.tenant, agent, &sealed)
    }

    /// Removes the value.
    pub async fn remove(&self, sealed_kind: SealedKind, agent: AgentId) {
        self.store.remove(sealed_kind, agent).await;
    }
}

impl fmt::Debug for SealedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedValues").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
