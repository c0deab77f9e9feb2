//! Encryption of what the bridge stores: AES-256-GCM, with keys derived from those that only the
//! bridge has.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

mod encryption_key;
mod padding;
mod purpose;
mod sealed;
mod sealer;

#[cfg(test)]
mod tests;

pub use self::{
    encryption_key::{EncryptionKey, KEY_LEN},
    purpose::Purpose,
    sealed::Sealed,
    sealer::{Renewal, SealError, Sealer},
};
use crate::id::TenantId;

/// The keys of all replicas: the first one encrypts, each of them decrypts. A [`Sealer`] does both.
///
/// To replace a key: add the new one behind the old one at all replicas, then put it first at all
/// replicas, then remove the old one after everything has been sealed with the new one.
pub struct Keyring {
    /// Bridges that have the same keys by mistake cannot open each other's values if these differ.
    installation: Box<str>,
    keys: watch::Sender<Arc<[EncryptionKey]>>,
}

/// Tells when the keys of a [`Keyring`] are replaced.
pub struct KeyChanges(watch::Receiver<Arc<[EncryptionKey]>>);

impl Keyring {
    /// A keyring of these keys, at least one. `installation` says whose values it seals, and is the
    /// same wherever they are to be opened.
    pub fn new(installation: &str, keys: &[EncryptionKey]) -> Self {
        Self { installation: installation.into(), keys: watch::Sender::new(keys.into()) }
    }

    /// Seals and opens a tenant's values of this purpose.
    pub fn sealer<'a>(&'a self, purpose: Purpose, tenant: &'a TenantId) -> Sealer<'a> {
        Sealer { keyring: self, tenant, purpose }
    }

    /// Uses these keys from now on, at least one.
    pub fn replace(&self, keys: &[EncryptionKey]) {
        self.keys.send_replace(keys.into());
    }

    /// Whether these are its keys, in this order.
    pub fn has(&self, keys: &[EncryptionKey]) -> bool {
        self.keys.borrow().iter().eq(keys)
    }

    /// Whether these keys open what it encrypts.
    pub fn is_opened_by(&self, keys: &[EncryptionKey]) -> bool {
        self.first().is_none_or(|first| keys.contains(&first))
    }

    /// Tells when they are replaced.
    pub fn changes(&self) -> KeyChanges {
        KeyChanges(self.keys.subscribe())
    }

    /// The id of the key that encrypts.
    pub fn first_id(&self) -> Option<String> {
        self.first().map(|key| key.id())
    }

    /// Whether a key is being replaced, so that values may be encrypted with another key than the
    /// first.
    pub fn is_being_replaced(&self) -> bool {
        self.keys.borrow().len() > 1
    }

    fn installation(&self) -> &str {
        &self.installation
    }

    fn first(&self) -> Option<EncryptionKey> {
        self.keys.borrow().first().cloned()
    }

    fn named(&self, id: &str) -> Option<EncryptionKey> {
        self.keys.borrow().iter().find(|key| key.id() == id).cloned()
    }
}

impl KeyChanges {
    /// Waits until they are replaced once more.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The ring is gone.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for KeyChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyChanges")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.borrow().iter().map(EncryptionKey::id)).finish()
    }
}
