use std::{collections::BTreeMap, sync::Arc};

use super::Tenant;
use crate::id::TenantId;

/// Every tenant that this bridge serves.
#[derive(Debug)]
pub struct Tenants(BTreeMap<TenantId, Arc<Tenant>>);

impl Tenants {
    /// A directory of these tenants.
    pub fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        let named = |tenant: Tenant| (tenant.id().clone(), Arc::new(tenant));
        Self(tenants.into_iter().map(named).collect())
    }

    /// The tenant of this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Tenant>> {
        self.0.get(id)
    }

    /// The tenant that a caller means who names none: the only one there is.
    pub fn only(&self) -> Option<&Arc<Tenant>> {
        if self.0.len() == 1 { self.0.values().next() } else { None }
    }
}
