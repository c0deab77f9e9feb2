//! Signs an agent out, as a call that has its agent's turn.

use super::{
    Tenant,
    admitted_call::AdmittedCall,
    agents::{Attempt, Event},
};
use crate::{
    call::{CallError, Obstacle, Untouched},
    gateway::{Command, Envelope, FORCE_SIGN_OUT, Interface, SIGN_OUT},
    id::AgentId,
};

impl AdmittedCall {
    pub(super) async fn sign_out(
        mut self,
        force: bool,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let interface = if force { &FORCE_SIGN_OUT } else { &SIGN_OUT };
        let verdict = self.end_session(interface, untouched).await;
        self.report(interface, &verdict);
        verdict
    }

    async fn end_session(
        &mut self,
        interface: &'static Interface,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let session = self.stored_session(&untouched).await.flatten();
        let session = session.and_then(|session| session.ok_or(Obstacle::SessionMissing));
        let session = untouched.check(session)?;
        self.tenant.note(self.agent, Event::Begun(Attempt::SignOut));
        let verdict = self.send(&Command::plain(interface), &session, untouched).await;
        let ended = match &verdict {
            Ok(_) => true,
            Err(error) => {
                error.refusal().is_some_and(|refusal| refusal.retcode.kind().is_without_session())
            }
        };
        if ended {
            let (tenant, agent) = (self.tenant.clone(), self.agent);
            self.settle(async move { tenant.forget_signed_out(agent, session.version).await })
                .await;
        } else {
            self.tenant.attempt_failed(self.agent, "still signed in", 0);
        }
        verdict
    }
}

impl Tenant {
    async fn forget_signed_out(&self, agent: AgentId, version: u64) {
        // What this process holds is changed at once, without waiting for the store.
        self.credentials.forget_here(agent);
        // Before the store is changed, so that the keeper does not ask for a sign-in when it finds
        // no session.
        self.note(agent, Event::SignedOut);
        self.agents.decided(agent);
        self.sign_ins.settle(agent);
        self.credentials.forget(agent).await;
        let told = self.sessions.sign_out(agent, version).await;
        self.note_unstored(agent, "that the agent is signed out", told);
    }
}
