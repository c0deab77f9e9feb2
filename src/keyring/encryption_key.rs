use std::fmt;

use aws_lc_rs::{
    digest,
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use secrecy::{ExposeSecret as _, SecretSlice, zeroize::Zeroizing};

use crate::hex::hex;

/// One key of a [`Keyring`](super::Keyring): 32 bytes.
#[derive(Clone)]
pub struct EncryptionKey(SecretSlice<u8>);

/// The length of a key in bytes.
pub const KEY_LEN: usize = 32;

impl EncryptionKey {
    /// Makes a key from its bytes.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(SecretSlice::from(bytes.to_vec()))
    }

    /// Makes a key from its bytes; `None` if they are too many or too few.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_LEN).then(|| Self(SecretSlice::from(bytes.to_vec())))
    }

    /// The id of the key. It reveals nothing about the key.
    pub fn id(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"ccgateway-bridge key id");
        hash.update(self.0.expose_secret());
        hex(hash.finish().as_ref().get(..4).unwrap_or_default())
    }

    /// From which other keys are derived.
    pub(super) fn extract(&self, salt: &[u8]) -> Prk {
        Salt::new(HKDF_SHA256, salt).extract(self.0.expose_secret())
    }
}

impl PartialEq for EncryptionKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({})", self.id())
    }
}
