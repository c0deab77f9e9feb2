//! Signs an agent in whom nobody has asked to sign in, because a call needs a session, or a keeper has
//! lost one.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::{
    Tenant,
    admitted_call::AdmittedCall,
    agents::{Event, Pause},
    automatic_sign_ins::Moment,
    perform_sign_in::SIGN_IN_FAILED,
    sign_in_across_replicas::Locked,
};
use crate::{
    call::{CallError, Obstacle, Refusal, Stage, StoreTrouble, Untouched, Wait},
    gateway::SignIn,
    id::AgentId,
    session::Session,
};

impl AdmittedCall {
    /// Makes an automatic sign-in, unless another replica makes a session meanwhile that is newer
    /// than the version `refused`. `None`: there are no credentials.
    pub(super) async fn sign_in_unasked(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        if let Some(failure) = self.turn.shared_failure(self.arrived) {
            return Err(failure);
        }
        let (usable, silence) = self.usable_credentials(untouched).await?;
        let Some(sign_in) = usable else { return silence.map_or(Ok(None), Err) };
        // No request is open while the call waits in the queue. After a restart of the gateway all
        // of its agents wait here, and calls for agents who are back already need places.
        self.request = None;
        let grant = match self.sign_in_moment(refused, untouched).await? {
            Moment::Ours(grant) => grant,
            Moment::Newer(session) => {
                self.tenant.agents.guid_known(self.agent, Instant::now());
                self.take_place(self.wait, untouched).await?;
                return Ok(Some(session));
            }
        };
        // No caller waits for the agent's lost session, or has asked for it lately.
        self.is_for_keeper = self.call.is_none() && refused > 0 && !grant.is_for_caller();
        // If the caller leaves now, the sign-in must go on: the agent's moment must not be wasted.
        self.caller_wait.commit(true);
        let made = match silence {
            Some(silence) if self.is_for_keeper => Err(silence),
            _ => self.sign_in_granted(&sign_in, refused, untouched).await,
        };
        self.caller_wait.commit(false);
        grant.finish(&made);
        if let Err(error) = &made
            && counts_for_others(error, self.is_for_keeper)
        {
            self.turn.share_failure(error.clone());
        }
        let session = made?;
        if self.request.is_none() {
            self.take_place(self.wait, untouched).await?;
        }
        Ok(Some(session))
    }

    async fn sign_in_granted(
        &mut self,
        sign_in: &Arc<SignIn>,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Arc<Session>, Obstacle> {
        // Another replica that has the lock may need this long for its own sign-in.
        let longest = self.tenant.sign_in_max();
        let lock = timeout(longest, self.sign_in_lock(refused, untouched)).await;
        let lock = lock.map_err(|_elapsed| Obstacle::Deadline(Wait::Queue))??;
        self.lock = match lock {
            Locked::Newer(session) => return Ok(session),
            // The store was away until a moment ago, so another replica's sign-out may not be stored yet.
            Locked::Ours(_) if self.is_for_keeper && !self.tenant.store_settles_in().is_zero() => {
                return Err(Obstacle::StoreUnavailable(StoreTrouble::Silent));
            }
            Locked::Ours(lock) => Some(lock),
            // Another replica may have signed the agent out, and no caller wants it back.
            Locked::Unknown(error) if self.is_for_keeper => {
                return Err(self.tenant.store_failed(&error));
            }
            // For a caller without a lock: two sign-ins are harmless, but none is not.
            Locked::Alone | Locked::Unknown(_) => None,
        };
        let sign_in = &self.sign_in_by_now(sign_in, refused, untouched).await?;
        self.take_place(longest, untouched).await?;
        // That may have taken long, and an owner may have handed a session in meanwhile.
        let newer = self.tenant.sessions.cached(self.agent);
        if let Some(newer) = newer.filter(|newer| newer.version > refused) {
            self.lock = None;
            return Ok(newer);
        }
        self.make_or_await_session(sign_in, refused, untouched).await
    }

    /// The sign-in to make now that the agent's moment has come. Meanwhile the agent may have been signed
    /// out, also at another replica: then nobody signs it in but a caller, and not with what was given
    /// before.
    async fn sign_in_by_now(
        &mut self,
        sign_in: &Arc<SignIn>,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Arc<SignIn>, Obstacle> {
        let has_ended = refused > 0 && matches!(self.stored_session(untouched).await?, Ok(None));
        let is_unasked = self.call.is_none() && refused > 0;
        if is_unasked && (has_ended || self.may_be_signed_out().await?) {
            return Err(Obstacle::SessionMissing);
        }
        if !has_ended {
            return Ok(sign_in.clone());
        }
        let (usable, silence) = self.usable_credentials(untouched).await?;
        usable.ok_or(silence.unwrap_or(Obstacle::SessionMissing))
    }

    /// The credentials for the sign-in, if there are any. Where the store does not say, those that this replica knows, and
    /// what is in the way of knowing more: two sign-ins are harmless for a caller, but none is not.
    async fn usable_credentials(
        &mut self,
        untouched: &Untouched,
    ) -> Result<(Option<Arc<SignIn>>, Option<Obstacle>), Obstacle> {
        let usable = self.tenant.usable_credentials(self.agent);
        match self.caller_wait.before_sending(untouched, Wait::Store, usable).await? {
            Err(silence @ Obstacle::StoreUnavailable(_)) => {
                Ok((self.tenant.usable_credentials_here(self.agent)?, Some(silence)))
            }
            usable => Ok((usable?, None)),
        }
    }

    /// Whether a sign-out may have ended the session whose answer was lost. An error: the store does not say, and no
    /// caller wants the agent back.
    async fn may_be_signed_out(&self) -> Result<bool, Obstacle> {
        let Some(session) = self.tenant.sessions.cached(self.agent) else { return Ok(false) };
        match self.tenant.unclear_sign_out(self.agent, session.made).await {
            Err(error) if self.is_for_keeper => Err(self.tenant.store_failed(&error)),
            asked => Ok(matches!(asked, Ok(Some(_)))),
        }
    }

    async fn make_or_await_session(
        &mut self,
        sign_in: &Arc<SignIn>,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Arc<Session>, Obstacle> {
        let made = match self.make_session(sign_in, Stage::SignIn, untouched.for_another()).await {
            Err(CallError::Refused(refusal)) => {
                let newer = self.tenant.sessions.cached(self.agent);
                match newer.filter(|newer| newer.version > refused) {
                    Some(newer) => Ok(newer),
                    None => self.session_of_others(refusal, refused).await,
                }
            }
            made => made.map(|signed_in| signed_in.session).map_err(Obstacle::from),
        };
        self.lock = None;
        match &made {
            // Version 0: the store has not taken it yet. The task that stores it notes the event.
            Ok(session) if session.version == 0 => {}
            Ok(_) => {
                self.tenant.agents.guid_known(self.agent, Instant::now());
                self.tenant.note(self.agent, Event::Overtaken);
            }
            Err(_) => self.tenant.attempt_failed(self.agent, SIGN_IN_FAILED, refused),
        }
        made
    }

    /// The session that another replica has made instead of this one, whose sign-in was refused.
    async fn session_of_others(
        &mut self,
        refusal: Refusal,
        refused: u64,
    ) -> Result<Arc<Session>, Obstacle> {
        match self.made_elsewhere(&refusal, refused).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => Err(self.signed_in_elsewhere(refusal)),
            Err(error) => Err(self.tenant.store_failed(&error)),
        }
    }

    /// What follows for the call from an automatic sign-in that was refused.
    fn signed_in_elsewhere(&self, refusal: Refusal) -> Obstacle {
        match self.tenant.agents.pause(self.agent, Instant::now()) {
            Some(Pause::Guidless(retry_in)) if refusal.retcode.kind().is_signed_in_elsewhere() => {
                Obstacle::GuidLost { retry_in }
            }
            _ => CallError::Refused(refusal).into(),
        }
    }
}

impl Tenant {
    /// The credentials for an automatic sign-in; `None` if there are none. An error: they must not
    /// be used now, or the store does not say.
    pub(super) async fn usable_credentials(
        &self,
        agent: AgentId,
    ) -> Result<Option<Arc<SignIn>>, Obstacle> {
        let found = if self.sessions.is_let_go(agent) {
            self.credentials.forget_here(agent);
            self.credentials.find_configured(agent)
        } else {
            self.credentials.find(agent).await.map_err(|error| self.store_failed(&error))?
        };
        let Some(sign_in) = found else { return Ok(None) };
        let rejection = self.credentials.rejection(agent, &sign_in).await;
        self.unless_held_back(agent, sign_in, rejection.map_err(|error| self.store_failed(&error))?)
    }

    /// The same, by what this replica knows.
    fn usable_credentials_here(&self, agent: AgentId) -> Result<Option<Arc<SignIn>>, Obstacle> {
        let found = if self.sessions.is_let_go(agent) {
            self.credentials.find_configured(agent)
        } else {
            self.credentials.find_here(agent)
        };
        let Some(sign_in) = found else { return Ok(None) };
        let rejection = self.credentials.rejection_here(agent, &sign_in);
        self.unless_held_back(agent, sign_in, rejection)
    }

    fn unless_held_back(
        &self,
        agent: AgentId,
        sign_in: Arc<SignIn>,
        rejection: Option<Obstacle>,
    ) -> Result<Option<Arc<SignIn>>, Obstacle> {
        if let Some(error) = rejection {
            return Err(error);
        }
        match self.agents.pause(agent, Instant::now()) {
            Some(Pause::Another(retry_in)) => Err(Obstacle::TakenOver { retry_in }),
            Some(Pause::Guidless(retry_in)) => Err(Obstacle::GuidLost { retry_in }),
            None => Ok(Some(sign_in)),
        }
    }
}

/// Whether a failed sign-in has failed for the calls too that have waited for it.
fn counts_for_others(error: &Obstacle, is_for_keeper: bool) -> bool {
    match error {
        Obstacle::ShuttingDown | Obstacle::SessionMissing => false,
        // They may sign in where a keeper may not.
        Obstacle::StoreUnavailable(_) => !is_for_keeper,
        _ => true,
    }
}
