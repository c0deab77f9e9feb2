//! Whether TLS can use the public key of a certificate at all.

use std::fmt;

use rustls::crypto::WebPkiSupportedAlgorithms;

use super::{PublicKey, RSA};

/// Why the key of a certificate cannot be used, whatever the certificate is trusted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableKey {
    /// It is not in the place where X.509 has it.
    #[error("its public key cannot be found: it is not an X.509 certificate")]
    NotFound,
    /// It can be used, but not in this handshake.
    #[error(
        "its RSA key has only {0} bits, and at least {RSA_BITS_MIN} are needed (1024 where the \
         certificate is pinned and the gateway signs with PKCS #1 in TLS 1.2)"
    )]
    TooShort(usize),
    /// It is of a kind or a length that can never be used.
    #[error("its key is {0}, with which no TLS handshake of the bridge can succeed")]
    Never(KeyKind),
    /// The handshake is not signed with it.
    #[error("the server did not prove that it has the certificate's key: it may be another server")]
    NotProven,
}

/// What a key is, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// An RSA key of so many bits.
    Rsa(usize),
    /// Another key, with its article.
    Other(&'static str),
}

/// The shortest RSA key that is taken without reservations, in bits.
pub(crate) const RSA_BITS_MIN: usize = 2048;
/// The shortest and the longest that aws-lc-rs has algorithms for.
const LEGACY_RSA_BITS_MIN: usize = 1024;
const RSA_BITS_MAX: usize = 8192;

/// The algorithm identifier of keys on elliptic curves begins with this object id (1.2.840.10045.2.1).
const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
/// The object ids of curves that TLS has no algorithms for here, as they follow `EC`.
const CURVES: [(&[u8], &str); 7] = [
    (b"\x06\x05\x2b\x81\x04\x00\x0a", "an ECDSA key on secp256k1"),
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01", "an ECDSA key on P-192"),
    (b"\x06\x05\x2b\x81\x04\x00\x21", "an ECDSA key on P-224"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x07", "an ECDSA key on brainpoolP256r1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0b", "an ECDSA key on brainpoolP384r1"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x0d", "an ECDSA key on brainpoolP512r1"),
    (b"\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d", "an SM2 key"),
];
/// The object ids with which the algorithm identifiers of other keys begin.
const KINDS: [(&[u8], &str); 3] = [
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "an RSA-PSS key"),
    (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (b"\x06\x03\x2b\x65\x71", "an Ed448 key"),
];

impl UnusableKey {
    /// What to do about it.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::NotFound => "ask the gateway's operator for an X.509 certificate",
            Self::TooShort(_) => {
                "ask the gateway's operator for a certificate with a key of 2048 bits, or to switch TLS \
                 1.3 off"
            }
            Self::Never(_) => {
                "ask the gateway's operator for a certificate with an RSA key of 2048 to 8192 bits, or an \
                 ECDSA key on P-256 or P-384"
            }
            Self::NotProven => "check where the address leads",
        }
    }
}

impl<'a> PublicKey<'a> {
    /// The key of a certificate, if a handshake that is verified by `algorithms` can succeed with it.
    pub(crate) fn usable(
        der: &'a [u8],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, UnusableKey> {
        let key = Self::of(der).ok_or(UnusableKey::NotFound)?;
        let fits = match key.rsa_bits {
            // Such a key is verified without `algorithms`.
            Some(bits) if bits < RSA_BITS_MIN => bits >= LEGACY_RSA_BITS_MIN,
            Some(bits) if bits > RSA_BITS_MAX => false,
            _ => {
                let mut all = algorithms.mapping.iter().flat_map(|(_, candidates)| *candidates);
                all.any(|one| one.public_key_alg_id().as_ref() == key.algorithm)
            }
        };
        if fits { Ok(key) } else { Err(UnusableKey::Never(key.kind())) }
    }

    fn kind(&self) -> KeyKind {
        let named = |names: &[(&[u8], &'static str)], id: &[u8]| {
            names.iter().find(|(begin, _)| id.starts_with(begin)).map(|(_, name)| *name)
        };
        KeyKind::Other(match (self.rsa_bits, self.algorithm.strip_prefix(EC)) {
            (Some(bits), _) => return KeyKind::Rsa(bits),
            (None, Some(curve)) => named(&CURVES, curve).unwrap_or("an ECDSA key on another curve"),
            (None, None) if self.algorithm.starts_with(RSA) => "an RSA key that cannot be read",
            (None, None) => named(&KINDS, self.algorithm).unwrap_or("a key of another kind"),
        })
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "an RSA key of {bits} bits"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
