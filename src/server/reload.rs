//! Puts a changed configuration into force while the bridge runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Bridge, StartError, callers::Policies, certificates::Certificates,
    listener_context::ListenerContext, tls,
};
use crate::{
    access::ListenerPolicy,
    config::{Config, Fingerprint, Listener, ListenerName, is_reloaded},
};

/// What may change while the bridge runs.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) listeners: BTreeMap<ListenerName, ReloadableListener>,
    pub(super) in_force: Mutex<InForce>,
}

/// A listener, and what of it only a restart changes.
#[derive(Debug)]
pub(super) struct ReloadableListener {
    pub(super) context: Arc<ListenerContext>,
    /// The address of the configuration that it was opened with.
    pub(super) address: SocketAddr,
}

/// What is in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) fingerprint: Fingerprint,
    pub(super) policies: Policies,
}

/// What came of a changed configuration: keys, as [`Fingerprint::differences`] writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// These changes are in force.
    pub in_force: Vec<String>,
    /// These need a restart.
    pub needs_restart: Vec<String>,
}

impl Bridge {
    /// Puts into force what can change without a restart: who callers are, what they may do, and the
    /// certificates of listeners. Everything is built before anything changes.
    ///
    /// # Errors
    ///
    /// [`StartError`]. What was in force stays.
    pub fn reload(&self, config: Config) -> Result<Reloaded, StartError> {
        let mut in_force = self.reloadable.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = in_force.fingerprint.differences(&config.fingerprint);
        let same = self.reloadable.same_listeners(&config);
        let is_taken = |key: &String| {
            let listener = key.strip_prefix("listeners.").and_then(|rest| rest.split('.').next());
            is_reloaded(key) && listener.is_none_or(|name| same.contains(name))
        };
        let (taken, mut needs_restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_taken);
        needs_restart.extend(self.reloadable.moved_listeners(&config));
        needs_restart.sort();
        needs_restart.dedup();
        if taken.is_empty() {
            self.reloads.unchanged(needs_restart.clone());
            return Ok(Reloaded { in_force: taken, needs_restart });
        }
        let fingerprint = in_force.fingerprint.with(&config.fingerprint, &taken);
        let (certificates, warnings) = (Certificates::of(&config), config.warnings());
        let policies = self.replace(config, &same, &in_force.policies)?;
        *in_force = InForce { fingerprint, policies };
        self.certificates.replace(&certificates, &same);
        self.readiness.set_warnings(&warnings);
        self.reloads.applied(needs_restart.clone());
        Ok(Reloaded { in_force: taken, needs_restart })
    }

    /// Notes that a changed configuration has mistakes, so that what is in force stays.
    pub fn refuse_reload(&self, error: &str) {
        self.reloads.failed(error.to_owned());
    }

    /// Builds and replaces the policies of all listeners, and the certificates of those that are the
    /// `same` as before. The others keep everything but the rules.
    fn replace(
        &self,
        config: Config,
        same: &BTreeSet<ListenerName>,
        before: &Policies,
    ) -> Result<Policies, StartError> {
        let tenants = self.tenants.all().map(|tenant| tenant.id().clone()).collect();
        let policies = Policies::new(config.callers.rules(tenants), config.issuers, Some(before))?;
        let mut built = Vec::new();
        for (name, ReloadableListener { context, .. }) in &self.reloadable.listeners {
            let (_, current) = context.policy.get();
            let listener = config.listeners.get(name).filter(|_| same.contains(name));
            let Some(listener) = listener else {
                // Without rules everybody may do everything, which is meant for the new address.
                let rules =
                    if policies.rules().is_empty() { &current.rules } else { policies.rules() };
                built.push((context, None, current.with_rules(rules.clone())));
                continue;
            };
            let acceptor = listener.tls.as_ref().map(tls::acceptor).transpose();
            let acceptor = acceptor.map_err(|error| StartError::Tls(name.clone(), error))?;
            // Which services there are is decided at the start.
            let policy = policies.of(name, listener)?;
            built.push((
                context,
                acceptor,
                ListenerPolicy { reflection: current.reflection, ..policy },
            ));
        }
        for (context, acceptor, policy) in built {
            context.replace(acceptor, policy);
        }
        Ok(policies)
    }
}

impl Reloadable {
    /// The listeners that have the same address as before, and TLS or none as before. Only they may be
    /// treated as the new configuration says: it may let everybody call because the address is another.
    fn same_listeners(&self, config: &Config) -> BTreeSet<ListenerName> {
        let is_same = |(name, listener): &(&ListenerName, &Listener)| {
            self.listeners.get(*name).is_some_and(|running| running.is_same(listener))
        };
        config.listeners.iter().filter(is_same).map(|(name, _)| name.clone()).collect()
    }

    /// The sections of listeners that only a restart makes what the configuration says.
    fn moved_listeners(&self, config: &Config) -> impl Iterator<Item = String> {
        let same = self.same_listeners(config);
        let all = self.listeners.keys().chain(config.listeners.keys());
        let moved: BTreeSet<_> = all.filter(|name| !same.contains(*name)).cloned().collect();
        moved.into_iter().map(|name| format!("listeners.{name}"))
    }
}

impl ReloadableListener {
    fn is_same(&self, listener: &Listener) -> bool {
        self.address == listener.address && self.context.tls.is_some() == listener.tls.is_some()
    }
}
