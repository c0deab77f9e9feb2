//! Why a peer's certificate was refused, and what to do about it.

use rustls::CertificateError;

use crate::{certificate::UnusableKey, config::Trust};

/// Why a certificate was refused. rustls has many more causes; these need different remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is for other names.
    OtherName,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotValidYet,
    /// It is not the pinned one.
    NotPinned,
    /// No known authority has signed it.
    UnknownIssuer,
    /// An authority with the issuer's name is known, but has another key.
    OtherIssuerKey,
    /// It is an authority's own certificate, as self-signed ones often are.
    OfAuthority,
    /// X.509 version 1 or 2, which lacks what is checked with an authority.
    OldVersion,
    /// It, or one above it, is signed with an algorithm that is not accepted, such as SHA-1.
    SignatureAlgorithm,
    /// It is for another purpose, such as a client.
    OtherPurpose,
    /// Its key cannot be used.
    Key(UnusableKey),
    /// It cannot be read, or has something that rustls does not accept.
    Other(String),
}

impl Refused {
    pub(crate) fn of(error: &CertificateError) -> Self {
        use CertificateError as Error;
        match error {
            Error::NotValidForName | Error::NotValidForNameContext { .. } => Self::OtherName,
            Error::Expired | Error::ExpiredContext { .. } => Self::Expired,
            Error::NotValidYet | Error::NotValidYetContext { .. } => Self::NotValidYet,
            Error::ApplicationVerificationFailure => Self::NotPinned,
            Error::UnknownIssuer => Self::UnknownIssuer,
            Error::BadSignature => Self::OtherIssuerKey,
            Error::UnsupportedSignatureAlgorithmContext { .. }
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::SignatureAlgorithm
            }
            Error::InvalidPurpose | Error::InvalidPurposeContext { .. } => Self::OtherPurpose,
            Error::Other(other) => match other.0.downcast_ref::<UnusableKey>() {
                Some(key) => Self::Key(*key),
                None => Self::of_webpki(&other.0.to_string()),
            },
            other => Self::Other(format!("{other:?}")),
        }
    }

    /// rustls passes some errors of its certificate library on as they are. They can only be told apart
    /// by their text.
    fn of_webpki(text: &str) -> Self {
        match text {
            "CaUsedAsEndEntity" => Self::OfAuthority,
            "UnsupportedCertVersion" => Self::OldVersion,
            text => Self::Other(text.to_owned()),
        }
    }

    /// What was found, and what to do, for a caller's or an operator's eyes. No remedy is the setting that
    /// is in force.
    pub(crate) fn advice(&self, trust: &Trust) -> String {
        let pin = "pin the gateway's certificate with the tenant's tls.pinned_sha256";
        match self {
            Self::OtherName => {
                format!("write a name that the certificate has in the tenant's base_urls, or {pin}")
            }
            Self::Expired => {
                format!("have the certificate renewed, check this machine's clock, or {pin}")
            }
            Self::NotValidYet => "check the clocks of this machine and of the gateway".to_owned(),
            Self::NotPinned => {
                "it is not the certificate in the tenant's tls.pinned_sha256; if it was \
                                renewed, pin the new one; otherwise another server answers there"
                    .to_owned()
            }
            Self::UnknownIssuer => match trust {
                Trust::Roots(_) => format!(
                    "no authority in the tenant's tls.ca_file has signed it: add it there, have the \
                     gateway send its intermediate certificates, or {pin}"
                ),
                _ => format!(
                    "set the tenant's tls.ca_file to the authority that signed it, or {pin}"
                ),
            },
            Self::OtherIssuerKey => format!(
                "an authority with the issuer's name is trusted, but its key is another one: get the \
                 authority's current certificate for the tenant's tls.ca_file, or {pin}"
            ),
            Self::OfAuthority => format!(
                "it is an authority's certificate, as self-signed ones often are: {pin}, or get a server \
                 certificate"
            ),
            Self::OldVersion => format!(
                "it is of X.509 version 1 or 2, which cannot be checked with an authority: get one of \
                 version 3, or {pin}"
            ),
            Self::SignatureAlgorithm => format!(
                "it, or one above it, is signed with an algorithm that is too old, such as SHA-1: get one \
                 that is signed with SHA-256, or {pin}"
            ),
            Self::OtherPurpose => {
                format!("it is not for servers: get one with the purpose serverAuth, or {pin}")
            }
            Self::Key(key) => format!("{key}; {}", key.remedy()),
            Self::Other(_) => format!("get another certificate, or {pin}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[test]
    fn no_remedy_is_the_setting_that_is_in_force() {
        let roots = Trust::Roots(Vec::new());
        let pinned = Trust::Pinned(vec![[0; 32]]);
        for (refused, trust, never) in [
            (Refused::UnknownIssuer, &roots, "set the tenant's tls.ca_file"),
            (Refused::NotPinned, &pinned, "tls.ca_file"),
            (Refused::Key(UnusableKey::TooShort(512)), &pinned, "tls.pinned_sha256"),
            (Refused::Key(UnusableKey::NotFound), &Trust::Anything, "insecure_skip_verify"),
        ] {
            let advice = refused.advice(trust);
            assert!(!advice.contains(never), "{advice}");
        }
    }

    #[test]
    fn what_rustls_passes_on_as_text_is_told_apart() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Text(&'static str);
        for (text, expected) in [
            ("CaUsedAsEndEntity", Refused::OfAuthority),
            ("UnsupportedCertVersion", Refused::OldVersion),
            ("BadDerTime", Refused::Other("BadDerTime".into())),
        ] {
            let error = CertificateError::Other(OtherError(Arc::new(Text(text))));
            assert_eq!(Refused::of(&error), expected);
        }
    }
}
