//! A password where it only has to be recognized.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

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

    /// In hex, to be sealed.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest")
    }
}
