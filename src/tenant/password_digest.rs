//! A password where it only has to be recognized.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex::hex;

/// The SHA-256 of a password, in hex. A weak password could be guessed from it, so it is not printed, is
/// stored only sealed, and is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordDigest(Zeroizing<String>);

impl PasswordDigest {
    /// The digest of this password.
    pub(super) fn of(password: &SecretString) -> Self {
        let digest = digest(&SHA256, password.expose_secret().as_bytes());
        Self(Zeroizing::new(hex(digest.as_ref())))
    }
}

/// To be sealed.
impl Serialize for PasswordDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PasswordDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|hex| Self(Zeroizing::new(hex)))
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest")
    }
}
