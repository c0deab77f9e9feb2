use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};
use tokio::time::Instant;

use super::{
    Access, CertificateIdentity, Principal, Rules,
    tokens::{Tokens, VerifiedToken, bearer},
};
use crate::call::Unidentified;

/// How the callers of one listener are identified.
#[derive(Debug)]
pub struct ListenerPolicy {
    /// What each of them may do.
    pub rules: Arc<Rules>,
    /// Whose tokens are taken; `None`: nobody's.
    pub tokens: Option<Tokens>,
    /// Whether a caller may show nothing.
    pub allows_anonymous: bool,
    /// Whether its callers may ask for the services by reflection.
    pub reflection: bool,
}

/// Who the peer of one connection is. Each of its calls may bring a token besides.
pub struct ConnectionIdentity {
    policy: Arc<ListenerPolicy>,
    certificate: CertificateIdentity,
    /// What the peer may do without a token.
    own: Option<Arc<Access>>,
    /// The last `authorization` header that was good. Callers send the same one with each call.
    last: Mutex<Option<(HeaderValue, Arc<Access>)>>,
}

/// What is known of a request's caller.
#[derive(Debug)]
pub enum Identified {
    /// What it may do.
    Known(Arc<Access>),
    /// Nobody knows who it is.
    Unknown(Unidentified),
    /// It has a token that has to be verified ([`ConnectionIdentity::verify`]).
    ByToken(HeaderValue),
}

impl ConnectionIdentity {
    /// The identity of a peer with this certificate.
    pub fn new(policy: Arc<ListenerPolicy>, certificate: CertificateIdentity) -> Self {
        let CertificateIdentity { principals, until } = &certificate;
        let own = if !principals.is_empty() {
            Some(policy.rules.access(principals.clone(), *until))
        } else if policy.allows_anonymous {
            Some(policy.rules.access(vec![Principal::Anonymous], None))
        } else {
            None
        };
        Self { own: own.map(Arc::new), policy, certificate, last: Mutex::default() }
    }

    /// How callers of the connection's listener are treated.
    pub fn policy(&self) -> &ListenerPolicy {
        &self.policy
    }

    /// Finds out who sends a request with these headers.
    pub fn identify(&self, headers: &HeaderMap, now: Instant) -> Identified {
        let token = match &self.policy.tokens {
            None => Ok(None),
            Some(_) => only_bearer(headers.get_all(AUTHORIZATION)),
        };
        match (token, &self.own) {
            (Err(why), _) => Identified::Unknown(why),
            (Ok(Some(token)), _) => self.known(token, now),
            (Ok(None), None) => Identified::Unknown(Unidentified::Nothing),
            (Ok(None), Some(own)) if has_expired(own, now) => {
                Identified::Unknown(Unidentified::CertificateExpired)
            }
            (Ok(None), Some(own)) => Identified::Known(own.clone()),
        }
    }

    fn known(&self, token: &HeaderValue, now: Instant) -> Identified {
        if let Some((last, access)) = &*self.last()
            && last == token
            && !has_expired(access, now)
        {
            return Identified::Known(access.clone());
        }
        Identified::ByToken(token.clone())
    }

    /// Verifies the token in an `authorization` header. Its owner may do what the token and the
    /// connection's certificate allow together.
    ///
    /// # Errors
    ///
    /// Why the token does not say who the caller is.
    pub async fn verify(&self, header: &HeaderValue) -> Result<Arc<Access>, Unidentified> {
        let tokens = self.policy.tokens.as_ref().ok_or(Unidentified::Nothing)?;
        let token = bearer(header).ok_or(Unidentified::Malformed)?;
        let VerifiedToken { principal, until } = tokens.verify(token).await?;
        let CertificateIdentity { principals, until: own_until } = &self.certificate;
        let until = own_until.map_or(until, |own| own.min(until));
        let principals = [principal].into_iter().chain(principals.clone()).collect();
        let access = Arc::new(self.policy.rules.access(principals, Some(until)));
        *self.last() = Some((header.clone(), access.clone()));
        Ok(access)
    }

    fn last(&self) -> MutexGuard<'_, Option<(HeaderValue, Arc<Access>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header with a bearer token. Other schemes are not for the bridge.
fn only_bearer(headers: GetAll<'_, HeaderValue>) -> Result<Option<&HeaderValue>, Unidentified> {
    let mut bearers = headers.iter().filter(|header| bearer(header).is_some());
    match (bearers.next(), bearers.next()) {
        (_, Some(_)) => Err(Unidentified::SeveralTokens),
        (token, None) => Ok(token),
    }
}

fn has_expired(access: &Access, now: Instant) -> bool {
    access.until().is_some_and(|until| until <= now)
}

impl fmt::Debug for ConnectionIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIdentity").field("own", &self.own).finish_non_exhaustive()
    }
}
