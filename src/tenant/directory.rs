use std::{collections::BTreeMap, sync::Arc};

use super::Tenant;
use crate::id::TenantId;

/// All tenants that this bridge serves. Clones share the same directory.
#[derive(Clone, Debug)]
pub struct Tenants(Arc<BTreeMap<TenantId, Arc<Tenant>>>);

impl Tenants {
    /// Makes a directory of these tenants.
    pub fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        let named = |tenant: Tenant| (tenant.id().clone(), Arc::new(tenant));
        Self(Arc::new(tenants.into_iter().map(named).collect()))
    }

    /// The tenant of this id, as a caller gives it: where there is only one, an empty id means it.
    pub fn named(&self, id: &str) -> Option<&Arc<Tenant>> {
        if id.is_empty() { self.only() } else { self.0.get(id) }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.0.values()
    }

    /// The tenant for callers who name none: the only one, if there is exactly one.
    pub fn only(&self) -> Option<&Arc<Tenant>> {
        if self.0.len() == 1 { self.0.values().next() } else { None }
    }
}
