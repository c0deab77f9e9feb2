use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use secrecy::zeroize::Zeroizing;

use super::{
    EncryptionKey, KEY_LEN, Keyring, Purpose, Sealed,
    padding::{padded, unpad},
    sealed::SALT_LEN,
};
use crate::id::TenantId;

/// Seals and opens a tenant's values of one purpose.
///
/// Every value has a key of its own, derived by HKDF-SHA256 from a key of the [`Keyring`] with a
/// random salt, and for the installation, the tenant and the purpose. No key encrypts twice, so no
/// nonce can repeat, however many values there are: two salts of 256 bits are never the same. With
/// random nonces under one key, 2^32 values would be the most.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) tenant: &'a TenantId,
    pub(super) purpose: Purpose,
}

/// What has to be done so that a value is encrypted with the first key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing: it is encrypted with the first key.
    Current,
    /// Replace it by this value.
    Anew(Sealed),
    /// No key opens it.
    Unreadable,
}

/// Encrypting failed. There is no known reason for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encryption failed")]
pub struct SealError;

/// Of a key that encrypts once.
const ONLY_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];
/// Keeps these keys apart from all that may be derived otherwise.
const LABEL: &[u8] = b"ccgateway-bridge sealed value 1";

impl Sealer<'_> {
    /// Encrypts `plain`, and hides its length. It can only be opened together with the same `about`,
    /// which is not secret.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Sealed, SealError> {
        let key = self.keyring.first().ok_or(SealError)?;
        let key_id = key.id();
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| SealError)?;
        let (key, nonce) = self.derive(&key, &salt).ok_or(SealError)?;
        let mut data =
            padded(plain, self.purpose.least_length(), AES_256_GCM.tag_len()).ok_or(SealError)?;
        let sealed = key.seal_in_place_append_tag(nonce, Aad::from(about), &mut data);
        sealed.map_err(|_| SealError)?;
        Ok(Sealed { key_id, salt, data })
    }

    /// Decrypts a value. `None` if there is no key for it here, or it was changed, or was encrypted
    /// with another `about`, or by another installation, for another tenant or another purpose.
    pub fn open(&self, about: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.keyring.named(&sealed.key_id)?;
        let (key, nonce) = self.derive(&key, &sealed.salt)?;
        let mut data = Zeroizing::new(sealed.data.clone());
        let length = key.open_in_place(nonce, Aad::from(about), &mut data).ok()?.len();
        data.truncate(length);
        unpad(&mut data)?;
        Some(data)
    }

    /// What has to be done so that this value is encrypted with the first key.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn renewal(&self, about: &str, sealed: &Sealed) -> Result<Renewal, SealError> {
        let Some(plain) = self.open(about, sealed) else {
            return Ok(Renewal::Unreadable);
        };
        if self.keyring.first_id().as_ref() == Some(&sealed.key_id) {
            return Ok(Renewal::Current);
        }
        self.seal(about, &plain).map(Renewal::Anew)
    }

    /// The key of one value, and the nonce for it.
    fn derive(&self, key: &EncryptionKey, salt: &[u8; SALT_LEN]) -> Option<(LessSafeKey, Nonce)> {
        let parts = [self.keyring.installation(), self.tenant.as_str(), self.purpose.name()];
        // With their lengths, so that no two lists of parts are the same bytes.
        let lengths = parts.map(|part| (part.len() as u64).to_be_bytes());
        let mut info = vec![LABEL];
        for (part, length) in parts.iter().zip(&lengths) {
            info.extend([length.as_slice(), part.as_bytes()]);
        }
        let mut derived = Zeroizing::new([0; KEY_LEN]);
        let extracted = key.extract(salt);
        extracted.expand(&info, &AES_256_GCM).ok()?.fill(derived.as_mut_slice()).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, derived.as_slice()).ok()?);
        Some((key, Nonce::assume_unique_for_key(ONLY_NONCE)))
    }
}
