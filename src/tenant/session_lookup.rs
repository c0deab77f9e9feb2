//! How an agent's session is found: in this process, or else in the store.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;
use tracing::debug;

use super::Tenant;
use crate::{
    call::{Deadline, Obstacle, Share, StoreTrouble, Wait},
    id::AgentId,
    session::{Scope, Session, StoreError},
};

/// How long after an outage of the store nearly always all replicas have found out that it answers, and have told it what
/// they did meanwhile.
const STORE_SETTLES: Duration = Duration::from_secs(5);
/// After a short outage it takes this much longer than the outage, with the attempt that somebody began just before its end:
/// whoever has something to tell tries again about once a second.
const SHORT_OUTAGE_SETTLES: Duration = Duration::from_secs(2);

impl Tenant {
    /// The agent's session, if there is one.
    ///
    /// # Errors
    ///
    /// [`Obstacle::StoreUnavailable`] if the store does not answer or refuses.
    pub async fn session(&self, agent: AgentId) -> Result<Option<Arc<Session>>, Obstacle> {
        if let Some(session) = self.sessions.cached(agent) {
            return Ok(Some(session));
        }
        self.sessions.load(agent).await.map_err(|e| self.store_failed(&e))
    }

    /// The agent's newest session. Reads the store, since another replica may have stored a newer
    /// session than this process knows. If the store does not answer, returns the session known
    /// here.
    pub(super) async fn newest_session(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.sessions.load(agent).await.unwrap_or_else(|_| self.sessions.cached(agent))
    }

    /// The agent's session, like [`Tenant::session`], but no later than the deadline.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Deadline`] at the deadline; otherwise as [`Tenant::session`].
    pub async fn session_by(
        &self,
        agent: AgentId,
        deadline: Deadline,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        let found = timeout_at(deadline.answer_by(), self.session(agent)).await;
        found.unwrap_or(Err(Obstacle::Deadline(Wait::Store)))
    }

    /// Whether this process knows of no newer session.
    pub(super) fn is_newest(&self, agent: AgentId, version: u64) -> bool {
        self.sessions.cached(agent).is_none_or(|known| known.version <= version)
    }

    /// How long it still takes until the other replicas have nearly certainly told the store what they did while it was away,
    /// such as signing agents out. Until then, only calls sign agents in; keepers wait.
    pub(super) fn store_settles_in(&self) -> Duration {
        let last = self.sessions.last_outage();
        last.map_or(Duration::ZERO, |last| {
            let settles = settles_after(last.length.saturating_add(last.attempt));
            settles.saturating_sub(last.until.elapsed())
        })
    }

    /// The obstacle that a failure of the store is.
    pub(super) fn store_failed(&self, error: &StoreError) -> Obstacle {
        match *error {
            StoreError::Full(limit) => Obstacle::Overloaded { share: Share::TenantSessions, limit },
            StoreError::Unavailable(_) | StoreError::Refused(_) => {
                debug!(ccgw.tenant.id = %self.id, %error, "the session store could not be asked");
                Obstacle::StoreUnavailable(trouble(error))
            }
        }
    }
}

/// How long after an outage of this length the others have told the store what they did meanwhile.
pub(in crate::tenant) fn settles_after(outage: Duration) -> Duration {
    STORE_SETTLES.min(SHORT_OUTAGE_SETTLES.saturating_add(outage))
}

/// The kind of store failure that callers are told.
pub(in crate::tenant) fn trouble(error: &StoreError) -> StoreTrouble {
    match error {
        StoreError::Refused(refusal) if refusal.scope == Scope::Writes => {
            StoreTrouble::RefusesWrites
        }
        StoreError::Refused(_) => StoreTrouble::RefusesReads,
        StoreError::Unavailable(_) | StoreError::Full(_) => StoreTrouble::Silent,
    }
}
