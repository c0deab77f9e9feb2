use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use crate::{
    config::{ClientTls, Config, Trust},
    doctor,
    id::TenantId,
};

/// When certificates of the configuration end: of each chain or file, the one that ends first.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates(Vec<Expiry>);

/// When one of them does.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    /// Whose it is; none: the bridge's own.
    pub(super) tenant: Option<TenantId>,
    /// `server`, `client` or `ca`.
    pub(super) certificate: &'static str,
    pub(super) not_after: SystemTime,
}

impl Certificates {
    pub(super) fn of(config: &Config) -> Self {
        let mut all = Self::default();
        if let Some(identity) = &config.server.tls {
            all.note(None, "server", &identity.chain);
        }
        for (id, tenant) in &config.tenants {
            let ClientTls { trust, client } = &tenant.tls;
            if let Some(identity) = client {
                all.note(Some(id), "client", &identity.chain);
            }
            if let Trust::Roots(roots) = trust {
                all.note(Some(id), "ca", roots);
            }
        }
        all
    }

    pub(super) fn all(&self) -> &[Expiry] {
        &self.0
    }

    fn note(
        &mut self,
        tenant: Option<&TenantId>,
        certificate: &'static str,
        chain: &[CertificateDer<'_>],
    ) {
        let ends = chain.iter().filter_map(|der| doctor::not_after(der)).min();
        let expiry = |not_after| Expiry { tenant: tenant.cloned(), certificate, not_after };
        self.0.extend(ends.map(expiry));
    }
}
