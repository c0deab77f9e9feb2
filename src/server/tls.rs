//! TLS of the bridge's own listeners.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerTls;

/// TLS 1.2 and 1.3 with the bridge's own certificate, for HTTP/2. Callers are asked for theirs if the
/// configuration says who issues them. The error is a text.
pub(super) fn acceptor(tls: &ListenerTls) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = client_verifier(tls)?.unwrap_or_else(|| Arc::new(NoClientAuth));
    let (chain, key) = (tls.identity.chain.clone(), tls.identity.key.clone_key());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .and_then(|config| config.with_client_cert_verifier(verifier).with_single_cert(chain, key));
    let mut config = config.map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Verifies callers' certificates; `None`: they are not asked for one. The error is a text.
pub(super) fn client_verifier(
    tls: &ListenerTls,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(roots) = &tls.client_roots else { return Ok(None) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let builder = WebPkiClientVerifier::builder_with_provider(store.into(), provider);
    let builder = if tls.is_client_optional { builder.allow_unauthenticated() } else { builder };
    let built = builder.build().map_err(|error| format!("client_ca_file: {error}"))?;
    Ok(Some(built))
}
