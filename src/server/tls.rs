//! TLS of the bridge's own listeners.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerTls;

/// TLS 1.2 and 1.3 with the bridge's own certificate, for HTTP/2. Callers are asked for theirs if the
/// configuration says who issues them. The error is a text.
pub(super) fn acceptor(tls: &ListenerTls) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = client_verifier(tls, &provider)?;
    let (chain, key) = (tls.identity.chain.clone(), tls.identity.key.clone_key());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .and_then(|config| config.with_client_cert_verifier(verifier).with_single_cert(chain, key));
    let mut config = config.map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn client_verifier(
    tls: &ListenerTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(roots) = &tls.client_roots else { return Ok(Arc::new(NoClientAuth)) };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let builder = WebPkiClientVerifier::builder_with_provider(store.into(), provider.clone());
    let builder = if tls.is_client_optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| format!("client_ca_file: {error}"))
}
