//! TLS to a peer that the bridge connects to, and how the peer's certificate is verified.

mod peer_key;
pub(crate) mod refused;
mod verifier;

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

use self::verifier::{Rule, Verifier};
use crate::config::{ClientTls, Trust};

/// How many TLS sessions are kept to be resumed: eight for each of eight servers. The library's default is
/// four times that, and takes 16 kB for each tenant.
const RESUMABLE: usize = 64;

/// A client's TLS configuration. The error is a text.
pub(crate) fn client_config(tls: &ClientTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let rule = rule(&tls.trust, &provider)?;
    let verifier = Arc::new(Verifier { rule, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
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
    config.resumption = Resumption::in_memory_sessions(RESUMABLE);
    Ok(config)
}

fn rule(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Rule, String> {
    let roots = match trust {
        Trust::Pinned(pins) => return Ok(Rule::Pinned(pins.clone())),
        Trust::Anything => return Ok(Rule::Anything),
        Trust::Roots(roots) => roots.clone(),
        Trust::SystemRoots => system_roots()?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map(Rule::Authorities)
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
