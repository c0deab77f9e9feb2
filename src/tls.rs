//! TLS to a peer that the bridge connects to, and how the peer's certificate is verified.

mod peer_key;
pub(crate) mod refused;
mod verifier;

use std::sync::{Arc, LazyLock, OnceLock};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

use self::verifier::{Rule, Verifier};
use crate::config::{ClientTls, Trust};

/// How many TLS sessions with one server are kept to be resumed; the library keeps no more.
const RESUMABLE: usize = 8;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The system's root certificates, read when the first of several clients needs them: that takes milliseconds, and they
/// take 100 kB.
#[derive(Debug, Default)]
pub(crate) struct SystemRoots(OnceLock<Result<Arc<WebPkiServerVerifier>, String>>);

impl SystemRoots {
    fn authorities(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        self.0.get_or_init(|| authorities(system_roots()?)).clone()
    }
}

/// The TLS configuration of a client of one server. The error is a text.
pub(crate) fn client_config(tls: &ClientTls) -> Result<ClientConfig, String> {
    client_config_with(tls, 1, &SystemRoots::default())
}

/// The TLS configuration of one of many clients, which share the system's roots, for so many servers. The error is a
/// text.
pub(crate) fn client_config_with(
    tls: &ClientTls,
    servers: usize,
    system_roots: &SystemRoots,
) -> Result<ClientConfig, String> {
    let rule = match &tls.trust {
        Trust::Pinned(pins) => Rule::Pinned(pins.clone()),
        Trust::Anything => Rule::Anything,
        Trust::Roots(roots) => Rule::Authorities(authorities(roots.clone())?),
        Trust::SystemRoots => Rule::Authorities(system_roots.authorities()?),
    };
    let verifier = Arc::new(Verifier { rule, provider: PROVIDER.clone() });
    let config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.client {
        None => config.with_no_client_auth(),
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| format!("tls.client_certificate_file and tls.client_key_file: {e}"))?,
    };
    // The library allocates the whole cache at once, so it is made no larger than needed.
    config.resumption = Resumption::in_memory_sessions(servers * RESUMABLE);
    Ok(config)
}

fn authorities(roots: Vec<CertificateDer<'static>>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), PROVIDER.clone())
        .build()
        .map_err(|e| format!("no usable root certificate: {e}"))
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    let causes: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    Err(format!(
        "the system has no root certificates ({}); install them, or set tls.ca_file or \
         tls.pinned_sha256",
        if causes.is_empty() { "none found".into() } else { causes.join(", ") },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_roots_are_read_once_for_all_who_share_them() {
        let tls = ClientTls { trust: Trust::SystemRoots, client: None };
        let read_before = SystemRoots(OnceLock::from(Err("read before".to_owned())));
        let error = client_config_with(&tls, 1, &read_before).err();
        assert_eq!(error.as_deref(), Some("read before"));

        let roots = SystemRoots::default();
        let _there_may_be_none = client_config_with(&tls, 1, &roots);
        assert!(roots.0.get().is_some());
    }
}
