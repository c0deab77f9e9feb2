use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::{CurrentPolicy, ListenerPolicy, Principal, Right, Rights, tokens::Withdrawal};
use crate::{
    call::{Obstacle, Unidentified},
    id::TenantId,
};

/// What one caller may do at which tenants.
#[derive(Debug)]
pub struct Access {
    principals: Vec<Principal>,
    /// The principals, for the log.
    shown: Box<str>,
    /// One number for all of them; `None`: nothing is known of who the caller is.
    number: Option<u64>,
    everywhere: Rights,
    at: BTreeMap<TenantId, Rights>,
    unnamed: Unnamed,
    /// When what the caller has shown expires, and what that is.
    until: Option<(Instant, Unidentified)>,
    /// Of the key that signed the caller's token.
    key: Option<Withdrawal>,
    standing: Option<Standing>,
    /// What it has become under the newest policy that was asked for. A health watch asks each second.
    renewed: Mutex<Option<Arc<Renewed>>>,
}

/// What a caller may do under a newer policy, by what it has shown before.
#[derive(Debug)]
struct Renewed {
    /// Of the policy.
    generation: u64,
    /// `None`: nothing of what it has shown is taken any more.
    access: Option<Access>,
    /// Whether all that it has shown is still taken.
    are_all: bool,
}

/// Under which policy an access was computed.
#[derive(Debug)]
pub(super) struct Standing {
    /// Of the policy.
    pub(super) generation: u64,
    pub(super) policy: Arc<ListenerPolicy>,
    pub(super) current: Arc<CurrentPolicy>,
    /// The caller's certificate and its intermediates.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

/// The tenant of a request that names none.
#[derive(Debug)]
enum Unnamed {
    /// The only one that the caller may use.
    Is(TenantId),
    /// There are several.
    Several,
    /// There is none.
    Nobody,
}

/// How far in the future an end is at most, so that it fits into the clock.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// How many principals the log shows of one caller.
const SHOWN_MAX: usize = 3;

impl Access {
    /// The access of a caller who is all of these principals. It has `everywhere` at each of the
    /// configured `tenants`, and more at some.
    pub(super) fn new(
        principals: Vec<Principal>,
        everywhere: Rights,
        mut at: BTreeMap<TenantId, Rights>,
        tenants: &[TenantId],
        until: Option<(SystemTime, Unidentified)>,
    ) -> Self {
        at.retain(|_, rights| !rights.is_empty());
        let may_use =
            |tenant: &&TenantId| !everywhere.is_empty() || at.contains_key(tenant.as_str());
        let mut used = tenants.iter().filter(may_use);
        let unnamed = match (used.next(), used.next()) {
            (None, _) => Unnamed::Nobody,
            (Some(only), None) => Unnamed::Is(only.clone()),
            (Some(_), Some(_)) => Unnamed::Several,
        };
        let known = principals.iter().filter(|principal| **principal != Principal::Anonymous);
        let shown: Vec<_> = known.take(SHOWN_MAX).map(shown).collect();
        let until = until.map(|(until, why)| {
            let left = until.duration_since(SystemTime::now()).unwrap_or_default();
            (Instant::now() + left.min(FAR), why)
        });
        let shown = shown.join(" ").into();
        let number = number(&principals);
        Self {
            principals,
            shown,
            number,
            everywhere,
            at,
            unnamed,
            until,
            key: None,
            standing: None,
            renewed: Mutex::default(),
        }
    }

    /// The same, by a token that was signed with this key.
    pub(super) fn signed_with(self, key: Withdrawal) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Whether the key that signed the caller's token is withdrawn.
    pub fn is_key_withdrawn(&self) -> bool {
        self.key.as_ref().is_some_and(Withdrawal::is_made)
    }

    /// Waits until the key that signed the caller's token is withdrawn.
    pub async fn key_withdrawn(&self) {
        match &self.key {
            Some(key) => key.made().await,
            None => std::future::pending().await,
        }
    }

    /// The same, computed under a policy that may be replaced.
    pub(super) fn under(self, standing: Standing) -> Self {
        Self { standing: Some(standing), ..self }
    }

    /// Waits until another policy takes `right` at the tenant `id` away.
    pub async fn lost(&self, id: &str, right: Right) {
        let Some(standing) = &self.standing else { return std::future::pending().await };
        let mut newest = standing.policy.clone();
        loop {
            newest.superseded.cancelled().await;
            (_, newest) = standing.current.get();
            if self.renewed(standing).refuses(id, right).is_some() {
                return;
            }
        }
    }

    /// Why the caller has `right` at the tenant `id` no more: what it has shown has expired or is
    /// withdrawn, or another policy allows less. `None`: it may do what it might.
    pub fn taken_back(&self, id: &str, right: Right) -> Option<Obstacle> {
        if let Some((until, why)) = self.until
            && until <= Instant::now()
        {
            return Some(Obstacle::CallerUnknown(why));
        }
        if self.is_key_withdrawn() {
            return Some(Obstacle::CallerUnknown(Unidentified::Key));
        }
        self.renewed(self.superseded()?).refuses(id, right)
    }

    /// Whether the caller may do anything at the tenant `id`, by the policy that is the current one.
    pub fn may_use(&self, id: &str) -> bool {
        if id.is_empty() || self.has_expired(Instant::now()) || self.is_key_withdrawn() {
            return false;
        }
        let renewed = self.superseded().map(|standing| self.renewed(standing));
        Right::ALL.into_iter().any(|(_, right)| match &renewed {
            Some(renewed) => renewed.refuses(id, right).is_none(),
            None => matches!(self.tenant(id, right), Ok(Some(_))),
        })
    }

    /// Its standing, if another policy is in force since.
    fn superseded(&self) -> Option<&Standing> {
        let is_another =
            |standing: &&Standing| standing.current.generation() != standing.generation;
        self.standing.as_ref().filter(is_another)
    }

    /// What it is under the policy that is the current one. The caller's certificate is verified once for
    /// each policy.
    fn renewed(&self, standing: &Standing) -> Arc<Renewed> {
        let Standing { policy: before, current, chain, .. } = standing;
        let (generation, policy) = current.get();
        let known = || self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known().clone().filter(|known| known.generation == generation);
        if let Some(newest) = newest {
            return newest;
        }
        let is_verified = policy.verifies(chain);
        let still = |principal: &&Principal| match principal {
            Principal::Anonymous => policy.allows_anonymous,
            Principal::Token { issuer, .. } => policy.takes_tokens_as(before, issuer),
            Principal::Uri(_) | Principal::Dns(_) | Principal::CommonName(_) => is_verified,
        };
        let principals: Vec<_> = self.principals.iter().filter(still).cloned().collect();
        let are_all = principals.len() == self.principals.len();
        let access = (!principals.is_empty()).then(|| policy.rules.access(principals, None));
        let renewed = Arc::new(Renewed { generation, access, are_all });
        *known() = Some(renewed.clone());
        renewed
    }

    /// The access of somebody who may do nothing.
    pub fn nobody() -> Self {
        Self::new(Vec::new(), Rights::NONE, BTreeMap::new(), &[], None)
    }

    /// Who the caller is.
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Who the caller is, for the log. Empty if nobody knows, or if it is anonymous.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// One number for all that is known of who the caller is; `None` if nothing is. It is another one in each process.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// Whether the caller's certificate or token has expired.
    pub fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|(until, _)| until <= now)
    }

    /// When the caller's certificate or token expires.
    pub fn until(&self) -> Option<Instant> {
        self.until.map(|(until, _)| until)
    }

    /// The tenant that a request means by `id`, if the caller has `right` there. `None` if the request
    /// has to name one.
    ///
    /// # Errors
    ///
    /// [`Obstacle::CallerNotAllowed`], whether or not there is such a tenant.
    pub fn tenant<'a>(&'a self, id: &'a str, right: Right) -> Result<Option<&'a str>, Obstacle> {
        let id = match (id, &self.unnamed) {
            ("", Unnamed::Is(only)) => only.as_str(),
            ("", Unnamed::Several) => return Ok(None),
            ("", Unnamed::Nobody) => return Err(Obstacle::CallerNotAllowed),
            (id, _) => id,
        };
        let here = self.at.get(id).copied().unwrap_or_default();
        if here.union(self.everywhere).contains(right) {
            Ok(Some(id))
        } else {
            Err(Obstacle::CallerNotAllowed)
        }
    }

    /// The tenant of requests that name none, if there is exactly one that the caller may use.
    pub fn only_tenant(&self) -> Option<&str> {
        if let Unnamed::Is(only) = &self.unnamed { Some(only.as_str()) } else { None }
    }
}

// === impl Renewed ===

impl Renewed {
    /// Why the caller has not `right` at the tenant `id`.
    fn refuses(&self, id: &str, right: Right) -> Option<Obstacle> {
        let access = self.access.as_ref();
        if access.is_some_and(|access| matches!(access.tenant(id, right), Ok(Some(_)))) {
            return None;
        }
        // The right may be there for who shows it anew.
        let unknown = Obstacle::CallerUnknown(Unidentified::Changed);
        Some(if self.are_all { Obstacle::CallerNotAllowed } else { unknown })
    }
}

fn number(principals: &[Principal]) -> Option<u64> {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let known = |principal: &&Principal| **principal != Principal::Anonymous;
    let known: Vec<_> = principals.iter().filter(known).collect();
    (!known.is_empty()).then(|| STATE.hash_one(known))
}

/// The name of a principal, quoted if it could be taken for several, or is read in another way than it is written.
fn shown(principal: &Principal) -> String {
    let name = principal.to_string();
    let is_plain = |c: char| {
        // What is not seen itself may change how the rest is seen.
        let is_seen = !c.is_whitespace() && c.escape_debug().len() == 1;
        if c.is_ascii() { c.is_ascii_graphic() && c != '"' } else { is_seen }
    };
    if name.chars().all(is_plain) { name } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests;
