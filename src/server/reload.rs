//! Takes a changed configuration while the bridge runs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Bridge, StartError, callers::Policies, certificates::Certificates,
    listener_context::ListenerContext, tls,
};
use crate::config::{Config, Fingerprint, ListenerName, is_reloaded};

/// What may change while the bridge runs.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) listeners: BTreeMap<ListenerName, Arc<ListenerContext>>,
    /// What is in force.
    pub(super) fingerprint: std::sync::Mutex<Fingerprint>,
}

impl Bridge {
    /// Takes what may change without a restart: who callers are and what they may do, and the
    /// certificates of listeners. Everything is built first, and then put into force, so that nothing
    /// changes if something is wrong. Returns the keys that have changed and are in force, and those that
    /// take a restart.
    ///
    /// # Errors
    ///
    /// [`StartError`]. What was in force stays.
    pub fn reload(&self, config: Config) -> Result<(Vec<String>, Vec<String>), StartError> {
        let mut fingerprint =
            self.reloadable.fingerprint.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = fingerprint.differences(&config.fingerprint);
        let is_taken = |key: &String| is_reloaded(key) && !self.takes_restart(key, &config);
        let (taken, restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_taken);
        if taken.is_empty() {
            self.reloads.unchanged(restart.clone());
            return Ok((taken, restart));
        }
        let new = fingerprint.with(&config.fingerprint, &taken);
        let certificates = Certificates::of(&config);
        self.replace(config)?;
        *fingerprint = new;
        self.certificates.replace(&certificates);
        self.reloads.applied(restart.clone());
        Ok((taken, restart))
    }

    /// Notes that a changed configuration has mistakes, so that what is in force stays.
    pub fn refuse_reload(&self, error: &str) {
        self.reloads.failed(error.to_owned());
    }

    /// Whether a key is about TLS of a listener that has none, or shall have none.
    fn takes_restart(&self, key: &str, config: &Config) -> bool {
        let mut parts = key.split('.');
        let (Some("listeners"), Some(name)) = (parts.next(), parts.next()) else { return false };
        let running = self.reloadable.listeners.get(name).map(|context| context.tls.is_some());
        let wanted = config.listeners.get(name).map(|listener| listener.tls.is_some());
        running.is_none() || running != wanted
    }

    fn replace(&self, config: Config) -> Result<(), StartError> {
        let tenants = self.tenants.all().map(|tenant| tenant.id().clone()).collect();
        let policies = Policies::new(config.callers.rules(tenants), config.issuers)?;
        let mut built = Vec::new();
        for (name, listener) in &config.listeners {
            let Some(context) = self.reloadable.listeners.get(name) else { continue };
            let acceptor = listener.tls.as_ref().map(tls::acceptor).transpose();
            let acceptor = acceptor.map_err(|error| StartError::Tls(name.clone(), error))?;
            built.push((context, acceptor, policies.of(name, listener)?));
        }
        for (context, acceptor, policy) in built {
            context.replace(acceptor, policy);
        }
        Ok(())
    }
}
