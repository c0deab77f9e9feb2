//! TLS of the bridge's own listeners.

use std::sync::Arc;

use rustls::{Error, ServerConfig, crypto::aws_lc_rs};
use tokio_rustls::TlsAcceptor;

use crate::config::Identity;

/// TLS 1.2 and 1.3 with the bridge's own certificate, for HTTP/2.
pub(super) fn acceptor(identity: &Identity) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
