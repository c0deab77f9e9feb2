use std::fmt;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

use super::Withdrawal;

/// The public keys of an issuer (RFC 7517).
#[derive(Default)]
pub struct KeySet(Vec<Key>);

pub(super) struct Key {
    id: Option<String>,
    material: AlgorithmParameters,
    pub(super) withdrawal: Withdrawal,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    family: AlgorithmFamily,
    pub(super) decoding: DecodingKey,
}

/// Why a text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// It is not JSON of that form.
    #[error("is not a JSON Web Key Set")]
    Malformed,
    /// No key in it can verify a signature.
    #[error("has no RSA, P-256, P-384 or Ed25519 key for signatures")]
    NoKey,
}

/// How many keys are read. An issuer has one or two, and a few while it replaces them.
const KEYS_MAX: usize = 64;
/// The shortest RSA modulus, in bytes.
const MODULUS_MIN: usize = 256;

impl KeySet {
    /// Reads a key set. Keys that are not for signatures, or of a kind that is not taken, are left out.
    ///
    /// # Errors
    ///
    /// Why there are no keys in it.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidKeySet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| InvalidKeySet::Malformed)?;
        let keys: Vec<_> = set.keys.into_iter().filter_map(key).take(KEYS_MAX).collect();
        if keys.is_empty() { Err(InvalidKeySet::NoKey) } else { Ok(Self(keys)) }
    }

    /// This set in the place of another: the keys of that one that are not in this are withdrawn.
    #[must_use]
    pub(super) fn in_place_of(mut self, before: &Self) -> Self {
        for at in 0..self.0.len() {
            let (earlier, rest) = self.0.split_at_mut(at);
            let Some(key) = rest.first_mut() else { break };
            // A set may have a key twice, by two ids. It has one withdrawal then.
            let mut known = before.0.iter().chain(&*earlier);
            if let Some(known) = known.find(|known| known.material == key.material) {
                key.withdrawal = known.withdrawal.clone();
            }
        }
        for known in &before.0 {
            if !self.0.iter().any(|key| key.material == known.material) {
                known.withdrawal.make();
            }
        }
        self
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that a token may be signed with that names this key and this algorithm.
    pub(super) fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| {
            let is_named = id.is_none_or(|id| key.id.as_deref() == Some(id));
            let is_allowed = key.algorithm.is_none_or(|own| own == algorithm);
            is_named && is_allowed && key.family.algorithms().contains(&algorithm)
        };
        self.0.iter().filter(fits)
    }
}

fn key(json: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    if !is_for_signatures(&jwk.common) || !is_of_known_kind(&jwk.algorithm) {
        return None;
    }
    let algorithm = jwk.common.key_algorithm.map(Algorithm::try_from).transpose().ok()?;
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    let (family, withdrawal) = (decoding.family(), Withdrawal::default());
    let (id, material) = (jwk.common.key_id, jwk.algorithm);
    Some(Key { id, material, withdrawal, algorithm, family, decoding })
}

/// Whether a key is to verify signatures, as far as it says what it is for.
fn is_for_signatures(common: &CommonParameters) -> bool {
    let CommonParameters { public_key_use, key_operations, .. } = common;
    let is_used = public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = |all: &Vec<KeyOperations>| all.contains(&KeyOperations::Verify);
    is_used && key_operations.as_ref().is_none_or(verifies)
}

/// Whether a key is of a kind that is taken, and long enough.
fn is_of_known_kind(material: &AlgorithmParameters) -> bool {
    match material {
        // Four characters of base64 are three bytes.
        AlgorithmParameters::RSA(rsa) => rsa.n.len() * 3 / 4 >= MODULUS_MIN,
        AlgorithmParameters::EllipticCurve(key) => {
            matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384)
        }
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        // A shared secret is no public key.
        _ => false,
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const OTHER: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

    fn set(keys: &[(&str, &str)]) -> KeySet {
        let key = |(id, x): &(&str, &str)| {
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}"#)
        };
        let keys: Vec<_> = keys.iter().map(key).collect();
        KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    #[test]
    fn only_keys_for_signatures_of_known_kinds_are_taken() {
        let ed = |more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ONE}"{more}}}"#);
        let ec =
            |curve: &str| format!(r#"{{"kty":"EC","crv":"{curve}","x":"{ONE}","y":"{OTHER}"}}"#);
        for (key, is_taken) in [
            (ed(""), true),
            (ed(r#","use":"sig""#), true),
            (ed(r#","use":"enc""#), false),
            (ed(r#","use":"tls""#), false),
            (ed(r#","key_ops":["verify"]"#), true),
            (ed(r#","key_ops":["sign","verify"],"use":"sig""#), true),
            (ed(r#","key_ops":["encrypt","wrapKey"]"#), false),
            (ed(r#","key_ops":["deriveKey"],"use":"sig""#), false),
            (ed(r#","key_ops":[]"#), false),
            (ed(r#","alg":"EdDSA""#), true),
            (ed(r#","alg":"ECDH-ES""#), false),
            (ed("").replace("Ed25519", "X25519"), false),
            (ed("").replace("Ed25519", "P-256"), false),
            (ec("P-256"), true),
            (ec("P-384"), true),
            (ec("P-521"), false),
            (ec("Ed25519"), false),
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), false),
        ] {
            let set = KeySet::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes());
            assert_eq!(set.is_ok(), is_taken, "{key}");
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_withdrawn_when_it_is_there_no_more() {
        let twice = [("a", ONE), ("b", ONE), ("c", OTHER)];
        let first = set(&twice).in_place_of(&KeySet::default());
        let all: Vec<_> = first.0.iter().map(|key| key.withdrawal.clone()).collect();
        let second = set(&[("b", ONE), ("c", OTHER)]).in_place_of(&first);
        let third = set(&twice).in_place_of(&second);
        assert!(all.iter().all(|withdrawal| !withdrawal.is_made()));
        let _last = set(&[("c", OTHER)]).in_place_of(&third);
        let made: Vec<_> = all.iter().map(Withdrawal::is_made).collect();
        assert_eq!(made, [true, true, false]);
    }
}
