//! The stores for the sessions of all tenants.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use super::{
    ChangeRecords, EmbeddedStore, FileState, SealedValues, SessionFile, SessionStore, StoreState,
    StoreView,
};
use crate::{config, id::TenantId};

/// The stores for the sessions of all tenants, and for the sealed values of their agents.
#[derive(Clone, Debug)]
pub enum Stores {
    /// In this process only.
    Embedded,
    /// In this process, and in a file for the next process.
    File(SessionFile),
    /// In this process, and shared with other replicas.
    Shared(Arc<dyn SharedStores>),
}

/// A store that replicas of the bridge share.
pub trait SharedStores: fmt::Debug + Send + Sync {
    /// Opens a tenant's store of up to `capacity` sessions. Must be called within a runtime.
    fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore>;

    /// The records of a tenant's changes; `None` if it has none.
    fn change_records(&self, tenant: &TenantId) -> Option<Arc<dyn ChangeRecords>>;

    /// The sealed values of a tenant's agents.
    fn sealed_values(&self, tenant: &TenantId) -> SealedValues;

    /// Whether this configuration has the key that everything is sealed with.
    fn has_key_of(&self, config: &config::Store) -> bool;

    /// Takes the encryption keys of this configuration, and its access to the store's server for new
    /// connections.
    fn change(&self, config: &config::Store);

    /// The state of the store.
    fn view(&self) -> StoreView;
}

impl Stores {
    /// Opens one tenant's store of up to `capacity` sessions.
    pub fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore> {
        match self {
            Self::Embedded => Arc::new(EmbeddedStore::new(capacity)),
            Self::File(file) => Arc::new(file.store(tenant, capacity)),
            Self::Shared(shared) => shared.open(tenant, capacity),
        }
    }

    /// The sealed values of a tenant's agents; `None` if there is no store with encryption keys.
    pub fn sealed_values(&self, tenant: &TenantId) -> Option<SealedValues> {
        match self {
            Self::Embedded => None,
            Self::File(file) => file.sealed_values(tenant),
            Self::Shared(shared) => Some(shared.sealed_values(tenant)),
        }
    }

    /// The records of a tenant's changes; `None` if they are for this process alone. Those in a file are
    /// encrypted, so without keys there are none.
    pub fn change_records(&self, tenant: &TenantId) -> Option<Arc<dyn ChangeRecords>> {
        match self {
            Self::Embedded => None,
            Self::File(file) => file.change_records(tenant),
            Self::Shared(shared) => shared.change_records(tenant),
        }
    }

    /// Takes what can change while the bridge runs from a configuration with a store of the same kind.
    pub fn change(&self, config: &config::Store) {
        match (self, config.file()) {
            (Self::File(file), Some(config)) => file.change_keys(&config.encryption_keys),
            (Self::Shared(shared), None) => shared.change(config),
            _ => {}
        }
    }

    /// Whether [`Stores::change`] takes the encryption keys of this configuration: what is stored is
    /// encrypted or not for as long as the bridge runs.
    pub fn takes_keys_of(&self, config: &config::Store) -> bool {
        match (self, config.file()) {
            (Self::File(file), Some(config)) => {
                file.is_encrypted() != config.encryption_keys.is_empty()
            }
            (Self::Shared(_), None) => true,
            _ => false,
        }
    }

    /// Whether this configuration has the key that everything is sealed with.
    pub fn has_key_of(&self, config: &config::Store) -> bool {
        match (self, config.file()) {
            (Self::File(file), Some(config)) => file.is_opened_by(&config.encryption_keys),
            (Self::Shared(shared), None) => shared.has_key_of(config),
            _ => true,
        }
    }

    /// Writes what is left, within a few seconds, and closes the file so that another process can
    /// open it.
    pub async fn close(&self) {
        if let Self::File(file) = self {
            file.close().await;
        }
    }

    /// The state of the store outside this process, if there is one.
    pub fn view(&self) -> Option<StoreView> {
        match self {
            Self::Embedded => None,
            Self::File(file) => Some(StoreView {
                kind: "file",
                state: match file.state() {
                    FileState::Up => StoreState::Up,
                    FileState::Down(error) => StoreState::Down(error),
                },
                failures: file.failures(),
                file_bytes: Some(file.bytes()),
                disbelieved: Vec::new(),
            }),
            Self::Shared(shared) => Some(shared.view()),
        }
    }

    /// Whether sessions are stored in a file.
    pub fn has_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
