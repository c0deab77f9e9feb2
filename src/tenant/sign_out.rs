//! Signs an agent out, as a call that has its agent's turn.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::{
    Tenant,
    admitted_call::AdmittedCall,
    agents::{Attempt, Event, GUIDLESS_MAX, Loss},
    contested_poll::CROSSING,
    repeats::Repeat,
    request_ids::{Claim, Did, Made},
    sign_in_across_replicas::Locked,
    single_poll::Finding,
};
use crate::{
    call::{CallError, Obstacle, Outcome, Stage, Untouched, Wait},
    config::AuthMode,
    gateway::{Command, Envelope, Interface},
    id::AgentId,
    retcode::Kind,
    session::{EndOf, Origin, Session, StoreError},
};

/// How often the end of a session is tried while others renew it.
const END_ATTEMPTS: usize = 8;

impl AdmittedCall {
    pub(super) async fn sign_out(
        mut self,
        interface: &'static Interface,
        untouched: Untouched,
        claim: Option<Claim>,
    ) -> Result<Envelope, CallError> {
        let claim = claim.map(Claim::under_way);
        let verdict = self.end_session(interface, untouched).await;
        self.report(interface, claim.as_ref().map(Claim::id), &verdict);
        if let Some(claim) = claim {
            let made = |envelope| Made { did: Did::SignedOut(envelope), after: None };
            claim.end(verdict.clone().map(made));
        }
        verdict
    }

    async fn end_session(
        &mut self,
        interface: &'static Interface,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let session = self.session_to_end(&untouched).await;
        let session = untouched.check(session)?;
        self.tenant.note(self.agent, Event::Begun(Attempt::SignOut));
        let (session, verdict) = self.sign_out_once_or_twice(interface, session, untouched).await;
        let (tenant, agent, lock) = (self.tenant.clone(), self.agent, self.lock.take());
        let is_of_another_site =
            verdict.is_err() && tenant.may_be_good_elsewhere(&session, self.answered_by);
        if let Some(what) = what_ended(&verdict).filter(|_| !is_of_another_site) {
            let forgetting = async move {
                tenant.forget_signed_out(agent, &session, what).await;
                drop(lock);
                // Its keeper was stopped. The agent is still signed in if the newer Guid is good.
                let renewed = tenant.renewed_since(agent, &session);
                if renewed.is_some_and(|renewed| renewed.origin == Origin::SignedIn) {
                    tenant.keep_again(agent);
                }
            };
            self.settle(forgetting).await;
        } else if verdict.as_ref().is_err_and(|error| error.outcome() == Outcome::Unknown) {
            tenant.agents.lost(agent, Loss::SignOut { made: session.made }, Instant::now());
            let finding_out = async move {
                // While this replica has the lock: another one's keeper that finds the agent signed out waits for it.
                tenant.credentials.note_sign_out(agent, session.made).await;
                tenant.find_out_whether_signed_out(agent, &session).await;
                drop(lock);
            };
            // The caller does not wait for it, but the agent's next call and its keeper do.
            let finding_out = self.tenant.work.tasks.spawn(finding_out);
            self.turn.hold_for_change(finding_out);
        } else {
            let cause = match what_ended(&verdict) {
                Some(_) => "another site refused; whether it is signed out is not known",
                None => "still signed in",
            };
            tenant.attempt_failed(agent, cause, 0);
        }
        verdict
    }

    /// Signs out with this session, or with a newer version of it if its Guid is refused. Returns the one that was asked
    /// with last.
    async fn sign_out_once_or_twice(
        &mut self,
        interface: &'static Interface,
        session: Arc<Session>,
        untouched: Untouched,
    ) -> (Arc<Session>, Result<Envelope, CallError>) {
        let verdict = self.ask_to_sign_out(interface, &session, untouched).await;
        let refusal = verdict.as_ref().err().and_then(CallError::refusal);
        let refused = refusal.filter(|_| what_ended(&verdict) == Some(EndOf::Version)).cloned();
        let Some(refused) = refused else { return (session, verdict) };
        let untouched = Untouched::after(refused);
        let Some(newer) = self.renewed(&session, &untouched).await else {
            return (session, verdict);
        };
        let has_place =
            self.request.is_some() || self.take_place(self.wait, &untouched).await.is_ok();
        if !has_place || !self.tenant.repeats.may(Repeat::Guid) {
            return (session, verdict);
        }
        let verdict = self.ask_to_sign_out(interface, &newer, untouched).await;
        (newer, verdict)
    }

    /// A newer version of this session, whose Guid was refused. A poll may have brought it, here or at another replica,
    /// and it may take a moment to be stored.
    async fn renewed(&mut self, session: &Session, untouched: &Untouched) -> Option<Arc<Session>> {
        let newer = self.stored_since(session.version, untouched).await.ok()?;
        // At a drain, when nobody has asked for it, all agents are signed out at once.
        let may_come = self.tenant.config.auth_mode == AuthMode::Dynamic && self.call.is_some();
        let newer = match newer {
            None if may_come => {
                // No request is open meanwhile.
                self.request = None;
                let crossing = sleep(CROSSING);
                self.caller_wait.before_sending(untouched, Wait::Store, crossing).await.ok()?;
                self.stored_since(session.version, untouched).await.ok()?
            }
            newer => newer,
        };
        newer.filter(|newer| newer.made == session.made)
    }

    /// Ends the session of this version, which the gateway has refused, if that is what came of a sign-out whose answer was
    /// lost.
    pub(super) async fn end_if_signed_out(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<(), Obstacle> {
        let (tenant, agent) = (self.tenant.clone(), self.agent);
        let refused = |session: &Arc<Session>| session.version == refused;
        let Some(session) = tenant.sessions.cached(agent).filter(refused) else { return Ok(()) };
        if tenant.may_be_good_elsewhere(&session, self.answered_by) {
            return Ok(());
        }
        // Where another replica polls, this one does not hear that the session goes on. So a lost answer counts here for a time
        // only, after which a session that nobody uses has ended anyway.
        let counts =
            |asked: Instant| tenant.is_sole_keeper(agent) || asked.elapsed() < GUIDLESS_MAX;
        let asked = tenant.unclear_sign_out(agent, session.made);
        let asked = self.caller_wait.before_sending(untouched, Wait::Store, asked).await?;
        // Where the store does not say, the session stays: this call has no proof that it has ended.
        if matches!(asked, Ok(Some(asked)) if counts(asked)) {
            let forgetting =
                async move { tenant.forget_signed_out(agent, &session, EndOf::Version).await };
            self.settle(forgetting).await;
        }
        Ok(())
    }

    /// The agent's session. Takes the sign-in lock until the end is stored: another replica's keeper may find
    /// the agent signed out before it hears that this was asked for.
    async fn session_to_end(&mut self, untouched: &Untouched) -> Result<Arc<Session>, Obstacle> {
        let known = self.stored_session(untouched).await?;
        let mut session = known?.ok_or(Obstacle::SessionMissing)?;
        // No session is newer than `u64::MAX`, so nothing is waited for but the lock.
        if let Locked::Ours(lock) = self.sign_in_lock(u64::MAX, untouched).await? {
            let stored = lock.claim.replaces;
            self.lock = Some(lock);
            if stored > session.version {
                let newer = self.stored_since(session.version, untouched).await?;
                session = newer.unwrap_or(session);
            }
        }
        Ok(session)
    }

    /// Sends the sign-out. A Guid that its answer brings is stored only if the session goes on.
    async fn ask_to_sign_out(
        &mut self,
        interface: &'static Interface,
        session: &Arc<Session>,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let command = Command::plain(interface);
        let asked = self.ask(&command, (Some(session), None), Stage::Answer, untouched).await;
        let mut reply = asked?;
        self.answered_by = reply.answered_by;
        reply.set_cookies(&session.cookies);
        let guid = reply.guid.take();
        let verdict = reply.into_verdict(session.guid.node());
        if let Some(guid) = guid.filter(|_| !has_ended(&verdict)) {
            self.store_guid(session, guid).await;
        }
        verdict
    }
}

/// Whether the agent is signed out by now.
pub(super) fn has_ended(verdict: &Result<Envelope, CallError>) -> bool {
    what_ended(verdict).is_some()
}

/// What has ended, by the answer to a sign-out; `None`: nothing, as far as is known. Most refusals are about the Guid that
/// was sent: where another replica, or a poll, has got a newer one, the agent may still be signed in.
fn what_ended(verdict: &Result<Envelope, CallError>) -> Option<EndOf> {
    let Err(error) = verdict else { return Some(EndOf::Session) };
    match error.refusal()?.retcode.kind() {
        Kind::AgentSignedOut => Some(EndOf::Session),
        kind => kind.is_without_session().then_some(EndOf::Version),
    }
}

impl Tenant {
    /// When the answer to a sign-out was lost that may have ended the session which was `made` with this version, here, at
    /// another replica, or in the process before this one.
    ///
    /// # Errors
    ///
    /// The store does not say what others know.
    pub(super) async fn unclear_sign_out(
        &self,
        agent: AgentId,
        made: u64,
    ) -> Result<Option<Instant>, StoreError> {
        if let Some(asked) = self.agents.unclear_sign_out(agent, made) {
            return Ok(Some(asked));
        }
        let age = self.credentials.noted_sign_out(agent, made).await?;
        let asked = age.and_then(|age| Instant::now().checked_sub(age));
        let asked = asked.filter(|asked| !self.agents.was_good_since(agent, *asked));
        if let Some(asked) = asked {
            self.agents.lost(agent, Loss::SignOut { made }, asked);
        }
        Ok(asked)
    }

    /// Asks the gateway whether the agent is signed out, after the answer to a sign-out was lost. That the agent is still
    /// signed in proves nothing yet: the gateway may carry the sign-out out later.
    async fn find_out_whether_signed_out(&self, agent: AgentId, session: &Arc<Session>) {
        let mut judged = session.clone();
        for _ in 0..END_ATTEMPTS {
            let found = self.check_session(agent, &judged).await;
            if !matches!(found, Some(Finding::SignedOut | Finding::GuidRefused)) {
                break;
            }
            // The refusal may be about the Guid alone, if there is a newer one.
            match self.renewed_since(agent, &judged) {
                Some(renewed) => judged = renewed,
                None => return self.forget_signed_out(agent, &judged, EndOf::Version).await,
            }
        }
        self.attempt_failed(agent, "whether it is signed out is not known", 0);
    }

    /// Ends an agent's session, or this version of it, and forgets the password that was held for it.
    pub(super) async fn forget_signed_out(&self, agent: AgentId, session: &Session, what: EndOf) {
        // What this process holds is changed at once, without waiting for the store.
        self.credentials.forget_here(agent);
        // Before the store is changed, so that the keeper does not ask for a sign-in when it finds
        // no session.
        self.note(agent, Event::SignedOut);
        self.agents.decided_to_sign_out(agent, Instant::now());
        self.sign_ins.withdraw(agent);
        self.credentials.forget(agent).await;
        let told = self.end_newest(agent, session, what).await;
        // Until now another keeper may have found the session, and had to know of the sign-out. Whoever finds a newer version
        // has to know of it still.
        if self.renewed_since(agent, session).is_none() {
            self.agents.sign_out_stored(agent, session.made);
        }
        self.note_unstored(agent, "that the agent is signed out", told);
    }

    /// Ends a session, or this version of it. The session ends also if a poll has renewed it while the agent was signed
    /// out. One that was made or registered meanwhile stays.
    async fn end_newest(
        &self,
        agent: AgentId,
        session: &Session,
        what: EndOf,
    ) -> Result<(), StoreError> {
        self.sessions.sign_out(agent, session, what).await?;
        for _ in 0..END_ATTEMPTS {
            let renewed = self.renewed_since(agent, session).filter(|_| what == EndOf::Session);
            let Some(renewed) = renewed else { return Ok(()) };
            self.sessions.sign_out(agent, &renewed, what).await?;
        }
        Err(StoreError::Unavailable("this session is renewed again and again".into()))
    }

    /// The newest version of the agent's session that is known here, if it is newer than this one of the same session.
    fn renewed_since(&self, agent: AgentId, session: &Session) -> Option<Arc<Session>> {
        let newest = self.sessions.cached(agent)?;
        (newest.version > session.version && newest.made == session.made).then_some(newest)
    }
}
