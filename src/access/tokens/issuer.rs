use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

use super::{VerifiedToken, Withdrawal, key_set::KeySet, keys::Keys, more_telling};
use crate::{
    access::{Principal, principal::NAME_MAX},
    call::Unidentified,
    config::{self, KeysPlace},
};

/// Somebody who signs tokens.
pub struct Issuer {
    terms: Arc<Terms>,
    keys: Arc<Keys>,
}

/// Which tokens of an issuer are taken, as far as the configuration says.
pub struct Terms {
    name: Box<str>,
    /// Its name in tokens (`iss`).
    claimed: Box<str>,
    validation: Validation,
    leeway: Duration,
    place: KeysPlace,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// In seconds since 1970, maybe with a fraction.
    exp: f64,
}

impl Issuer {
    /// The issuer of a configuration, with its keys.
    pub fn new(name: &str, settings: &config::Issuer, keys: Arc<Keys>) -> Self {
        // Which algorithms are allowed is set below; this one would be the only one.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms.clone_from(&settings.algorithms);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&settings.audiences);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let (name, claimed) = (name.into(), settings.issuer.as_str().into());
        let (leeway, place) = (settings.leeway, settings.keys.clone());
        Self { terms: Arc::new(Terms { name, claimed, validation, leeway, place }), keys }
    }

    /// Whether it takes the same tokens as another, as far as the configuration says, by the same keys.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.terms.are_same(&other.terms) && Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// Which of its tokens are taken.
    pub(super) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.terms.name
    }

    /// Whether tokens call it by this name.
    pub fn is(&self, issuer: &str) -> bool {
        *self.terms.claimed == *issuer
    }

    /// Verifies a token of this issuer. Fetches the issuer's keys if the token names one that is not
    /// known, or names none and is of none that is known.
    ///
    /// # Errors
    ///
    /// Why it does not say who its owner is.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, Unidentified> {
        let verified = self.verify_with(token, &self.keys.current());
        let may_be_of_another = match &verified {
            Err(Unidentified::Key | Unidentified::KeysMissing) => true,
            Err(Unidentified::Signature) => names_no_key(token),
            _ => false,
        };
        if !may_be_of_another {
            return verified;
        }
        let keys = self.keys.newer().await;
        self.verify_with(token, &keys).map_err(|why| match why {
            // The issuer may have its key since the keys were read last.
            Unidentified::Key | Unidentified::Signature if self.keys.is_failing() => {
                Unidentified::KeysMissing
            }
            why => why,
        })
    }

    fn verify_with(&self, token: &str, keys: &KeySet) -> Result<VerifiedToken, Unidentified> {
        let head = decode_header(token).map_err(|error| reason(error.kind()))?;
        let Terms { validation, .. } = &*self.terms;
        // The list never has an algorithm with a shared secret, so a public key is never taken for one.
        if !validation.algorithms.contains(&head.alg) {
            return Err(Unidentified::Algorithm);
        }
        let mut why = if keys.is_empty() { Unidentified::KeysMissing } else { Unidentified::Key };
        // All algorithms of one validation have to be of one kind.
        let validation = Validation { algorithms: vec![head.alg], ..validation.clone() };
        for key in keys.fitting(head.kid.as_deref(), head.alg) {
            match decode::<Claims>(token, &key.decoding, &validation) {
                Ok(read) => return self.verified(read.claims, key.withdrawal.clone()),
                Err(error) => why = more_telling(why, reason(error.kind())),
            }
        }
        Err(why)
    }

    fn verified(&self, claims: Claims, key: Withdrawal) -> Result<VerifiedToken, Unidentified> {
        let subject = claims.sub.filter(|subject| (1..=NAME_MAX).contains(&subject.len()));
        let subject = subject.ok_or(Unidentified::Subject)?.into();
        let exp = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::ZERO);
        let until = UNIX_EPOCH.checked_add(exp.saturating_add(self.terms.leeway));
        let until = until.unwrap_or_else(|| SystemTime::now() + Duration::from_secs(24 * 60 * 60));
        let principal = Principal::Token { issuer: self.terms.name.clone(), subject };
        Ok(VerifiedToken { principal, until, key })
    }
}

impl Terms {
    /// Whether the same tokens are taken by these, given the same keys.
    pub(super) fn are_same(&self, other: &Self) -> bool {
        let Self { name, claimed, validation, leeway, place } = self;
        let of = |validation: &Validation| (validation.algorithms.clone(), validation.aud.clone());
        (name, claimed, leeway) == (&other.name, &other.claimed, &other.leeway)
            && of(validation) == of(&other.validation)
            && place.is_same(&other.place)
    }
}

fn names_no_key(token: &str) -> bool {
    decode_header(token).is_ok_and(|head| head.kid.is_none())
}

fn reason(error: &ErrorKind) -> Unidentified {
    match error {
        ErrorKind::ExpiredSignature => Unidentified::Expired,
        ErrorKind::ImmatureSignature => Unidentified::NotYetValid,
        ErrorKind::InvalidIssuer => Unidentified::Issuer,
        ErrorKind::InvalidAudience => Unidentified::Audience,
        ErrorKind::InvalidSignature => Unidentified::Signature,
        ErrorKind::MissingRequiredClaim(_) => Unidentified::Claims,
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm => Unidentified::Algorithm,
        _ => Unidentified::Malformed,
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms").field("name", &self.name).finish_non_exhaustive()
    }
}
