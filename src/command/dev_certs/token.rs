use std::time::Duration;

use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use rcgen::KeyPair;
use serde_json::json;

use super::Failure;

/// A token of a caller, and the key set of its issuer.
pub(super) struct SignedToken {
    pub(super) key_set: String,
    pub(super) token: String,
}

pub(super) const ISSUER: &str = "https://dev.example";
pub(super) const AUDIENCE: &str = "ccgateway-bridge";
pub(super) const SUBJECT: &str = "dev";
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

impl SignedToken {
    /// Signs a token with a new key, which is lost then. `now` is since 1970.
    pub(super) fn make(now: Duration) -> Result<Self, Failure> {
        let key = EncodingKey::from_ec_der(&KeyPair::generate()?.serialize_der());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        // Each key has an id of its own: a bridge reads the keys again when it gets a token of a key
        // that it does not know.
        let id = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let header = Header { kid: Some(id), ..Header::new(Algorithm::ES256) };
        let (issued, expires) = (now.as_secs(), (now + VALID_FOR).as_secs());
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": issued, "exp": expires,
        });
        let key_set = serde_json::to_string_pretty(&json!({ "keys": [public] }))?;
        Ok(Self { key_set: key_set + "\n", token: encode(&header, &claims, &key)? + "\n" })
    }
}
