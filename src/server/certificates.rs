use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    certificate::not_after,
    config::{self, ClientTls, Config, ListenerName, Trust},
    id::TenantId,
};

/// When the certificates of the configuration expire. Each chain or file has the earliest date of
/// its certificates.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates(Arc<RwLock<Vec<Expiry>>>);

const STORE_CA: &str = "store_ca";

/// One certificate's expiry.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    /// The tenant whose gateway it is for, if any.
    pub(super) tenant: Option<TenantId>,
    /// The listener that presents it, or trusts it, if any.
    pub(super) listener: Option<ListenerName>,
    /// `server` or `client_ca` of a listener, `client`, `ca`, `store_ca`, `traces_client` or `traces_ca`.
    pub(super) certificate: &'static str,
    pub(super) not_after: SystemTime,
}

impl Certificates {
    pub(super) fn of(config: &Config) -> Self {
        let mut all = Expiries::default();
        for (name, listener) in &config.listeners {
            let Some(tls) = &listener.tls else { continue };
            let whose = Whose::Listener(name);
            all.note(whose, "server", &tls.identity.chain);
            all.note(whose, "client_ca", tls.client_roots.as_deref().unwrap_or_default());
        }
        for (id, tenant) in &config.tenants {
            all.note_both(Whose::Tenant(id), ["client", "ca"], &tenant.tls);
        }
        if let Some(traces) = &config.traces {
            all.note_both(Whose::Bridge, ["traces_client", "traces_ca"], &traces.tls);
        }
        if let Some(pem) = config.store.as_ref().and_then(config::Store::ca_pem) {
            let roots: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
            all.note(Whose::Bridge, STORE_CA, &roots);
        }
        Self(Arc::new(RwLock::new(all.0)))
    }

    pub(super) fn all(&self) -> Vec<Expiry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the certificates of these listeners, of all tenants, and maybe of the store from another
    /// configuration.
    pub(super) fn replace(&self, other: &Self, listeners: &BTreeSet<ListenerName>, of_store: bool) {
        let is_replaced = |expiry: &Expiry| {
            let of_listener = expiry.listener.as_ref().is_some_and(|name| listeners.contains(name));
            of_listener || expiry.tenant.is_some() || (of_store && expiry.certificate == STORE_CA)
        };
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|expiry| !is_replaced(expiry));
        all.extend(other.all().into_iter().filter(is_replaced));
    }
}

/// What a certificate is for.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Listener(&'a ListenerName),
    Tenant(&'a TenantId),
    /// Nothing that there may be several of.
    Bridge,
}

/// The expiries that were noted so far.
#[derive(Default)]
struct Expiries(Vec<Expiry>);

impl Expiries {
    /// Notes the certificates of TLS to a peer: the bridge's own, and the authorities that it
    /// trusts.
    fn note_both(&mut self, whose: Whose<'_>, names: [&'static str; 2], tls: &ClientTls) {
        let [client, ca] = names;
        if let Some(identity) = &tls.client {
            self.note(whose, client, &identity.chain);
        }
        if let Trust::Roots(roots) = &tls.trust {
            self.note(whose, ca, roots);
        }
    }

    fn note(&mut self, whose: Whose<'_>, certificate: &'static str, chain: &[CertificateDer<'_>]) {
        let (tenant, listener) = match whose {
            Whose::Listener(name) => (None, Some(name.clone())),
            Whose::Tenant(id) => (Some(id.clone()), None),
            Whose::Bridge => (None, None),
        };
        let expiry = |not_after| Expiry { tenant, listener, certificate, not_after };
        self.0.extend(first_end(chain).map(expiry));
    }
}

/// The earliest expiry in a chain.
fn first_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    chain.iter().filter_map(|der| not_after(der)).min()
}
