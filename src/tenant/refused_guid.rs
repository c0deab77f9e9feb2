//! What a call does when the gateway refuses its agent's Guid (000-003, 100-006, and 105-005 to 105-007 after
//! a move to another site): it looks for a newer session in the store, or else signs the agent in, and sends
//! its command once more.

use std::sync::Arc;

use super::{Tenant, admitted_call::AdmittedCall, agents::Event, keeper::Parting, repeats::Repeat};
use crate::{
    call::{CallError, Obstacle, Stage, Untouched, Wait},
    gateway::{Command, Envelope},
    id::AgentId,
    retcode::Kind,
    session::{Origin, Session},
};

impl AdmittedCall {
    /// Sends a command, and repeats it once with a newer Guid if it is refused for its Guid.
    /// Notes the position in the tenant's events when the command was sent.
    pub(super) async fn command_once_or_twice(
        &mut self,
        command: &Command,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let session = self.traced_session(command.interface, &untouched).await;
        let session = untouched.check(session)?;
        self.note_sending(&session);
        let refused = match self.send(Stage::Answer, command, &session, untouched).await {
            Err(CallError::Refused(refusal)) if refusal.retcode.kind().blames_guid() => refusal,
            verdict => return verdict,
        };
        // A sign-in may follow, and what comes of it says nothing about the command.
        (self.sent, self.made) = (None, None);
        let untouched = Untouched::after(refused.clone());
        // After the agents were moved to another site, owners sign all their agents in again. If
        // the bridge were quicker, it would take the agent over from its owner. And where a standby site has refused the
        // Guid, or calls for some agents go to one, the first site may take it again, and nobody but the owner could hand
        // it in once more.
        let has_moved = refused.retcode.kind() == Kind::SessionMoved;
        let is_owners = (session.origin == Origin::Registered && has_moved)
            || self.tenant.may_be_good_elsewhere(&session, self.answered_by);
        let only_stored = command.interface.only_reads() || is_owners;
        let newer = Box::pin(self.newer_session(only_stored, session.version, &untouched)).await;
        match untouched.check(newer)? {
            Some(newer) if self.tenant.repeats.may(Repeat::Guid) => {
                self.note_sending(&newer);
                self.send(Stage::Answer, command, &newer, untouched).await
            }
            Some(_) | None => Err(CallError::Refused(refused)),
        }
    }

    fn note_sending(&mut self, session: &Session) {
        self.sent = Some(self.tenant.events.moment());
        self.made = Some(session.made);
    }

    /// Replaces a lost session: by a newer one that was stored meanwhile, or else by signing in.
    pub(super) async fn recover(
        mut self,
        lost: u64,
        untouched: Untouched,
    ) -> Result<Arc<Session>, CallError> {
        let stored = untouched.check(self.stored_since(lost, &untouched).await)?;
        let newer = match stored {
            Some(stored) => Some(stored),
            None => untouched.check(self.made_since(lost, &untouched).await)?,
        };
        newer.ok_or_else(|| untouched.because(Obstacle::SessionMissing))
    }

    /// A session newer than the version `refused`: one that is stored by now, or else, unless
    /// `only_stored`, one made by signing in.
    async fn newer_session(
        &mut self,
        only_stored: bool,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        if let Some(newer) = self.stored_since(refused, untouched).await? {
            return Ok(Some(newer));
        }
        self.end_if_signed_out(refused, untouched).await?;
        if only_stored { Ok(None) } else { self.made_since(refused, untouched).await }
    }

    /// A session that is made by signing in.
    async fn made_since(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        let made = self.sign_in_unasked(refused, untouched).await?;
        if made.is_none() {
            let (tenant, agent) = (self.tenant.clone(), self.agent);
            self.settle(async move { tenant.forget_refused(agent, refused).await }).await;
        }
        Ok(made)
    }

    pub(super) async fn stored_since(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        let stored = self.tenant.stored_since(self.agent, refused);
        self.caller_wait.before_sending(untouched, Wait::Store, stored).await
    }
}

impl Tenant {
    /// Whether a refusal by this address says nothing about the session: it is its owner's, and another site may take its Guid.
    pub(super) fn may_be_good_elsewhere(
        &self,
        session: &Session,
        answered_by: Option<usize>,
    ) -> bool {
        let knows_all = |address| self.gateway.knows_all_sessions(address);
        session.origin == Origin::Registered && !answered_by.is_some_and(knows_all)
    }

    /// The agent's newest session, if it is newer than the version `refused`.
    pub(super) async fn stored_since(&self, agent: AgentId, refused: u64) -> Option<Arc<Session>> {
        let stored = self.newest_session(agent).await;
        stored.filter(|stored| stored.version > refused)
    }

    async fn forget_refused(self: &Arc<Self>, agent: AgentId, version: u64) {
        let removed = self.sessions.remove(agent, version).await;
        self.note_unstored(agent, "that the gateway has forgotten it", removed);
        self.note(agent, Event::Forgotten);
        // The poll of its node does not look whether there still is a session.
        self.part(agent, Parting::default());
    }
}
