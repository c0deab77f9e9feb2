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

/// One certificate's expiry.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    /// The tenant whose gateway it is for, if any.
    pub(super) tenant: Option<TenantId>,
    /// The listener that presents it, if any.
    pub(super) listener: Option<ListenerName>,
    /// `server`, `client`, `ca`, `store_ca`, `traces_client` or `traces_ca`.
    pub(super) certificate: &'static str,
    pub(super) not_after: SystemTime,
}

impl Certificates {
    pub(super) fn of(config: &Config) -> Self {
        let mut all = Expiries::default();
        for (name, listener) in &config.listeners {
            let ends = listener.tls.as_ref().and_then(|tls| first_end(&tls.identity.chain));
            let listener = Some(name.clone());
            let expiry =
                |not_after| Expiry { tenant: None, listener, certificate: "server", not_after };
            all.0.extend(ends.map(expiry));
        }
        for (id, tenant) in &config.tenants {
            all.note_both(Some(id), ["client", "ca"], &tenant.tls);
        }
        if let Some(traces) = &config.traces {
            all.note_both(None, ["traces_client", "traces_ca"], &traces.tls);
        }
        if let Some(pem) = config.store.as_ref().and_then(config::Store::ca_pem) {
            let roots: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
            all.note(None, "store_ca", &roots);
        }
        Self(Arc::new(RwLock::new(all.0)))
    }

    pub(super) fn all(&self) -> Vec<Expiry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the certificates of these listeners and of all tenants from another configuration.
    pub(super) fn replace(&self, other: &Self, listeners: &BTreeSet<ListenerName>) {
        let is_replaced = |expiry: &Expiry| {
            let of_listener = expiry.listener.as_ref().is_some_and(|name| listeners.contains(name));
            of_listener || expiry.tenant.is_some()
        };
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|expiry| !is_replaced(expiry));
        all.extend(other.all().into_iter().filter(is_replaced));
    }
}

/// The expiries that were noted so far.
#[derive(Default)]
struct Expiries(Vec<Expiry>);

impl Expiries {
    /// Notes the certificates of TLS to a peer: the bridge's own, and the authorities that it
    /// trusts.
    fn note_both(&mut self, tenant: Option<&TenantId>, names: [&'static str; 2], tls: &ClientTls) {
        let [client, ca] = names;
        if let Some(identity) = &tls.client {
            self.note(tenant, client, &identity.chain);
        }
        if let Trust::Roots(roots) = &tls.trust {
            self.note(tenant, ca, roots);
        }
    }

    fn note(
        &mut self,
        tenant: Option<&TenantId>,
        certificate: &'static str,
        chain: &[CertificateDer<'_>],
    ) {
        let (tenant, listener) = (tenant.cloned(), None);
        let expiry = |not_after| Expiry { tenant, listener, certificate, not_after };
        self.0.extend(first_end(chain).map(expiry));
    }
}

/// The earliest expiry in a chain.
fn first_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    chain.iter().filter_map(|der| not_after(der)).min()
}
