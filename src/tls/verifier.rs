//! Verifies a peer's certificate as the configuration says.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::peer_key::{self, LegacyRsa};

/// Verifies the certificate by one rule. The signatures of the handshake are verified in any case, so
/// the peer must have the certificate's key.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) rule: Rule,
    pub(super) provider: Arc<CryptoProvider>,
}

/// What a certificate has to be.
pub(super) enum Rule {
    /// Signed by a known authority, for the host's name, and of today.
    Authorities(Arc<WebPkiServerVerifier>),
    /// One whose SHA-256 is known. Nothing in it is read but its key, so that its version, its dates
    /// and its extensions do not matter.
    Pinned(Vec<[u8; 32]>),
    /// Any.
    Anything,
}

impl Verifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// A short RSA key proves little, but whoever pins its certificate has accepted it.
    fn legacy_rsa(&self) -> LegacyRsa {
        match self.rule {
            Rule::Authorities(_) => LegacyRsa::Refused,
            Rule::Pinned(_) | Rule::Anything => LegacyRsa::Accepted,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_good = match &self.rule {
            Rule::Authorities(authorities) => {
                return authorities.verify_server_cert(
                    leaf,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
            }
            Rule::Anything => true,
            Rule::Pinned(pins) => {
                let found = digest(&SHA256, leaf);
                pins.iter().any(|pin| pin.as_slice() == found.as_ref())
            }
        };
        if is_good {
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
        peer_key::verify_tls12(message, leaf, signature, self.algorithms(), self.legacy_rsa())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        peer_key::verify_tls13(message, leaf, signature, self.algorithms())
    }

    /// PKCS #1 before PSS where short RSA keys are accepted: servers take the first scheme that they
    /// have, and only PKCS #1 can be verified with such a key. TLS 1.3 ignores PKCS #1.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms().supported_schemes();
        if self.legacy_rsa() == LegacyRsa::Accepted {
            schemes.sort_by_key(|scheme| {
                use SignatureScheme as Scheme;
                matches!(
                    scheme,
                    Scheme::RSA_PSS_SHA256 | Scheme::RSA_PSS_SHA384 | Scheme::RSA_PSS_SHA512
                )
            });
        }
        schemes
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities(_) => f.write_str("Authorities"),
            Self::Pinned(pins) => write!(f, "Pinned({})", pins.len()),
            Self::Anything => f.write_str("Anything"),
        }
    }
}
