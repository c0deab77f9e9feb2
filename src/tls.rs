//! TLS to a peer that the bridge connects to, and how the peer's certificate is verified.

pub(crate) mod certificate;

use std::{fmt, sync::Arc};

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::config::{ClientTls, Trust};

/// A client's TLS configuration. The error is a text.
pub(crate) fn client_config(tls: &ClientTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(&tls.trust, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &tls.client {
        None => Ok(config.with_no_client_auth()),
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| format!("tls.client_certificate_file and tls.client_key_file: {e}")),
    }
}

fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let leaf = |rule| -> Arc<dyn ServerCertVerifier> {
        Arc::new(LeafVerifier { rule, provider: provider.clone() })
    };
    let roots = match trust {
        Trust::Pinned(pins) => return Ok(leaf(Rule::Pinned(pins.clone()))),
        Trust::Anything => return Ok(leaf(Rule::Anything)),
        Trust::Roots(roots) => roots.clone(),
        Trust::SystemRoots => system_roots()?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
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

/// Checks only the leaf certificate. The signatures of the handshake are still verified, so the
/// peer must have the certificate's key.
#[derive(Debug)]
struct LeafVerifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

enum Rule {
    Pinned(Vec<[u8; 32]>),
    Anything,
}

impl ServerCertVerifier for LeafVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let good = match &self.rule {
            Rule::Anything => true,
            Rule::Pinned(pins) => {
                let found = digest(&SHA256, leaf);
                pins.iter().any(|pin| pin.as_slice() == found.as_ref())
            }
        };
        if good {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(pins) => write!(f, "Pinned({})", pins.len()),
            Self::Anything => f.write_str("Anything"),
        }
    }
}
