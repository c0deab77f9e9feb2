//! Which tenants there are after a changed configuration.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config,
    id::TenantId,
    server::{Bridge, StartError, drain},
    tenant::Tenant,
};

/// The tenants of a changed configuration. Nothing of it is in force yet, and what was begun for it ends
/// when it is dropped.
#[derive(Debug, Default)]
pub(super) struct NewTenants {
    /// All that are served from now on.
    all: Vec<Arc<Tenant>>,
    added: Vec<Arc<Tenant>>,
    /// New versions, each with the one before.
    changed: Vec<(Arc<Tenant>, Arc<Tenant>)>,
    removed: Vec<Arc<Tenant>>,
}

/// The keys and sections of a tenant whose change needs other connections to its gateway.
const ABOUT_CONNECTIONS: [&str; 4] = ["base_urls", "tls", "timeouts", "auth_mode"];

impl NewTenants {
    /// Builds what is new, given the keys that have changed.
    pub(super) fn build(
        bridge: &Bridge,
        configured: BTreeMap<TenantId, config::Tenant>,
        changed: &[String],
    ) -> Result<Self, StartError> {
        let (mut new, common) = (Self::default(), bridge.common.common());
        let mut before: BTreeMap<_, _> =
            bridge.tenants.all().into_iter().map(|tenant| (tenant.id().clone(), tenant)).collect();
        for (id, config) in configured {
            let failed = |error| StartError::Tenant(id.clone(), error);
            let Some(before) = before.remove(&id) else {
                let work = bridge.work.child();
                let tenant = Tenant::new(id.clone(), config, &common, work).map_err(failed)?;
                new.added.push(tenant.clone());
                new.all.push(tenant);
                continue;
            };
            let keys: Vec<_> = changed.iter().filter_map(|key| key_of(key, &id)).collect();
            if keys.iter().all(|key| *key == "callers") {
                new.all.push(before);
                continue;
            }
            let keeps_connections = !keys.iter().any(|key| is_about_connections(key));
            let tenant = before.changed(config, keeps_connections, &common).map_err(failed)?;
            new.changed.push((tenant.clone(), before));
            new.all.push(tenant);
        }
        new.removed = before.into_values().collect();
        Ok(new)
    }

    /// Serves these tenants, of which each wants this many calls at once. Those that were removed end by
    /// themselves.
    pub(super) fn put_in_force(mut self, bridge: &Bridge, calls: Vec<(TenantId, usize)>) {
        bridge.common.calls.divide(calls);
        for (tenant, before) in &self.changed {
            tenant.put_in_force(before);
        }
        bridge.tenants.replace(std::mem::take(&mut self.all));
        let metrics = &bridge.common.observed.metrics;
        for tenant in self.added.drain(..) {
            metrics.show_tenant(tenant.id().as_str());
            tenant.share_polls();
            tenant.resume();
        }
        for tenant in self.removed.drain(..) {
            metrics.hide_tenant(tenant.id().as_str());
            bridge.work.tasks.spawn(drain::retire(tenant, bridge.drain.clone()));
        }
    }
}

impl Drop for NewTenants {
    fn drop(&mut self) {
        self.added.iter().for_each(|tenant| tenant.work().end());
    }
}

/// The key within the section of this tenant.
fn key_of<'a>(key: &'a str, tenant: &TenantId) -> Option<&'a str> {
    key.strip_prefix("tenants.")?.strip_prefix(tenant.as_str())?.strip_prefix('.')
}

fn is_about_connections(key: &str) -> bool {
    ABOUT_CONNECTIONS.iter().any(|about| {
        key.strip_prefix(about).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ']))
    })
}
