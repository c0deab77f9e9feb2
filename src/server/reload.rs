//! Puts a changed configuration into force while the bridge runs.

mod control;
mod tenants;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_rustls::TlsAcceptor;

pub use self::control::{ReloadControl, ReloadError, ReloadRequest};
use self::tenants::NewTenants;
pub(super) use self::tenants::Retiring;
use super::{
    Bridge, StartError, callers::Policies, certificates::Certificates,
    listener_context::ListenerContext, tls,
};
use crate::{
    access::ListenerPolicy,
    config::{Config, Effect, Fingerprint, Listener, ListenerName, Setting},
    id::TenantId,
    rpc::DefaultDeadline,
};

/// What may change while the bridge runs.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) listeners: BTreeMap<ListenerName, ReloadableListener>,
    pub(super) default_deadline: Arc<DefaultDeadline>,
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
    /// Of the configuration that was put into force last, with what waits for a restart.
    pub(super) seen: Fingerprint,
    pub(super) policies: Policies,
    /// The warnings about its settings; see [`Config::warnings_of_settings`].
    pub(super) warnings: Vec<String>,
}

impl InForce {
    pub(super) fn at_the_start(
        fingerprint: Fingerprint,
        policies: Policies,
        warnings: Vec<String>,
    ) -> Self {
        Self { seen: fingerprint.clone(), fingerprint, policies, warnings }
    }
}

/// What came of a changed configuration, or would: settings, as [`Setting`] shows them, and sections of listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// These changes are taken.
    pub taken: Vec<String>,
    /// These need a restart.
    pub needs_restart: Vec<String>,
}

/// What has changed in a configuration.
struct Changes {
    taken: Vec<Setting>,
    /// The sections of listeners that have their address again, and are as the configuration says from now on.
    returned: Vec<String>,
    needs_restart: Vec<String>,
    /// The keys and sections of the latter.
    left: BTreeSet<String>,
    /// Whether the policy of a listener that waits for a restart is made anew: something of what it takes
    /// from callers may be withdrawn, or put back.
    narrows: bool,
}

impl Bridge {
    /// Puts into force what can change without a restart: tenants, who callers are, what they may do, and
    /// the certificates of listeners. Everything is built before anything changes.
    ///
    /// # Errors
    ///
    /// [`StartError`]. What was in force stays.
    pub fn reload(&self, mut config: Config) -> Result<Reloaded, StartError> {
        let mut in_force = self.reloadable.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.changes(&in_force, &config);
        let (taken, reloaded) = (&changes.taken, changes.told());
        let warnings = changes.warnings(&in_force.warnings, config.warnings_of_settings());
        // Only a restart changes these three.
        let (calls, host_requests, given) = (
            self.common.calls.usage().limit,
            self.common.hosts.limit().requests,
            self.reloadable.default_deadline.given(),
        );
        let of_tenants = config.warnings_of_tenants(calls, host_requests, given);
        let all_warnings = [of_tenants, warnings.clone()].concat();
        if reloaded.taken.is_empty() && !changes.narrows {
            // Some are about more than settings, as about who can read a file.
            self.readiness.set_warnings(&all_warnings);
            in_force.warnings = warnings;
            in_force.seen = config.fingerprint;
            self.reloads.unchanged(reloaded.needs_restart.clone());
            return Ok(reloaded);
        }
        self.check(&config, taken)?;
        let fingerprint = in_force.fingerprint.with(&config.fingerprint, taken);
        let certificates = Certificates::of(&config);
        let same = self.reloadable.same_listeners(&config);
        let calls: Vec<_> = config.calls_by_tenant().collect();
        let configured = std::mem::take(&mut config.tenants);
        let ids = configured.keys().cloned().collect();
        let tenants = NewTenants::build(self, configured, taken)?;
        let rules = config.callers.rules(ids);
        let (reflection, before) = (config.server.reflection, Some(&in_force.policies));
        let mut policies = Policies::new(rules, config.issuers, reflection, before)?;
        let listeners = self.reloadable.built(&config.listeners, &same, &policies)?;

        let is_of_store =
            |setting: &Setting| matches!(setting.effect(), Effect::StoreAccess | Effect::StoreKeys);
        let store = config.store.as_ref().filter(|_| taken.iter().any(is_of_store));
        if let Some(store) = store {
            self.common.stores.change(store);
        }
        // The order matters: streams of tenants that go end with that, whatever the new rules say of them,
        // and no caller finds a new tenant whose rights are still the old ones.
        tenants.stop_removed();
        policies.put_in_force(taken);
        for (context, acceptor, policy) in listeners {
            context.replace(acceptor, policy);
        }
        tenants.put_in_force(self, calls);
        self.reloadable.default_deadline.follow(&config.server);
        self.certificates.replace(&certificates, &same, store.is_some());
        self.readiness.set_warnings(&all_warnings);
        *in_force = InForce { fingerprint, seen: config.fingerprint, policies, warnings };
        let needs_restart = reloaded.needs_restart.clone();
        if reloaded.taken.is_empty() {
            self.reloads.unchanged(needs_restart);
        } else {
            self.reloads.applied(needs_restart);
        }
        Ok(reloaded)
    }

    /// What would change with this configuration. Nothing does.
    ///
    /// # Errors
    ///
    /// [`StartError`] if it could not be put into force now.
    pub fn reload_would_change(&self, config: &Config) -> Result<Reloaded, StartError> {
        let in_force = self.reloadable.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let comes = |id: &&TenantId| self.tenants.named(id.as_str()).is_none();
        config.tenants.keys().filter(comes).try_for_each(|id| self.retiring.may_come(id))?;
        let changes = self.changes(&in_force, config);
        self.check(config, &changes.taken)?;
        Ok(changes.told())
    }

    /// Checks that what is stored can still be read, and that each tenant has a place for calls.
    fn check(&self, config: &Config, taken: &[Setting]) -> Result<(), StartError> {
        let (places, tenants) = (self.common.calls.usage().limit, config.tenants.len());
        if places < tenants {
            return Err(StartError::TooFewPlaces { places, tenants });
        }
        let are_new = taken.iter().any(|setting| setting.effect() == Effect::StoreKeys);
        let store = config.store.as_ref().filter(|_| are_new);
        let is_good = store.is_none_or(|store| self.common.stores.has_key_of(store));
        if is_good { Ok(()) } else { Err(StartError::KeyGone) }
    }

    fn changes(&self, in_force: &InForce, config: &Config) -> Changes {
        let same = self.reloadable.same_listeners(config);
        let changed = in_force.fingerprint.differences(&config.fingerprint);
        // Its passwords and keys are not for the one that is in use.
        let another_store = changed.iter().any(|setting| setting.effect() == Effect::Store);
        let comes_or_goes =
            |id: &str| self.tenants.named(id).is_none() || !config.tenants.contains_key(id);
        let is_taken = |setting: &Setting| match setting.effect() {
            // A tenant comes and goes with all of its settings.
            _ if setting.named("tenants").is_some_and(comes_or_goes) => true,
            Effect::Callers | Effect::Tenant | Effect::TenantConnections => true,
            Effect::Listener => setting.named("listeners").is_some_and(|name| same.contains(name)),
            Effect::StoreAccess => !another_store,
            Effect::StoreKeys => {
                let takes = |store| self.common.stores.takes_keys_of(store);
                !another_store && config.store.as_ref().is_some_and(takes)
            }
            Effect::Restart | Effect::Store => false,
        };
        let (taken, others): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_taken);
        let moved: Vec<_> = self.reloadable.moved_listeners(config).collect();
        let runs = |setting: &&Setting| {
            let name = setting.named("listeners").filter(|_| setting.effect() == Effect::Listener);
            name.is_some_and(|name| self.reloadable.listeners.contains_key(name))
        };
        let may_narrow = others.iter().any(|setting| runs(&setting))
            || self.reloadable.listeners.keys().any(|name| self.reloadable.is_narrowed(name));
        let narrows = may_narrow && config.fingerprint != in_force.seen;
        let left = others.iter().map(Setting::key).chain(moved.iter().cloned()).collect();
        let mut needs_restart: Vec<_> =
            others.iter().map(Setting::to_string).chain(moved).collect();
        needs_restart.sort();
        needs_restart.dedup();
        let returned = same.iter().filter(|name| self.reloadable.is_narrowed(name));
        let returned = returned.map(|name| format!("listeners.{name}")).collect();
        Changes { taken, returned, needs_restart, left, narrows }
    }

    /// The warnings about what is in force.
    pub fn warnings(&self) -> Vec<String> {
        self.readiness.warnings().lines().map(str::to_owned).collect()
    }

    /// Notes that a changed configuration has mistakes, so that what is in force stays.
    pub fn refuse_reload(&self, error: &str) {
        self.reloads.failed(error.to_owned());
    }
}

impl Changes {
    fn told(&self) -> Reloaded {
        let taken = self.taken.iter().map(Setting::to_string);
        let taken = taken.chain(self.returned.iter().cloned()).collect();
        Reloaded { taken, needs_restart: self.needs_restart.clone() }
    }

    /// The warnings about what is in force: the ones `before` about settings that wait for a restart, and the `new` ones about
    /// all others.
    fn warnings(&self, before: &[String], new: Vec<String>) -> Vec<String> {
        let still = before.iter().filter(|warning| self.is_of_left(warning)).cloned();
        still.chain(new.into_iter().filter(|warning| !self.is_of_left(warning))).collect()
    }

    /// Whether a warning is about a setting that keeps its value. A warning may name others after its own.
    fn is_of_left(&self, warning: &str) -> bool {
        let left = self.left.iter().filter_map(|key| place_of(warning, key)).min();
        let taken = self.taken.iter().filter_map(|setting| place_of(warning, &setting.key())).min();
        left.is_some_and(|left| taken.is_none_or(|taken| left < taken))
    }
}

/// Where a text has this key, or one in this section.
fn place_of(text: &str, key: &str) -> Option<usize> {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c));
    let places = text.match_indices(key).map(|(place, _)| place);
    places.into_iter().find(|place| !goes_on(text.get(place + key.len()..).unwrap_or_default()))
}

/// What a listener serves with from now on: with TLS as before, if there is none here.
type NewListener<'a> = (&'a ListenerContext, Option<TlsAcceptor>, ListenerPolicy);

impl Reloadable {
    pub(super) fn new(in_force: InForce, default_deadline: Arc<DefaultDeadline>) -> Self {
        Self { listeners: BTreeMap::new(), default_deadline, in_force: in_force.into() }
    }

    /// Builds the policies of all listeners, and the certificates of those that are the `same` as before.
    /// The others keep what is not withdrawn.
    fn built(
        &self,
        listeners: &BTreeMap<ListenerName, Listener>,
        same: &BTreeSet<ListenerName>,
        policies: &Policies,
    ) -> Result<Vec<NewListener<'_>>, StartError> {
        let new = |(name, running): (&'_ ListenerName, _)| {
            new_listener((name, listeners.get(name)), running, same.contains(name), policies)
        };
        self.listeners.iter().map(new).collect()
    }

    /// The listeners that have the same address as before, and TLS or none as before. Only they may be
    /// treated as the new configuration says: it may let everybody call because the address is another.
    fn same_listeners(&self, config: &Config) -> BTreeSet<ListenerName> {
        let is_same = |(name, listener): &(&ListenerName, &Listener)| {
            self.listeners.get(*name).is_some_and(|running| running.is_same(listener))
        };
        config.listeners.iter().filter(is_same).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a listener was not as the configuration said when it was changed last.
    fn is_narrowed(&self, name: &ListenerName) -> bool {
        let listener = self.listeners.get(name);
        listener.is_some_and(|running| running.context.policy.get().1.narrowed_from.is_some())
    }

    /// The sections of listeners that only a restart makes what the configuration says.
    fn moved_listeners(&self, config: &Config) -> impl Iterator<Item = String> {
        let same = self.same_listeners(config);
        let all = self.listeners.keys().chain(config.listeners.keys());
        let moved: BTreeSet<_> = all.filter(|name| !same.contains(*name)).cloned().collect();
        moved.into_iter().map(|name| format!("listeners.{name}"))
    }
}

fn new_listener<'a>(
    (name, listener): (&ListenerName, Option<&Listener>),
    ReloadableListener { context, .. }: &'a ReloadableListener,
    is_same: bool,
    policies: &Policies,
) -> Result<NewListener<'a>, StartError> {
    let Some(listener) = listener.filter(|_| is_same) else {
        let (_, current) = context.policy.get();
        return Ok((context, None, policies.narrow(&current, name, listener)?));
    };
    let acceptor = listener.tls.as_ref().map(tls::acceptor).transpose();
    let acceptor = acceptor.map_err(|error| StartError::Tls(name.clone(), error))?;
    Ok((context, acceptor, policies.of(name, listener)?))
}

impl ReloadableListener {
    fn is_same(&self, listener: &Listener) -> bool {
        self.address == listener.address && self.context.tls.is_some() == listener.tls.is_some()
    }
}

#[cfg(test)]
mod tests;
