//! The password that an agent was signed in with, and the rejected password that must not be tried
//! again.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{
    AgentRecords, Known,
    sweep::{Found, Ticket},
};
use crate::{
    call::{CallError, Obstacle, Refusal},
    gateway::SignIn,
    id::AgentId,
    retcode::Kind,
};

/// The part of a record that holds an agent's passwords.
#[derive(Debug, Default)]
pub(super) struct CredentialPart {
    /// Of the last sign-in that worked; held until the agent signs out.
    held: Option<Arc<SignIn>>,
    rejected: Option<Rejected>,
}

/// A sign-in that must not be repeated for a while.
#[derive(Debug)]
struct Rejected {
    password: SecretString,
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

/// How many stale entries the sweep may have on top of twice the number of rejections.
const STALE_MAX: usize = 64;

// === impl AgentRecords ===

impl AgentRecords {
    /// The sign-in that worked last.
    pub(in crate::tenant) fn held(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        self.look(agent, |record| record.credentials.as_ref()?.held.clone()).flatten()
    }

    /// Holds a sign-in that worked, if there is room, and forgets the agent's rejection.
    pub(in crate::tenant) fn hold(&self, agent: AgentId, sign_in: Arc<SignIn>) {
        let mut known = self.known();
        let has_room = known.totals.held < self.capacity.get();
        known.credentials(agent, |part| {
            part.rejected = None;
            if has_room || part.held.is_some() {
                part.held = Some(sign_in);
            }
        });
    }

    /// Forgets what an agent was signed in with.
    pub(in crate::tenant) fn forget_held(&self, agent: AgentId) {
        self.known().credentials(agent, |part| part.held = None);
    }

    /// Remembers until `until` that a sign-in must not be repeated. Returns `false` if there is no
    /// room.
    pub(in crate::tenant) fn reject(
        &self,
        agent: AgentId,
        sign_in: &SignIn,
        why: Rejection,
        until: Instant,
    ) -> bool {
        let mut known = self.known();
        known.drop_old_rejections(Instant::now());
        let ticket = known.rejections.add(agent);
        let has_room = known.totals.rejected < self.capacity.get();
        known.credentials(agent, |part| {
            let has_room = has_room || part.rejected.is_some();
            if has_room {
                let password = sign_in.password.clone();
                part.rejected = Some(Rejected { password, until, why, ticket });
            }
            has_room
        })
    }

    /// Why this sign-in must not be tried now, if that is known.
    pub(in crate::tenant) fn rejection(
        &self,
        agent: AgentId,
        sign_in: &SignIn,
    ) -> Option<Rejection> {
        let known = self.known();
        let part = known.records.get(&agent)?.credentials.as_ref()?;
        let rejected = part.rejected.as_ref().filter(|known| known.until > Instant::now())?;
        (rejected.password.expose_secret() == sign_in.password.expose_secret())
            .then(|| rejected.why.clone())
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
        let record = self.records.entry(agent).or_default();
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
                Found::Ended => self.credentials(agent, |part| part.rejected = None),
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
                let part = records.get(&agent).and_then(|record| record.credentials.as_ref());
                part.and_then(|part| part.rejected.as_ref()).is_some_and(|r| r.ticket == ticket)
            });
        }
    }

    fn rejection_at(&self, agent: AgentId, ticket: Ticket, now: Instant) -> Found {
        let record = self.records.get(&agent);
        let rejected = record.and_then(|record| record.credentials.as_ref()?.rejected.as_ref());
        match rejected.filter(|rejected| rejected.ticket == ticket) {
            Some(rejected) if rejected.until > now => Found::Live,
            Some(_) => Found::Ended,
            None => Found::Stale,
        }
    }
}

// === impl CredentialPart ===

impl CredentialPart {
    /// How many passwords are held (0 or 1), and how many are rejected (0 or 1).
    fn counts(&self) -> (usize, usize) {
        (usize::from(self.held.is_some()), usize::from(self.rejected.is_some()))
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
