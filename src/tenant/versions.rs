//! How a tenant's configuration changes while the bridge runs.
//!
//! Each configuration makes a version of the tenant, with a client of the gateway of its own. What the
//! tenant knows of its agents is common to all versions, and so are the places of its limits. A call ends
//! with the version that it began with. Keepers and sign-ins go on with the newest one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Common, Tenant, credentials::CredentialBook, handover::spread_of, keeper::FirstPoll,
    longest_change, node_poll::NodePolls, ownership::Polls as _, pool::resize, renewals,
    repeats::Repeats,
};
use crate::{config, gateway::BuildError};

/// Where all versions of a tenant find the newest one.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(Arc<Mutex<Weak<Tenant>>>);

impl Versions {
    pub(super) fn set_newest(&self, tenant: &Arc<Tenant>) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::downgrade(tenant);
    }

    fn newest(&self) -> Option<Arc<Tenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

impl Tenant {
    /// The newest version of this tenant.
    pub(super) fn newest(self: &Arc<Self>) -> Arc<Self> {
        self.versions.newest().unwrap_or_else(|| self.clone())
    }

    /// A version with another configuration. Nothing changes before it is [put in
    /// force](Self::put_in_force).
    ///
    /// What [`config::Tenant::with_lasting_of`] names stays as it was. With `keeps_connections`, nothing
    /// about the gateway and how it is asked has changed.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up with what the configuration names.
    pub fn changed(
        &self,
        config: config::Tenant,
        keeps_connections: bool,
        common: &Common<'_>,
    ) -> Result<Arc<Self>, BuildError> {
        let config = config.with_lasting_of(&self.config);
        let gateway = if keeps_connections {
            self.gateway.clone()
        } else {
            Arc::new(self.gateway.changed(&config, &common.system_roots)?)
        };
        Ok(Arc::new(Self {
            gateway,
            admission: self.admission.changed(&config, common.hosts),
            credentials: CredentialBook::new(
                config.credentials.clone(),
                config.keep.rejected_for,
                self.agents.clone(),
                common.stores.sealed_values(&self.id),
                self.sessions.clone(),
            ),
            repeats: Repeats::new(&config, self.metrics.clone()),
            request_ids: self
                .request_ids
                .changed(&config.request_ids, longest_change(&config.timeouts)),
            id: self.id.clone(),
            config,
            agents: self.agents.clone(),
            sessions: self.sessions.clone(),
            polls: self.polls.clone(),
            node_polls: NodePolls::default(),
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            announcer: self.announcer.clone(),
            watches: self.watches.clone(),
            renewals: self.renewals.clone(),
            sign_ins: self.sign_ins.clone(),
            abandoned: self.abandoned.clone(),
            work: self.work.clone(),
            began: self.began,
            versions: self.versions.clone(),
        }))
    }

    /// Puts this version in force, in place of `before`. From now on keepers and sign-ins use it, and its
    /// limits hold.
    pub fn put_in_force(self: &Arc<Self>, before: &Self) {
        let (now, former) = (&self.config.limits, &before.config.limits);
        self.admission.resize(now);
        resize(&self.renewals, renewals(former), renewals(now));
        self.agents.change(&self.config);
        self.sign_ins.change(&self.config);
        self.versions.set_newest(self);
        if self.polls_for_all() {
            // Polls for one agent may have been refused (000-001).
            let mut unkept = self.agents.unkept();
            unkept.retain(|agent| self.can_have(*agent));
            let first_poll = FirstPoll::OfAnother(spread_of(unkept.len()));
            for agent in unkept {
                self.keep(agent, "polls are for all agents now", first_poll);
            }
        }
    }
}
