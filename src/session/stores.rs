//! Where the sessions of all tenants are.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use super::{EmbeddedStore, FileState, Safe, SessionFile, SessionStore, StoreState, StoreView};
use crate::id::TenantId;

/// Where the sessions of all tenants are, and what is kept of agents beside them.
#[derive(Clone, Debug)]
pub enum Stores {
    /// In this process.
    Embedded,
    /// In this process, and in a file for the one that comes after it.
    File(SessionFile),
    /// In this process, and shared with others.
    Shared(Arc<dyn SharedStores>),
}

/// A store that replicas of the bridge share.
pub trait SharedStores: fmt::Debug + Send + Sync {
    /// A tenant's sessions, up to `capacity` of them. Called within a runtime.
    fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore>;

    /// What else is kept of a tenant's agents.
    fn safe(&self, tenant: &TenantId) -> Safe;

    /// How the store is doing.
    fn view(&self) -> StoreView;
}

impl Stores {
    /// Where one tenant's sessions are, up to `capacity` of them.
    pub fn open(&self, tenant: &TenantId, capacity: NonZeroUsize) -> Arc<dyn SessionStore> {
        match self {
            Self::Embedded => Arc::new(EmbeddedStore::new(capacity)),
            Self::File(file) => match file.store(tenant) {
                Some(store) => Arc::new(store),
                // Not one of those that the file was opened for.
                None => Arc::new(EmbeddedStore::new(capacity)),
            },
            Self::Shared(shared) => shared.open(tenant, capacity),
        }
    }

    /// What is kept of a tenant's agents beside their sessions, if there is a store with keys.
    pub fn safe(&self, tenant: &TenantId) -> Option<Safe> {
        match self {
            Self::Embedded => None,
            Self::File(file) => file.safe(tenant),
            Self::Shared(shared) => Some(shared.safe(tenant)),
        }
    }

    /// Stores what is left, for a few seconds, and lets go of what another process may want.
    pub async fn close(&self) {
        if let Self::File(file) = self {
            file.close().await;
        }
    }

    /// How what outlives this process is doing, if there is such a thing.
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
            }),
            Self::Shared(shared) => Some(shared.view()),
        }
    }

    /// Whether there is a file that outlives this process.
    pub fn has_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
