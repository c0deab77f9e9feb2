//! Verifies the signatures of a handshake with the key in the peer's certificate.
//!
//! rustls reads the whole certificate for that, and refuses those of X.509 version 1. Whether the
//! certificate is good is a matter of the [verifier](super::verifier); here only its key counts.

use std::sync::Arc;

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    RsaParameters, UnparsedPublicKey,
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
};

use crate::certificate::{PublicKey, RSA_BITS_MIN};

/// Whether RSA keys of 1024 to 2047 bits are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegacyRsa {
    Accepted,
    Refused,
}

/// Why the key of a certificate cannot be used, whatever the certificate is trusted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableKey {
    /// It is not in the place where X.509 has it.
    #[error("its public key cannot be found: it is not an X.509 certificate")]
    NotFound,
    /// It is too short.
    #[error(
        "its RSA key has only {0} bits, and at least {RSA_BITS_MIN} are needed (1024 where the \
         certificate is pinned and the gateway signs with PKCS #1 in TLS 1.2); ask the gateway's operator \
         for a certificate with a key of {RSA_BITS_MIN} bits, or to switch TLS 1.3 off"
    )]
    TooShort(usize),
    /// It is of a kind or a length that nothing here can use.
    #[error(
        "its key is of a kind that the bridge does not have; ask the gateway's operator for a certificate \
         with an RSA key of {RSA_BITS_MIN} to 8192 bits, or an ECDSA key on P-256 or P-384"
    )]
    Unsupported,
    /// The handshake is not signed with it.
    #[error("the server did not prove that it has the certificate's key: it may be another server")]
    NotProven,
}

pub(super) fn verify_tls12(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
    legacy_rsa: LegacyRsa,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(leaf)?;
    let proven = |is_good| {
        let good = HandshakeSignatureValid::assertion();
        if is_good { Ok(good) } else { Err(unusable(UnusableKey::NotProven)) }
    };
    if let Some(bits) = key.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN) {
        let accepted = legacy_rsa == LegacyRsa::Accepted && bits >= LEGACY_RSA_BITS_MIN;
        let Some(rsa) = legacy(signature.scheme).filter(|_| accepted) else {
            return Err(unusable(UnusableKey::TooShort(bits)));
        };
        let verified = UnparsedPublicKey::new(rsa, key.bits).verify(message, signature.signature());
        return proven(verified.is_ok());
    }
    let known = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
    let Some((_, candidates)) = known else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let fits = |id: &[u8]| id == key.algorithm;
    let fitting = candidates.iter().find(|one| fits(one.public_key_alg_id().as_ref()));
    match fitting.filter(|_| !key.is_too_long()) {
        Some(one) => proven(one.verify_signature(key.bits, message, signature.signature()).is_ok()),
        None => Err(unusable(UnusableKey::Unsupported)),
    }
}

pub(super) fn verify_tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(leaf)?;
    if let Some(bits) = key.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN) {
        return Err(unusable(UnusableKey::TooShort(bits)));
    }
    if key.is_too_long() {
        return Err(unusable(UnusableKey::Unsupported));
    }
    let info = SubjectPublicKeyInfoDer::from(key.info);
    verify_tls13_signature_with_raw_key(message, &info, signature, algorithms).map_err(|error| {
        match error {
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                unusable(UnusableKey::NotProven)
            }
            Error::InvalidCertificate(_) => unusable(UnusableKey::Unsupported),
            other => other,
        }
    })
}

/// What aws-lc-rs has algorithms for, in bits.
const LEGACY_RSA_BITS_MIN: usize = 1024;
const RSA_BITS_MAX: usize = 8192;

impl PublicKey<'_> {
    fn is_too_long(&self) -> bool {
        self.rsa_bits.is_some_and(|bits| bits > RSA_BITS_MAX)
    }
}

fn key_of<'a>(leaf: &'a CertificateDer<'_>) -> Result<PublicKey<'a>, Error> {
    PublicKey::of(leaf).ok_or_else(|| unusable(UnusableKey::NotFound))
}

/// The algorithm for a signature with a short key. There is none for PSS and for SHA-384.
fn legacy(scheme: SignatureScheme) -> Option<&'static RsaParameters> {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => Some(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        SignatureScheme::RSA_PKCS1_SHA512 => Some(&RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        _ => None,
    }
}

fn unusable(why: UnusableKey) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}
