//! Tokens of callers: JSON web tokens that an issuer has signed (RFC 7519).

mod fetch;
mod issuer;
mod key_set;
mod keys;
mod read_file;
mod verified;
mod withdrawal;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde::Deserialize;

use self::verified::VerifiedTokens;
pub use self::{
    fetch::Fetcher,
    issuer::{Issuer, Terms},
    key_set::{InvalidKeySet, KeySet},
    keys::{KeySource, Keys, Reading},
    read_file::ReadFile,
    withdrawal::Withdrawal,
};
use super::Principal;
use crate::call::Unidentified;

/// The tokens that a listener takes: those of some issuers.
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    /// The ones that were good, so that a signature is verified once for each token.
    verified: Mutex<VerifiedTokens>,
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whose it is.
    pub principal: Principal,
    /// When it expires.
    pub until: SystemTime,
    /// Whether the key is withdrawn that it is signed with.
    pub key: Withdrawal,
}

/// The longest token, in bytes. A request's headers together have 16 KiB.
const TOKEN_MAX: usize = 12 * 1024;

impl Tokens {
    /// Takes the tokens of these issuers.
    pub fn of(issuers: Vec<Arc<Issuer>>) -> Self {
        Self { issuers, verified: Mutex::default() }
    }

    /// Takes the tokens of those of these issuers that have such terms; `None` if none has.
    pub(super) fn on(terms: &[Arc<Terms>], issuers: &[Arc<Issuer>]) -> Option<Self> {
        let on = |terms: &Arc<Terms>| {
            issuers.iter().find(|issuer| issuer.terms().are_same(terms)).cloned()
        };
        let issuers: Vec<_> = terms.iter().filter_map(on).collect();
        (!issuers.is_empty()).then(|| Self::of(issuers))
    }

    /// Whether those of the issuer of this name in the configuration are taken.
    pub(super) fn has(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|known| known.name() == issuer)
    }

    /// On which terms tokens are taken.
    pub(super) fn terms(&self) -> Vec<Arc<Terms>> {
        self.issuers.iter().map(|issuer| issuer.terms().clone()).collect()
    }

    /// Whether those of the issuer of this name in the configuration are taken just as `before`.
    pub(super) fn are_taken_as(&self, before: &Self, issuer: &str) -> bool {
        let named =
            |tokens: &Self| tokens.issuers.iter().find(|known| known.name() == issuer).cloned();
        named(self).zip(named(before)).is_some_and(|(now, then)| now.is_same(&then))
    }

    /// Verifies a token.
    ///
    /// # Errors
    ///
    /// Why it does not say who its owner is.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, Unidentified> {
        if token.len() > TOKEN_MAX {
            return Err(Unidentified::Malformed);
        }
        let digest = digest(&SHA256, token.as_bytes());
        let digest = digest.as_ref().first_chunk().copied().unwrap_or_default();
        if let Some(known) = self.verified().get(&digest, SystemTime::now()) {
            return Ok(known);
        }
        let verified = self.verify_anew(token).await?;
        self.verified().put(digest, verified.clone());
        Ok(verified)
    }

    async fn verify_anew(&self, token: &str) -> Result<VerifiedToken, Unidentified> {
        let claimed = claimed_issuer(token).ok_or(Unidentified::Malformed)?;
        let mut why = Unidentified::Issuer;
        // Two issuers may have the same name for different audiences.
        for issuer in self.issuers.iter().filter(|issuer| issuer.is(&claimed)) {
            match issuer.verify(token).await {
                Ok(verified) => return Ok(verified),
                Err(because) => why = more_telling(why, because),
            }
        }
        Err(why)
    }

    fn verified(&self) -> MutexGuard<'_, VerifiedTokens> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of two reasons against a token, by two keys or issuers, the one that its owner can do more with.
fn more_telling(one: Unidentified, other: Unidentified) -> Unidentified {
    let weight = |why: Unidentified| match why {
        // The token is not of this one, which is nothing against it.
        Unidentified::Issuer
        | Unidentified::Key
        | Unidentified::Signature
        | Unidentified::Algorithm => 0,
        Unidentified::Audience => 1,
        // Whoever cannot be asked may be the one that would say yes.
        Unidentified::KeysMissing => 2,
        // Its key has signed it.
        _ => 3,
    };
    if weight(other) >= weight(one) { other } else { one }
}

/// The token in an `authorization` header, if that has one.
pub(super) fn bearer(header: &HeaderValue) -> Option<&str> {
    const SCHEME: &str = "bearer ";
    let text = header.to_str().ok()?;
    let (scheme, token) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim())
}

/// The issuer that a token names. Nothing is verified.
fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let [_head, claims, _signature] = split(token)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    Some(serde_json::from_slice::<Claims>(&claims).ok()?.iss)
}

fn split(token: &str) -> Option<[&str; 3]> {
    let mut parts = token.split('.');
    let all = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(all)
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.issuers).finish()
    }
}
