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

use crate::certificate::{PublicKey, RSA_BITS_MIN, UnusableKey};

/// Whether RSA keys of 1024 to 2047 bits are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegacyRsa {
    Accepted,
    Refused,
}

pub(super) fn verify_tls12(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
    legacy_rsa: LegacyRsa,
) -> Result<HandshakeSignatureValid, Error> {
    let key = PublicKey::usable(leaf, algorithms).map_err(unusable)?;
    let proven = |is_good| {
        let good = HandshakeSignatureValid::assertion();
        if is_good { Ok(good) } else { Err(unusable(UnusableKey::NotProven)) }
    };
    if let Some(bits) = key.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN) {
        let accepted = legacy_rsa == LegacyRsa::Accepted;
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
    proven(
        fitting.is_some_and(|one| {
            one.verify_signature(key.bits, message, signature.signature()).is_ok()
        }),
    )
}

pub(super) fn verify_tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = PublicKey::usable(leaf, algorithms).map_err(unusable)?;
    if let Some(bits) = key.rsa_bits.filter(|bits| *bits < RSA_BITS_MIN) {
        return Err(unusable(UnusableKey::TooShort(bits)));
    }
    let info = SubjectPublicKeyInfoDer::from(key.info);
    verify_tls13_signature_with_raw_key(message, &info, signature, algorithms).map_err(|error| {
        match error {
            Error::InvalidCertificate(_) => unusable(UnusableKey::NotProven),
            other => other,
        }
    })
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
