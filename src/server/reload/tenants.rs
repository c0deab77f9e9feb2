//! Which tenants there are after a changed configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use crate::{
    config::{self, Effect, Setting},
    id::TenantId,
    server::{Bridge, StartError, drain},
    tenant::Tenant,
};

/// Tenants that were removed and have not ended yet. One of them must not come back before: its agents
/// would be kept, and signed out, by two at once.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Retiring(Arc<Mutex<BTreeSet<TenantId>>>);

/// A tenant's entry among those that are ending; removed when dropped.
struct Entry {
    retiring: Retiring,
    id: TenantId,
}

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

impl NewTenants {
    /// Builds what is new, given the settings that have changed.
    pub(super) fn build(
        bridge: &Bridge,
        configured: BTreeMap<TenantId, config::Tenant>,
        changed: &[Setting],
    ) -> Result<Self, StartError> {
        let (mut new, common) = (Self::default(), bridge.common.common());
        let mut before: BTreeMap<_, _> =
            bridge.tenants.all().into_iter().map(|tenant| (tenant.id().clone(), tenant)).collect();
        for (id, config) in configured {
            let failed = |error| StartError::Tenant(id.clone(), error);
            let Some(before) = before.remove(&id) else {
                bridge.retiring.may_come(&id)?;
                let work = bridge.work.of_tenant();
                let tenant = Tenant::new(id.clone(), config, &common, work).map_err(failed)?;
                new.added.push(tenant.clone());
                new.all.push(tenant);
                continue;
            };
            let own =
                changed.iter().filter(|setting| setting.named("tenants") == Some(id.as_str()));
            let effects: Vec<_> = own.map(Setting::effect).collect();
            let keeps_connections = !effects.contains(&Effect::TenantConnections);
            if keeps_connections && !effects.contains(&Effect::Tenant) {
                new.all.push(before);
                continue;
            }
            let tenant = before.changed(config, keeps_connections, &common).map_err(failed)?;
            new.changed.push((tenant.clone(), before));
            new.all.push(tenant);
        }
        new.removed = before.into_values().collect();
        Ok(new)
    }

    /// Ends the streams of the tenants that are removed.
    pub(super) fn stop_removed(&self) {
        self.removed.iter().for_each(|tenant| tenant.work().stopping.cancel());
    }

    /// Serves these tenants from now on. `calls`: how many calls each wants at once. Those that were removed
    /// end by themselves.
    pub(super) fn put_in_force(mut self, bridge: &Bridge, calls: Vec<(TenantId, usize)>) {
        if self.removed.is_empty() && self.all.len() > 1 && self.all.len() == self.added.len() + 1 {
            warn!(
                "there are several tenants now: callers who may use more than one have to name one (tenant_id)"
            );
        }
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
            let (retiring, drain) = (bridge.retiring.enter(tenant.id()), bridge.drain.clone());
            bridge.work.tasks.spawn(async move {
                drain::retire(tenant, drain).await;
                drop(retiring);
            });
        }
    }
}

impl Drop for NewTenants {
    fn drop(&mut self) {
        self.added.iter().for_each(|tenant| tenant.work().end());
    }
}

impl Retiring {
    /// Whether a tenant may begin.
    ///
    /// # Errors
    ///
    /// [`StartError::StillEnding`].
    pub(super) fn may_come(&self, id: &TenantId) -> Result<(), StartError> {
        let is_ending = self.locked().contains(id);
        if is_ending { Err(StartError::StillEnding(id.clone())) } else { Ok(()) }
    }

    fn enter(&self, id: &TenantId) -> Entry {
        self.locked().insert(id.clone());
        Entry { retiring: self.clone(), id: id.clone() }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<TenantId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.retiring.locked().remove(&self.id);
    }
}
