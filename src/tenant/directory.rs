use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::Tenant;
use crate::id::TenantId;

/// All tenants that this bridge serves. Clones share the same directory.
#[derive(Clone, Debug)]
pub struct Tenants(Arc<RwLock<Directory>>);

type Directory = BTreeMap<TenantId, Arc<Tenant>>;

impl Tenants {
    /// Makes a directory of these tenants.
    pub fn new(tenants: impl IntoIterator<Item = Arc<Tenant>>) -> Self {
        Self(Arc::new(RwLock::new(directory(tenants))))
    }

    /// Serves these tenants instead, all at once.
    pub fn replace(&self, tenants: impl IntoIterator<Item = Arc<Tenant>>) {
        let tenants = directory(tenants);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tenants;
    }

    /// The tenant of this id, as a caller gives it: where there is only one, an empty id means it.
    pub fn named(&self, id: &str) -> Option<Arc<Tenant>> {
        let directory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if !id.is_empty() {
            return directory.get(id).cloned();
        }
        if directory.len() == 1 { directory.values().next().cloned() } else { None }
    }

    /// All of them as they are now, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let directory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        directory.values().cloned().collect()
    }
}

fn directory(tenants: impl IntoIterator<Item = Arc<Tenant>>) -> Directory {
    tenants.into_iter().map(|tenant| (tenant.id().clone(), tenant)).collect()
}
