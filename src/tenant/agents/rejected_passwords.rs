//! The password that an agent was signed in with, and the rejected passwords that must not be tried
//! again.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::{
    AgentRecords, Known,
    sweep::{Found, Ticket},
};
use crate::{
    call::{CallError, Obstacle, Refusal},
    id::AgentId,
    retcode::Kind,
    tenant::password_digest::PasswordDigest,
};

/// The part of a record that holds an agent's passwords.
#[derive(Debug, Default)]
pub(super) struct CredentialPart {
    /// Of the last sign-in that worked; held until the agent signs out or its owner registers a Guid.
    held: Option<SecretString>,
    /// Oldest first.
    rejected: Vec<Rejected>,
}

/// A password that must not be tried again for a while.
#[derive(Debug)]
struct Rejected {
    password: PasswordDigest,
    until: Instant,
    why: Rejection,
    ticket: Ticket,
}

/// Why a sign-in must not be repeated for a while.
#[derive(Clone, Debug)]
pub(in crate::tenant) enum Rejection {
    /// The gateway rejected the password, or the platform has locked the account. It locks an
    /// account after some wrong passwords, so a wrong one must not be tried again and again.
    Refused(Refusal),
    /// The gateway accepted the sign-in, but sent no Guid. So the agent had to be signed out again.
    WithoutGuid,
}

/// How many rejected passwords of one agent are remembered: more than a platform lets anybody try
/// before it locks the account.
pub(in crate::tenant) const REJECTED_MAX: usize = 8;
/// How many stale entries the sweep may have on top of twice the number of rejections.
const STALE_MAX: usize = 64;

// === impl AgentRecords ===

impl AgentRecords {
    /// The password of the sign-in that worked last.
    pub(in crate::tenant) fn held(&self, agent: AgentId) -> Option<SecretString> {
        self.look(agent, |record| record.credentials.as_ref()?.held.clone()).flatten()
    }

    /// Notes that a password worked: it is no longer rejected.
    pub(in crate::tenant) fn worked(&self, agent: AgentId, password: &SecretString) {
        let digest = PasswordDigest::of(password);
        self.known().credentials(agent, |part| {
            part.rejected.retain(|rejected| rejected.password != digest);
        });
    }

    /// Holds a password, if there is room.
    pub(in crate::tenant) fn hold(&self, agent: AgentId, password: &SecretString) {
        let mut known = self.known();
        let has_room = known.totals.held < self.capacity.get();
        known.credentials(agent, |part| {
            if has_room || part.held.is_some() {
                part.held = Some(password.clone());
            }
        });
    }

    /// Forgets what an agent was signed in with.
    pub(in crate::tenant) fn forget_held(&self, agent: AgentId) {
        self.known().credentials(agent, |part| part.held = None);
    }

    /// Forgets what an agent was signed in with, if it is this password.
    pub(in crate::tenant) fn forget_wrong(&self, agent: AgentId, wrong: &PasswordDigest) {
        self.known().credentials(agent, |part| {
            part.held.take_if(|held| PasswordDigest::of(held) == *wrong);
        });
    }

    /// Remembers until `until` that a password must not be tried again. It takes the place of the oldest
    /// one, of the agent or of all, if there is no other. Returns the agent of whom no rejected password
    /// is known any more because of that.
    pub(in crate::tenant) fn reject(
        &self,
        agent: AgentId,
        password: PasswordDigest,
        why: Rejection,
        until: Instant,
    ) -> Option<AgentId> {
        let mut known = self.known();
        known.drop_old_rejections(Instant::now());
        known.credentials(agent, |part| {
            part.rejected.retain(|rejected| rejected.password != password);
            if part.rejected.len() >= REJECTED_MAX {
                part.rejected.remove(0);
            }
        });
        let is_full = known.totals.rejected >= self.capacity.get();
        let displaced = if is_full { known.drop_oldest_rejection() } else { None };
        let ticket = known.rejections.add(agent);
        known.credentials(agent, |part| {
            part.rejected.push(Rejected { password, until, why, ticket });
        });
        displaced.filter(|displaced| *displaced != agent)
    }

    /// The agent's rejected passwords, oldest first: why they must not be tried, and for how long.
    pub(in crate::tenant) fn rejections(
        &self,
        agent: AgentId,
    ) -> Vec<(PasswordDigest, Rejection, Duration)> {
        let (known, now) = (self.known(), Instant::now());
        let part = known.record(agent).and_then(|record| record.credentials.as_ref());
        let rejected = part.into_iter().flat_map(|part| part.rejected.iter());
        let live = rejected.filter(|rejected| rejected.until > now);
        let left = |rejected: &Rejected| rejected.until.saturating_duration_since(now);
        live.map(|it| (it.password.clone(), it.why.clone(), left(it))).collect()
    }

    /// Why this password must not be tried now, if that is known.
    pub(in crate::tenant) fn rejection(
        &self,
        agent: AgentId,
        password: &PasswordDigest,
    ) -> Option<Rejection> {
        let (known, now) = (self.known(), Instant::now());
        let part = known.record(agent)?.credentials.as_ref()?;
        let mut rejected = part.rejected.iter().filter(|rejected| rejected.until > now);
        rejected
            .find(|rejected| rejected.password == *password)
            .map(|rejected| rejected.why.clone())
    }
}

impl Known {
    /// Changes an agent's credentials and the totals with them.
    fn credentials<T>(
        &mut self,
        agent: AgentId,
        change: impl FnOnce(&mut CredentialPart) -> T,
    ) -> T {
        let Self { totals, .. } = self;
        let record = self.records.of_mut(agent).entry(agent).or_default();
        let part = record.credentials.get_or_insert_default();
        let before = part.counts();
        let changed = change(part);
        let after = part.counts();
        totals.held = totals.held + after.0 - before.0;
        totals.rejected = totals.rejected + after.1 - before.1;
        if after == (0, 0) {
            record.credentials = None;
        }
        self.tidy(agent);
        changed
    }

    /// Removes rejections that have ended. All last equally long, so the first in the queue end
    /// first.
    fn drop_old_rejections(&mut self, now: Instant) {
        while let Some((agent, ticket)) = self.rejections.pop() {
            match self.rejection_at(agent, ticket, now) {
                Found::Ended => drop(self.drop_rejection(agent, ticket)),
                Found::Stale => {}
                Found::Live => {
                    self.rejections.put_back(agent, ticket);
                    break;
                }
            }
        }
        // A client that tries many passwords for one agent leaves a stale entry for each.
        if self.rejections.len() > 2 * self.totals.rejected + STALE_MAX {
            let Self { rejections, records, .. } = self;
            rejections.retain(|agent, ticket| {
                let record = records.of(agent).get(&agent);
                let part = record.and_then(|record| record.credentials.as_ref());
                part.is_some_and(|part| part.rejected.iter().any(|known| known.ticket == ticket))
            });
        }
    }

    /// Removes the oldest rejection of all. Returns its agent if that has no other.
    fn drop_oldest_rejection(&mut self) -> Option<AgentId> {
        let before = self.totals.rejected;
        while let Some((agent, ticket)) = self.rejections.pop() {
            let is_last = self.drop_rejection(agent, ticket);
            if self.totals.rejected < before {
                return is_last.then_some(agent);
            }
        }
        None
    }

    /// Removes one rejection, if it is still there. Returns whether the agent has no other.
    fn drop_rejection(&mut self, agent: AgentId, ticket: Ticket) -> bool {
        self.credentials(agent, |part| {
            part.rejected.retain(|rejected| rejected.ticket != ticket);
            part.rejected.is_empty()
        })
    }

    fn rejection_at(&self, agent: AgentId, ticket: Ticket, now: Instant) -> Found {
        let part = self.record(agent).and_then(|record| record.credentials.as_ref());
        let mut rejected = part.into_iter().flat_map(|part| &part.rejected);
        match rejected.find(|rejected| rejected.ticket == ticket) {
            Some(rejected) if rejected.until > now => Found::Live,
            Some(_) => Found::Ended,
            None => Found::Stale,
        }
    }
}

// === impl CredentialPart ===

impl CredentialPart {
    /// How many passwords are held (0 or 1), and how many are rejected.
    fn counts(&self) -> (usize, usize) {
        (usize::from(self.held.is_some()), self.rejected.len())
    }
}

// === impl Rejection ===

impl Rejection {
    /// The rejection that follows from a failed sign-in; `None` if the same sign-in may work next
    /// time.
    pub(in crate::tenant) fn of(error: &CallError) -> Option<Self> {
        let refusal = error.refusal().filter(|_| error.is_credentials_rejected())?;
        Some(Self::Refused(refusal.clone()))
    }

    /// Whether the password is wrong. It may be right if the account is locked or the Guid is
    /// missing.
    pub(in crate::tenant) fn is_password_wrong(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retcode.kind() != Kind::AccountLocked,
            Self::WithoutGuid => false,
        }
    }
}

impl From<Rejection> for Obstacle {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Refused(refusal) => CallError::Refused(refusal).into(),
            Rejection::WithoutGuid => Self::SignInWithoutGuid,
        }
    }
}
