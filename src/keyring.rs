//! Encryption of what the bridge stores: AES-256-GCM with keys that only the bridge has.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, rand,
};
use secrecy::{ExposeSecret as _, SecretSlice, zeroize::Zeroizing};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use crate::hex::{hex, unhex};

/// The keys of all replicas: the first one encrypts, each of them decrypts.
///
/// To replace a key: add the new one behind the old one at all replicas, then put it first at all
/// replicas, then remove the old one after everything has been sealed with the new one.
pub struct Keyring(watch::Sender<Vec<Key>>);

/// Tells when the keys of a [`Keyring`] are replaced.
pub struct KeyChanges(watch::Receiver<Vec<Key>>);

struct Key {
    id: String,
    key: LessSafeKey,
}

/// One key of a [`Keyring`]: 32 bytes.
#[derive(Clone)]
pub struct EncryptionKey(SecretSlice<u8>);

/// An encrypted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the key that encrypted it.
    pub key_id: String,
    /// Random; must never be used twice with one key.
    pub nonce: [u8; NONCE_LEN],
    /// The encrypted bytes, and the authentication tag.
    pub data: Vec<u8>,
}

/// The JSON form of [`Sealed`].
#[derive(Serialize, Deserialize)]
struct Written {
    key: String,
    nonce: String,
    data: String,
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

/// The length of a key in bytes.
pub const KEY_LEN: usize = 32;

// === impl EncryptionKey ===

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

// === impl Sealed ===

impl Sealed {
    /// Writes the text that [`parse`](Self::parse) reads.
    pub fn encode(&self) -> Vec<u8> {
        let (key, nonce, data) = (self.key_id.clone(), hex(&self.nonce), hex(&self.data));
        // Serializing these strings cannot fail.
        serde_json::to_vec(&Written { key, nonce, data }).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let Written { key, nonce, data } = serde_json::from_slice(text).ok()?;
        Some(Self { key_id: key, nonce: unhex(&nonce)?.try_into().ok()?, data: unhex(&data)? })
    }
}

// === impl Keyring ===

impl Keyring {
    /// A keyring of these keys, at least one.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the library does not accept a key.
    pub fn new(keys: &[EncryptionKey]) -> Result<Self, SealError> {
        Ok(Self(watch::Sender::new(usable(keys)?)))
    }

    /// Uses these keys from now on, at least one.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the library does not accept a key. The keys stay as they were.
    pub fn replace(&self, keys: &[EncryptionKey]) -> Result<(), SealError> {
        self.0.send_replace(usable(keys)?);
        Ok(())
    }

    /// Whether these are its keys, in this order.
    pub fn has(&self, keys: &[EncryptionKey]) -> bool {
        self.0.borrow().iter().map(|key| key.id.clone()).eq(keys.iter().map(EncryptionKey::id))
    }

    /// Tells when they are replaced.
    pub fn changes(&self) -> KeyChanges {
        KeyChanges(self.0.subscribe())
    }

    /// The id of the key that encrypts.
    pub fn first_id(&self) -> Option<String> {
        self.0.borrow().first().map(|key| key.id.clone())
    }

    /// Whether a key is being replaced, so that values may be encrypted with another key than the
    /// first.
    pub fn is_being_replaced(&self) -> bool {
        self.0.borrow().len() > 1
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
        if self.first_id().as_ref() == Some(&sealed.key_id) {
            return Ok(Renewal::Current);
        }
        self.seal(about, &plain).map(Renewal::Anew)
    }

    /// Encrypts `plain`. It can only be opened together with the same `about`, which is not secret.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Sealed, SealError> {
        let keys = self.0.borrow();
        let Key { id, key } = keys.first().ok_or(SealError)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError)?;
        // With room for the tag: a vector that grows leaves the plain text behind.
        let mut data = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        data.extend_from_slice(plain);
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, aad(about, id), &mut data).map_err(|_| SealError)?;
        Ok(Sealed { key_id: id.clone(), nonce, data })
    }

    /// Decrypts a value. `None` if there is no key for it here, or it was changed, or was encrypted
    /// with another `about`.
    pub fn open(&self, about: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let keys = self.0.borrow();
        let Key { id, key } = keys.iter().find(|key| key.id == sealed.key_id)?;
        let mut data = Zeroizing::new(sealed.data.clone());
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let length = key.open_in_place(nonce, aad(about, id), &mut data).ok()?.len();
        data.truncate(length);
        Some(data)
    }
}

impl KeyChanges {
    /// Waits until they are replaced once more.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The ring is gone.
            std::future::pending::<()>().await;
        }
    }
}

fn usable(keys: &[EncryptionKey]) -> Result<Vec<Key>, SealError> {
    let key = |key: &EncryptionKey| {
        let unbound = UnboundKey::new(&AES_256_GCM, key.0.expose_secret());
        let unbound = unbound.map_err(|_| SealError)?;
        Ok(Key { id: key.id(), key: LessSafeKey::new(unbound) })
    };
    keys.iter().map(key).collect()
}

fn aad(about: &str, key_id: &str) -> Aad<String> {
    Aad::from(format!("{about}|{key_id}"))
}

impl fmt::Debug for KeyChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyChanges")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.borrow().iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<_> = keys.iter().map(|&byte| EncryptionKey::new([byte; KEY_LEN])).collect();
        Keyring::new(&keys).unwrap()
    }

    #[test]
    fn what_one_ring_seals_another_with_the_key_opens() {
        let sealed = ring(&[1, 2]).seal("acme|1001|7", b"secret").unwrap();
        assert_eq!(
            ring(&[2, 1]).open("acme|1001|7", &sealed).as_deref().map(Vec::as_slice),
            Some(&b"secret"[..])
        );
        assert_eq!(ring(&[2]).open("acme|1001|7", &sealed), None);
        let again = ring(&[1]).seal("acme|1001|7", b"secret").unwrap();
        assert_ne!(again, sealed, "a nonce is not used twice");
    }

    #[test]
    fn what_another_key_seals_is_sealed_anew_with_the_first() {
        let (old, both, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
        let sealed = old.seal("acme|1001|7", b"secret").unwrap();
        let renewal = both.renewal("acme|1001|7", &sealed).unwrap();
        let Renewal::Anew(anew) = renewal else { panic!("{renewal:?}") };
        assert_eq!(
            new.open("acme|1001|7", &anew).as_deref().map(Vec::as_slice),
            Some(&b"secret"[..])
        );
        assert_eq!(both.renewal("acme|1001|7", &anew), Ok(Renewal::Current));
        assert_eq!(new.renewal("acme|1001|7", &sealed), Ok(Renewal::Unreadable));
        assert_eq!(both.renewal("acme|1002|7", &sealed), Ok(Renewal::Unreadable));
        assert_eq!(Sealed::parse(&anew.encode()), Some(anew));
        assert_eq!(Sealed::parse(b"{}"), None);
    }

    #[test]
    fn keys_that_are_replaced_seal_from_then_on_and_open_what_they_can() {
        let [old, new] = [1, 2].map(|byte| EncryptionKey::new([byte; KEY_LEN]));
        let keys = ring(&[1]);
        let mut changes = keys.changes();
        let sealed = keys.seal("acme|1001|7", b"secret").unwrap();
        keys.replace(&[new.clone(), old.clone()]).unwrap();
        assert!(changes.next().now_or_never().is_some());
        assert!(changes.next().now_or_never().is_none());
        assert!(keys.has(&[new.clone(), old.clone()]) && !keys.has(&[old]));
        assert_eq!(keys.open("acme|1001|7", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(keys.seal("acme|1001|7", b"secret").unwrap().key_id, new.id());
        keys.replace(&[new]).unwrap();
        assert_eq!(keys.open("acme|1001|7", &sealed), None);
    }

    #[test]
    fn what_was_changed_or_moved_is_not_opened() {
        let ring = ring(&[1]);
        let sealed = ring.seal("acme|1001|7", b"secret").unwrap();
        assert_eq!(ring.open("acme|1002|7", &sealed), None);
        for at in 0..sealed.data.len() {
            let mut changed = sealed.clone();
            changed.data[at] ^= 1;
            assert_eq!(ring.open("acme|1001|7", &changed), None, "byte {at}");
        }
        let empty = Sealed { data: Vec::new(), ..sealed };
        assert_eq!(ring.open("acme|1001|7", &empty), None);
    }

    #[test]
    fn debug_shows_no_key() {
        let key = EncryptionKey::new([0x41; KEY_LEN]);
        let shown = format!("{key:?} {:?}", Keyring::new(std::slice::from_ref(&key)));
        assert!(!shown.contains("4141") && !shown.contains("65, 65"), "{shown}");
    }
}
