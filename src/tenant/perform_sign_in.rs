//! Signs an agent in, asked or not, as a part of a call that has the agent's turn.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    SignedIn, TakeOver, Tenant,
    admitted_call::AdmittedCall,
    agents::{Attempt, Event, Loss, Rejection},
    keeper::Parting,
    sign_in_across_replicas::Locked,
    sign_in_lock::SignInLock,
    single_poll::Finding,
};
use crate::{
    call::{CallError, CallerWait, Obstacle, Outcome, Share, Stage, Untouched, Wait},
    config::AuthMode,
    gateway::{
        Command, Envelope, FORCE_SIGN_IN, InitialState, Interface, Reply, SIGN_IN, SIGN_OUT,
        SignIn, reset_skill,
    },
    id::AgentId,
    retcode::Kind,
    session::{Cookies, Guid, NewSession, Origin, Reservation, Session, SessionState},
    state::AgentState,
};

/// The cause of the session's status after a failed sign-in.
pub(super) const SIGN_IN_FAILED: &str = "the sign-in failed";

impl AdmittedCall {
    /// The version of the agent's newest session here; 0 if there is none.
    fn version(&self) -> u64 {
        self.tenant.sessions.cached(self.agent).map_or(0, |session| session.version)
    }

    /// Waits for a place among the requests, after the call has released its own.
    pub(super) async fn take_place(
        &mut self,
        wait: Duration,
        untouched: &Untouched,
    ) -> Result<(), Obstacle> {
        let tenant = self.tenant.clone();
        let address = tenant.gateway.current(self.agent);
        let place = tenant.admission.request(address, self.patience(wait));
        self.request = Some(self.caller_wait.before_sending(untouched, Wait::Queue, place).await??);
        Ok(())
    }

    pub(super) async fn sign_in_in_turn(
        &mut self,
        sign_in: &Arc<SignIn>,
        untouched: Untouched,
    ) -> Result<SignedIn, CallError> {
        // No session is newer than `u64::MAX`, so the call always signs in: its caller asked for
        // that.
        let lock = self.sign_in_lock(u64::MAX, &untouched).await;
        if let Locked::Ours(lock) = untouched.check(lock)? {
            self.lock = Some(lock);
        }
        let made = self.make_session(sign_in, Stage::Answer, untouched).await;
        if made.is_err() {
            self.tenant.attempt_failed(self.agent, SIGN_IN_FAILED, 0);
        }
        self.lock = None;
        made
    }

    pub(super) async fn make_session(
        &mut self,
        sign_in: &Arc<SignIn>,
        stage: Stage,
        untouched: Untouched,
    ) -> Result<SignedIn, CallError> {
        let Tenant { id, sessions, .. } = &*self.tenant;
        // Before the gateway is asked: if the store had no room, the new session would be lost.
        let Some(room) = sessions.reserve(self.agent) else {
            let limit = self.tenant.config.limits.sessions;
            let share = Share::TenantSessions;
            return Err(untouched.because(Obstacle::Overloaded { share, limit }));
        };
        let rejection = self.tenant.credentials.rejection(self.agent, sign_in);
        let rejection = self.caller_wait.before_sending(&untouched, Wait::Store, rejection).await;
        match untouched.check(rejection)? {
            Ok(Some(error)) => return Err(untouched.because(error)),
            // Another replica may know that the gateway rejects this password. Only a caller may try it all the same.
            Err(error) if self.is_for_keeper => {
                return Err(untouched.because(self.tenant.store_failed(&error)));
            }
            Ok(None) | Err(_) => {}
        }
        debug!(ccgw.tenant.id = %id, ccgw.agent.id = %self.agent, "signing the agent in");
        self.tenant.note(self.agent, Event::Begun(Attempt::SignIn));
        let mut made = self.sign_in_once_or_twice(sign_in, stage, untouched, room).await?;
        if self.tenant.config.reset_skills_after_sign_in {
            made.skills = Some(self.reset_skills(&made.session).await);
        }
        Ok(made)
    }

    async fn sign_in_once_or_twice(
        &mut self,
        sign_in: &Arc<SignIn>,
        stage: Stage,
        untouched: Untouched,
        room: Reservation,
    ) -> Result<SignedIn, CallError> {
        // The caller's own request has not been sent, whatever the result of the sign-in is.
        let before = untouched.for_another();
        let known = self.version();
        let mut reply = self.ask_to_sign_in(&SIGN_IN, sign_in, stage, untouched).await?;
        let unasked = stage == Stage::SignIn;
        let elsewhere = reply.refusal(None).filter(|r| r.retcode.kind().is_signed_in_elsewhere());
        let may_force =
            elsewhere.as_ref().is_some_and(|r| r.retcode.kind() != Kind::ForceNotAllowed);
        let was_elsewhere = elsewhere.is_some();
        let again = elsewhere.map(Untouched::after);
        // Where the store does not say, force is used if the credentials allow it.
        let found = if was_elsewhere && unasked {
            before.check(self.is_a_replicas(&before).await)?
        } else {
            Some(false)
        };
        let is_a_replicas = found.unwrap_or(!sign_in.force);
        // An owner may have handed a session in while the gateway was asked.
        let is_owners = unasked && self.version() > known;
        // Other refusals do not say whether somebody has the agent.
        let is_clear = (was_elsewhere || reply.is_accepted()) && !is_owners;
        let taken = unasked && is_clear && found == Some(false) && self.note_attempt(was_elsewhere);
        let may_force = may_force && sign_in.force && !is_a_replicas && !is_owners;
        if let Some(untouched) = again.filter(|_| may_force) {
            reply = self.ask_to_sign_in(&FORCE_SIGN_IN, sign_in, stage, untouched).await?;
        }
        let signed_in = self.keep(reply, sign_in, stage, room).await;
        match &signed_in {
            Ok(_) if taken => self.tenant.metrics.sign_ins.take_over(TakeOver::TakenBack),
            Err(CallError::Refused(_)) if taken => {
                self.tenant.metrics.sign_ins.take_over(TakeOver::Refused);
            }
            // A caller who asks for a sign-in decides who uses the agent.
            Ok(_) if !unasked => self.tenant.agents.decided(self.agent),
            _ => {}
        }
        signed_in
    }

    /// Counts what an attempt to sign in has found. Returns whether another client had taken the
    /// agent from the bridge.
    fn note_attempt(&self, with_another: bool) -> bool {
        let attempted = Loss::Attempted { with_another, asked: self.call.is_some() };
        self.tenant.agents.lost(self.agent, attempted, Instant::now())
    }

    /// Answers a caller who has no time left, and goes on with the rest of the work.
    fn outlast_caller(&mut self, stage: Stage) {
        if self.caller_wait.may_start().is_err() {
            self.caller_wait.answer(CallError::Deadline(stage));
            self.caller_wait = CallerWait::of_bridge(self.tenant.work.cutoff.clone());
        }
    }

    /// Resets the agent's skill queues, without which the agent gets no calls.
    async fn reset_skills(&mut self, session: &Arc<Session>) -> Result<Envelope, CallError> {
        self.outlast_caller(Stage::SignIn);
        // A separate request: its result is a separate part of the answer.
        let untouched = Untouched::at_the_start();
        let verdict = self.send(Stage::SignIn, &reset_skill(), session, untouched).await;
        if let Err(error) = &verdict {
            let (tenant, agent) = (&self.tenant.id, self.agent);
            warn!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, %error, "skill queues were not reset; the agent may get no calls");
        }
        verdict
    }

    async fn ask_to_sign_in(
        &mut self,
        interface: &'static Interface,
        sign_in: &SignIn,
        stage: Stage,
        untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let body = Some(sign_in.to_body());
        let asked = self.ask(&Command::plain(interface), (None, body), stage, untouched).await;
        asked.inspect_err(|error| self.note_lost_guid(error))
    }

    /// Notes that a session may have been made whose Guid nobody knows.
    fn note_lost_guid(&self, error: &CallError) {
        let has_guids = self.tenant.config.auth_mode != AuthMode::None;
        if has_guids && error.outcome() == Outcome::Unknown {
            self.tenant.agents.lost(self.agent, Loss::Guid, Instant::now());
        }
    }

    /// Remembers that this sign-in must not be tried again for a while. Other replicas are kept from trying it until
    /// they can know that.
    async fn reject(&mut self, sign_in: &Arc<SignIn>, rejection: Rejection) {
        let (tenant, agent, sign_in) = (self.tenant.clone(), self.agent, sign_in.clone());
        let lock = self.lock.take();
        let rejecting = async move {
            tenant.credentials.reject(agent, &sign_in, rejection).await;
            lock
        };
        self.lock = self.settle(rejecting).await.flatten();
    }

    /// Stores the session that a sign-in made.
    async fn keep(
        &mut self,
        mut reply: Reply,
        sign_in: &Arc<SignIn>,
        stage: Stage,
        room: Reservation,
    ) -> Result<SignedIn, CallError> {
        let (guid, is_guid_bad) = (reply.guid.take(), reply.is_guid_bad);
        let cookies = Cookies::default();
        reply.set_cookies(&cookies);
        let verdict = reply.into_verdict(None);
        if let Some(rejection) = verdict.as_ref().err().and_then(Rejection::of) {
            self.reject(sign_in, rejection).await;
        }
        let envelope = verdict.inspect_err(|error| self.note_lost_guid(error))?;
        let guid = match guid {
            _ if self.tenant.config.auth_mode == AuthMode::None => {
                self.warn_of_guid(guid.is_some());
                Guid::absent()
            }
            Some(guid) => {
                self.tenant.agents.guid_known(self.agent, Instant::now());
                guid
            }
            None => {
                // Another sign-in would have the same result, and disturb the agent again.
                self.reject(sign_in, Rejection::WithoutGuid).await;
                let found = if is_guid_bad { "with an unusable Guid" } else { "without a Guid" };
                return Err(self.undo_sign_in(found, cookies, stage).await);
            }
        };
        let newest = self.tenant.events.newest();
        let made = NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies };
        let (tenant, agent, lock) = (self.tenant.clone(), self.agent, self.lock.take());
        let (session, password) = (made.clone(), sign_in.password.clone());
        let storing = async move {
            let stored = tenant.store_and_keep(agent, session, password, lock).await;
            drop(room);
            stored
        };
        let stored = self.settle(storing).await.flatten();
        // The agent is signed in, so this call can go on even if the store has not taken the
        // session.
        let session = stored.unwrap_or_else(|| Arc::new(Session::unstored(made)));
        self.learn_from_sign_in(sign_in, newest);
        Ok(SignedIn { envelope, session, skills: None })
    }

    fn learn_from_sign_in(&mut self, sign_in: &SignIn, newest: u64) {
        let state = match sign_in.initial_state {
            // An agent who was taken over may be in a call.
            _ if sign_in.force => None,
            None | Some(InitialState::Idle) => Some(AgentState::Idle),
            Some(InitialState::Busy) => Some(AgentState::Busy),
            Some(InitialState::AfterCallWork) => Some(AgentState::AfterCallWork),
        };
        self.learn(state, newest);
    }

    /// Tells that a gateway has Guids, although the configuration says that it has none.
    fn warn_of_guid(&self, has_guid: bool) {
        if has_guid {
            let (tenant, agent) = (&self.tenant.id, self.agent);
            warn!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, "a sign-in brought a Guid, which is not used, since auth_mode is \"none\"; if requests are refused with 000-003, set auth_mode to \"dynamic\"");
        }
    }

    /// Signs an agent out again if its sign-in brought no usable Guid: without one, nobody could
    /// act for the agent, or keep the session alive. `found` says what the sign-in brought. A load
    /// balancer needs the `cookies` of the sign-in to find the node that has the session.
    async fn undo_sign_in(
        &mut self,
        found: &'static str,
        cookies: Cookies,
        stage: Stage,
    ) -> CallError {
        self.outlast_caller(stage);
        let (guid, origin) = (Guid::absent(), Origin::SignedIn);
        let session = Session::unstored(NewSession { guid, origin, ttl: None, cookies });
        let (sign_out, untouched) = (Command::plain(&SIGN_OUT), Untouched::at_the_start());
        let asked = self.ask(&sign_out, (Some(&session), None), stage, untouched).await;
        let undone = match asked.and_then(|reply| reply.into_verdict(None)) {
            Ok(_) => "the agent was signed out again".into(),
            Err(error) => {
                // The session may go on, and nobody has its Guid.
                self.tenant.agents.lost(self.agent, Loss::Guid, Instant::now());
                if error.outcome() == Outcome::Unknown {
                    format!("whether the agent was signed out again is not known: {error}")
                } else {
                    format!("the agent could not be signed out again: {error}")
                }
            }
        };
        let (tenant, agent) = (&self.tenant.id, self.agent);
        warn!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, undone, "a sign-in was accepted {found}; it is not tried again for a while (keep.rejected_for)");
        CallError::BadReply(format!(
            "the sign-in was accepted {found} in its headers ({undone}); a proxy may have removed Set-GUID, \
             and a gateway without Guids needs auth_mode = \"none\""
        ))
    }
}

impl Tenant {
    /// Stores the session that a sign-in has made, and begins to keep it. `None`: the store has not
    /// taken it.
    async fn store_and_keep(
        self: Arc<Self>,
        agent: AgentId,
        made: NewSession,
        password: SecretString,
        lock: Option<SignInLock>,
    ) -> Option<Arc<Session>> {
        // Before the session is stored: whoever registers a Guid after that forgets the password.
        self.credentials.hold(agent, &password);
        let stored = self.store_made(agent, made, lock.as_ref()).await;
        let stored = self.note_unstored(agent, "the session of a sign-in", stored);
        let newest = stored.as_ref().filter(|stored| self.is_newest(agent, stored.version));
        if let Some(session) = newest {
            self.credentials.share(agent, &password, session).await;
        }
        let Some(session) = stored else {
            self.note(agent, Event::Unstored);
            // The poll of its node does not show that the gateway has replaced the former session.
            let suspicion = Some(Finding::GuidRefused);
            self.part(agent, Parting { suspicion, ..<_>::default() });
            return None;
        };
        self.begin_to_keep(agent).await;
        self.note(agent, Event::Done);
        self.sign_ins.settle(agent);
        let (version, node) = (session.version, session.guid.node());
        info!(ccgw.tenant.id = %self.id, ccgw.agent.id = %agent, ccgw.guid_version = version, ccgw.gateway.node = node, "signed the agent in");
        Some(session)
    }

    /// Notes that a sign-in or sign-out has failed. If a session newer than the version `refused`
    /// is known, its status stays.
    pub(super) fn attempt_failed(&self, agent: AgentId, cause: &'static str, refused: u64) {
        let known = self.sessions.cached(agent).filter(|session| session.version > refused);
        let otherwise = match known.map(|session| session.origin) {
            Some(Origin::Registered) => SessionState::Registered,
            Some(Origin::SignedIn) if self.is_kept_by_replicas() => SessionState::Kept,
            Some(Origin::SignedIn) | None => SessionState::Gone,
        };
        self.note(agent, Event::Failed { cause, otherwise });
    }
}
