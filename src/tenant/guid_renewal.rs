//! Stores what a reply brings beside its answer: a renewed Guid, and cookies of a load balancer.

use tokio::time::Instant;
use tracing::{debug, warn};

use super::Tenant;
use crate::{
    gateway::Reply,
    id::AgentId,
    session::{Guid, Session, StoreError},
};

/// Keeps the cookies that a reply brings, and takes a Guid that renews this session's.
pub(super) fn take_renewals(session: &Session, reply: &mut Reply) -> Option<Guid> {
    reply.set_cookies(&session.cookies);
    reply.guid.take().filter(|guid| session.is_renewed_by(guid))
}

impl Tenant {
    /// Stores what a reply brings beside its answer: a renewed Guid, and cookies of a load
    /// balancer. A failure to store them does not change the answer.
    pub(super) async fn store_renewals(
        &self,
        agent: AgentId,
        session: &Session,
        reply: &mut Reply,
    ) {
        if let Some(guid) = take_renewals(session, reply) {
            self.renew_session(agent, session, guid).await;
        }
    }

    /// Stores a Guid with which the gateway has replaced this session's.
    pub(super) async fn renew_session(&self, agent: AgentId, session: &Session, guid: Guid) {
        // `None`: another answer was stored first, and its Guid is the newer one; or the session has ended meanwhile, by a
        // sign-out or by its time.
        let renewed = self.sessions.renew(agent, session, guid).await;
        if let Some(renewed) = self.note_unstored(agent, "a renewed Guid", renewed).flatten() {
            self.metrics.renewed();
            self.agents.guid_known(agent, Instant::now());
            let version = renewed.version;
            debug!(ccgw.tenant.id = %self.id, ccgw.agent.id = %agent, ccgw.guid_version = version, "the gateway renewed the Guid");
        }
    }

    /// Stores a session that the gateway has accepted once more, if that was not done for long.
    pub(super) async fn store_anew(&self, agent: AgentId, session: &Session) {
        if session.is_due_anew() {
            let stored = self.sessions.renew(agent, session, session.guid.clone()).await;
            self.note_unstored(agent, "that a session goes on", stored);
        }
    }

    /// Logs and counts a failure to store what the gateway has done. The call does not fail for it,
    /// since it was carried out.
    pub(super) fn note_unstored<T>(
        &self,
        agent: AgentId,
        what: &'static str,
        stored: Result<T, StoreError>,
    ) -> Option<T> {
        let error = match stored {
            Ok(stored) => return Some(stored),
            Err(error) => error,
        };
        self.metrics.unstored();
        warn!(ccgw.tenant.id = %self.id, ccgw.agent.id = %agent, %error, "the session store did not take {what}; the next call for the agent may need a new sign-in");
        None
    }
}
