use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Access, CertificateIdentity, CurrentPolicy, Principal, Rules,
    caller_access::Standing,
    tokens::{Issuer, Terms, Tokens, VerifiedToken, bearer},
};
use crate::{call::Unidentified, secret};

/// How the callers of one listener are identified.
#[derive(Debug)]
pub struct ListenerPolicy {
    /// What each of them may do.
    pub rules: Arc<Rules>,
    /// Whose tokens are taken; `None`: nobody's.
    pub tokens: Option<Arc<Tokens>>,
    /// Who has to vouch for a certificate, each of them; if empty, nobody's are taken.
    pub certificates: Vec<Arc<dyn ClientCertVerifier>>,
    /// Whether a caller may show nothing.
    pub allows_anonymous: bool,
    /// Whether its callers may ask for the services by reflection.
    pub reflection: bool,
    /// Cancelled when there is another policy.
    pub superseded: CancellationToken,
    /// What it was before its listener went by a configuration that is not meant for it; `None`: it is as its
    /// configuration says.
    pub narrowed_from: Option<Arc<FullPolicy>>,
}

/// What a listener's policy allows as its configuration says.
#[derive(Debug)]
pub struct FullPolicy {
    has_rules: bool,
    issuers: Vec<Arc<Terms>>,
    certificates: Vec<Arc<dyn ClientCertVerifier>>,
    allows_anonymous: bool,
    reflection: bool,
}

/// Who the peer of one connection is. Each of its calls may bring a token besides.
pub struct ConnectionIdentity {
    current: Arc<CurrentPolicy>,
    /// The certificate that TLS has verified, and its intermediates; empty if it has shown none.
    chain: Arc<[CertificateDer<'static>]>,
    known: Mutex<Known>,
}

/// What is known of a peer under one policy.
struct Known {
    generation: u64,
    policy: Arc<ListenerPolicy>,
    certificate: CertificateIdentity,
    /// What the peer may do without a token.
    own: Option<Arc<Access>>,
    /// The last `authorization` header that was good. Callers send the same one with each call.
    last: Option<(HeaderValue, Arc<Access>)>,
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

// === impl ListenerPolicy ===

impl ListenerPolicy {
    /// The policy of a listener that is not as the configuration says before a restart: as before it was
    /// narrowed first, with the new rules, and without the tokens of issuers that are not among `issuers` as
    /// they were. If the configuration has a listener of its name, of each kind of identity that both take it
    /// lets in only those whom that one would let in too, and it has reflection only if that one has; if not, only if
    /// listeners have it that do not say it themselves (`default_reflection`).
    #[must_use]
    pub fn narrowed(
        &self,
        rules: &Arc<Rules>,
        issuers: &[Arc<Issuer>],
        configured: Option<&Self>,
        default_reflection: bool,
    ) -> Self {
        let full = self.narrowed_from.clone().unwrap_or_else(|| Arc::new(FullPolicy::of(self)));
        // Without rules everybody may do everything, which is meant for the new address.
        let opens = rules.is_empty() && full.has_rules;
        let tokens = Tokens::on(&full.issuers, issuers).map(Arc::new);
        let certificates = match configured {
            Some(new) if !new.certificates.is_empty() && !full.certificates.is_empty() => {
                [&*full.certificates, &*new.certificates].concat()
            }
            // What was withdrawn does not come back because a section goes.
            _ => self.certificates.clone(),
        };
        // Where callers are to be identified in a way that begins with the restart, they go on until then.
        let knows_callers = tokens.is_some() || !certificates.is_empty();
        let allows_anonymous = match configured {
            Some(new) => full.allows_anonymous && (new.allows_anonymous || !knows_callers),
            None => self.allows_anonymous,
        };
        let reflection = match configured {
            Some(new) => full.reflection && new.reflection,
            None => self.reflection && default_reflection,
        };
        Self {
            rules: if opens { Arc::new(Rules::nobody()) } else { rules.clone() },
            tokens,
            certificates,
            allows_anonymous,
            reflection,
            superseded: CancellationToken::new(),
            narrowed_from: Some(full),
        }
    }

    /// Whether tokens of the issuer of this name in the configuration are taken.
    pub fn takes_tokens_of(&self, issuer: &str) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.has(issuer))
    }

    /// Whether tokens of the issuer of this name in the configuration are taken just as by the policy
    /// `before`.
    pub(super) fn takes_tokens_as(&self, before: &Self, issuer: &str) -> bool {
        let both = self.tokens.as_ref().zip(before.tokens.as_ref());
        both.is_some_and(|(now, then)| now.are_taken_as(then, issuer))
    }

    /// Whether the authorities vouch for a certificate chain.
    pub(super) fn verifies(&self, chain: &[CertificateDer<'static>]) -> bool {
        let Some((leaf, others)) = chain.split_first() else { return false };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        let vouches = |authorities: &Arc<dyn ClientCertVerifier>| {
            authorities.verify_client_cert(leaf, others, now).is_ok()
        };
        !self.certificates.is_empty() && self.certificates.iter().all(vouches)
    }
}

// === impl FullPolicy ===

impl FullPolicy {
    fn of(policy: &ListenerPolicy) -> Self {
        let issuers = policy.tokens.as_ref().map(|tokens| tokens.terms()).unwrap_or_default();
        Self {
            has_rules: !policy.rules.is_empty(),
            issuers,
            certificates: policy.certificates.clone(),
            allows_anonymous: policy.allows_anonymous,
            reflection: policy.reflection,
        }
    }
}

// === impl ConnectionIdentity ===

impl ConnectionIdentity {
    /// The identity of a peer that has shown this certificate chain, which TLS has verified under the
    /// policy of the generation `seen`.
    pub fn new(
        current: Arc<CurrentPolicy>,
        seen: u64,
        chain: Vec<CertificateDer<'static>>,
    ) -> Self {
        let (generation, policy) = current.get();
        // A handshake takes time, and the authorities may be others since. Where a listener waits for a
        // restart, its handshakes are as before, also if an authority is withdrawn.
        let is_current = generation == seen && policy.narrowed_from.is_none();
        let is_verified = is_current || policy.verifies(&chain);
        let certificate =
            if is_verified { CertificateIdentity::of(&chain) } else { <_>::default() };
        let chain = chain.into();
        let known = Known::new(generation, policy, certificate, (&current, &chain));
        Self { current, chain, known: Mutex::new(known) }
    }

    /// Whether the peer may ask for the services by reflection.
    pub fn may_reflect(&self) -> bool {
        self.known().policy.reflection
    }

    /// Finds out who sends a request with these headers.
    pub fn identify(&self, headers: &HeaderMap, now: Instant) -> Identified {
        let known = self.known();
        let token = match &known.policy.tokens {
            None => Ok(None),
            Some(_) => only_bearer(&headers.get_all(AUTHORIZATION)),
        };
        match (token, &known.own) {
            (Err(why), _) => Identified::Unknown(why),
            (Ok(Some(token)), _) => known.by_token(token, now),
            (Ok(None), None) => Identified::Unknown(Unidentified::Nothing),
            (Ok(None), Some(own)) if has_expired(own, now) => {
                Identified::Unknown(Unidentified::CertificateExpired)
            }
            (Ok(None), Some(own)) => Identified::Known(own.clone()),
        }
    }

    /// Verifies the token in an `authorization` header. Its owner may do what the token and the
    /// connection's certificate allow together.
    ///
    /// # Errors
    ///
    /// Why the token does not say who the caller is.
    pub async fn verify(&self, header: &HeaderValue) -> Result<Arc<Access>, Unidentified> {
        let (generation, policy) = {
            let known = self.known();
            (known.generation, known.policy.clone())
        };
        let tokens = policy.tokens.as_ref().ok_or(Unidentified::Nothing)?;
        let token = bearer(header).ok_or(Unidentified::Malformed)?;
        let VerifiedToken { principal, until, key } = tokens.verify(token).await?;
        let mut known = self.known();
        let CertificateIdentity { principals, until: own_until } = &known.certificate;
        let by_token = (until, Unidentified::Expired);
        let (own, until) = match *own_until {
            Some(own) if own <= SystemTime::now() => (Vec::new(), by_token),
            Some(own) if own < until => {
                (principals.clone(), (own, Unidentified::CertificateExpired))
            }
            _ => (principals.clone(), by_token),
        };
        let principals = [principal].into_iter().chain(own).collect();
        let access = policy.rules.access(principals, Some(until));
        let (current, chain) = (self.current.clone(), self.chain.clone());
        let standing = Standing { generation, policy: policy.clone(), current, chain };
        let access = Arc::new(access.signed_with(key).under(standing));
        // The policy may have been replaced meanwhile. The next call is then identified under the new one.
        if Arc::ptr_eq(&known.policy, &policy) {
            // A copy: the header itself is a part of what the connection has read.
            known.last = secret::header(header.as_bytes()).map(|header| (header, access.clone()));
        }
        Ok(access)
    }

    /// What is known under the current policy.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation != self.current.generation() {
            let (generation, policy) = self.current.get();
            // The authorities may be others than when the peer connected.
            let is_verified = policy.verifies(&self.chain);
            let certificate =
                if is_verified { CertificateIdentity::of(&self.chain) } else { <_>::default() };
            let peer = (&self.current, &self.chain);
            *known = Known::new(generation, policy, certificate, peer);
        }
        known
    }
}

// === impl Known ===

impl Known {
    fn new(
        generation: u64,
        policy: Arc<ListenerPolicy>,
        certificate: CertificateIdentity,
        (current, chain): (&Arc<CurrentPolicy>, &Arc<[CertificateDer<'static>]>),
    ) -> Self {
        let CertificateIdentity { principals, until } = &certificate;
        let own = if !principals.is_empty() {
            let until = until.map(|until| (until, Unidentified::CertificateExpired));
            Some(policy.rules.access(principals.clone(), until))
        } else if policy.allows_anonymous {
            Some(policy.rules.access(vec![Principal::Anonymous], None))
        } else {
            None
        };
        let own = own.map(|own| {
            let (policy, current, chain) = (policy.clone(), current.clone(), chain.clone());
            Arc::new(own.under(Standing { generation, policy, current, chain }))
        });
        Self { generation, policy, certificate, own, last: None }
    }

    fn by_token(&self, token: &HeaderValue, now: Instant) -> Identified {
        match &self.last {
            Some((last, access)) if last == token && !has_expired(access, now) => {
                Identified::Known(access.clone())
            }
            _ => {
                let mut token = token.clone();
                token.set_sensitive(true);
                Identified::ByToken(token)
            }
        }
    }
}

/// The header with a bearer token. Other schemes are not for the bridge.
fn only_bearer<'a>(
    headers: &GetAll<'a, HeaderValue>,
) -> Result<Option<&'a HeaderValue>, Unidentified> {
    let mut bearers = headers.iter().filter(|header| bearer(header).is_some());
    match (bearers.next(), bearers.next()) {
        (_, Some(_)) => Err(Unidentified::SeveralTokens),
        (token, None) => Ok(token),
    }
}

fn has_expired(access: &Access, now: Instant) -> bool {
    access.has_expired(now) || access.is_key_withdrawn()
}

impl fmt::Debug for ConnectionIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIdentity").field("own", &self.known().own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::NoClientAuth;

    use super::*;

    /// A policy that wants so many authorities to vouch for a certificate.
    fn policy(authorities: usize, allows_anonymous: bool) -> ListenerPolicy {
        let authority: Arc<dyn ClientCertVerifier> = Arc::new(NoClientAuth);
        ListenerPolicy {
            rules: Arc::new(Rules::nobody()),
            tokens: None,
            certificates: vec![authority; authorities],
            allows_anonymous,
            reflection: false,
            superseded: CancellationToken::new(),
            narrowed_from: None,
        }
    }

    #[test]
    fn a_listener_that_waits_for_a_restart_is_narrowed_where_both_know_callers_in_the_same_way() {
        let rules = Arc::new(Rules::nobody());
        for (was, configured, narrowed) in [
            // Another authority has to vouch too, and callers who show nothing are let in by both or not at all.
            ((1, true), Some((1, true)), (2, true)),
            ((1, true), Some((1, false)), (2, false)),
            ((1, false), Some((1, true)), (2, false)),
            // What begins or ends with the restart is left alone until then.
            ((1, false), Some((0, true)), (1, false)),
            ((0, true), Some((1, false)), (0, true)),
            ((1, true), None, (1, true)),
        ] {
            let configured =
                configured.map(|(authorities, anonymous)| policy(authorities, anonymous));
            let now = policy(was.0, was.1).narrowed(&rules, &[], configured.as_ref(), true);
            assert_eq!((now.certificates.len(), now.allows_anonymous), narrowed, "{was:?}");
        }
    }

    #[test]
    fn reflection_goes_where_the_section_or_without_one_the_server_has_none() {
        let rules = Arc::new(Rules::nobody());
        let with = |reflection| ListenerPolicy { reflection, ..policy(1, true) };
        for (was, configured, default, narrowed) in [
            (true, Some(true), false, true),
            (true, Some(false), true, false),
            (false, Some(true), true, false),
            (true, None, true, true),
            (true, None, false, false),
            (false, None, true, false),
        ] {
            let new = configured.map(with);
            let now = with(was).narrowed(&rules, &[], new.as_ref(), default);
            assert_eq!(now.reflection, narrowed, "{was} {configured:?} {default}");
        }
    }

    #[test]
    fn what_is_withdrawn_does_not_come_back_because_the_section_goes() {
        let rules = Arc::new(Rules::nobody());
        let narrowed = policy(1, true).narrowed(&rules, &[], Some(&policy(1, false)), true);
        for later in [None, Some(policy(0, true))] {
            let now = narrowed.narrowed(&rules, &[], later.as_ref(), true);
            assert_eq!(now.certificates.len(), 2);
        }
        assert!(!narrowed.narrowed(&rules, &[], None, true).allows_anonymous);
        let restored = narrowed.narrowed(&rules, &[], Some(&policy(1, true)), true);
        assert!(restored.allows_anonymous, "it is put back");
    }
}
