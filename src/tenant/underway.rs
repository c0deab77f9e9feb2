//! A call that has its agent's turn: from the agent's Guid to the gateway's verdict.
//!
//! All of this runs detached from the caller. The turn and the places are held until the gateway
//! has answered, whether or not anybody still waits, so the agent's next call finds it settled.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    SignedIn, Tenant,
    admission::{CallPlace, RequestPlace},
    turns::Turn,
};
use crate::{
    call::{CallError, Patience, Share, Stage},
    gateway::{
        Command, Envelope, FORCE_SIGN_IN, FORCE_SIGN_OUT, Interface, Reply, Request, SIGN_IN,
        SIGN_OUT, SignIn,
    },
    id::AgentId,
    retcode::Kind,
    session::{Cookies, NewSession, Origin, Session},
};

/// A call with all that it holds.
pub(super) struct Underway {
    pub(super) tenant: Arc<Tenant>,
    pub(super) agent: AgentId,
    pub(super) arrived: Instant,
    pub(super) patience: Patience,
    pub(super) turn: Turn,
    pub(super) _held: (CallPlace, RequestPlace),
}

impl Underway {
    pub(super) async fn command(mut self, command: Command) -> Result<Envelope, CallError> {
        let verdict = self.command_once_or_twice(&command).await;
        self.report(command.interface, &verdict);
        verdict
    }

    pub(super) async fn sign_in(mut self, sign_in: SignIn) -> Result<SignedIn, CallError> {
        let verdict = self.make_session(&Arc::new(sign_in), Stage::Answer).await;
        self.report(&SIGN_IN, &verdict);
        verdict
    }

    pub(super) async fn sign_out(mut self, force: bool) -> Result<Envelope, CallError> {
        let interface = if force { &FORCE_SIGN_OUT } else { &SIGN_OUT };
        let verdict = self.end_session(interface).await;
        self.report(interface, &verdict);
        verdict
    }

    /// A session in the place of the lost one, stored meanwhile or made now.
    pub(super) async fn recover(mut self, lost: u64) -> Result<Arc<Session>, CallError> {
        self.newer_session(lost).await?.ok_or(CallError::SessionMissing)
    }

    async fn command_once_or_twice(&mut self, command: &Command) -> Result<Envelope, CallError> {
        let session = self.session().await?;
        let refused = match self.send(command, &session).await {
            Err(CallError::Refused(refusal)) if refusal.retcode.blames_guid() => refusal,
            verdict => return verdict,
        };
        match self.newer_session(session.version).await? {
            Some(newer) => self.send(command, &newer).await,
            None => Err(CallError::Refused(refused)),
        }
    }

    async fn end_session(&mut self, interface: &'static Interface) -> Result<Envelope, CallError> {
        let session = self.tenant.session(self.agent).await?.ok_or(CallError::SessionMissing)?;
        let command = Command { interface, query: String::new() };
        let verdict = self.send(&command, &session).await;
        let ended = match &verdict {
            Ok(_) => true,
            Err(error) => error.refusal().is_some_and(|refusal| {
                matches!(refusal.retcode.kind(), Kind::AgentNotSignedIn | Kind::SessionExpired)
            }),
        };
        if ended {
            self.tenant.credentials.forget(self.agent);
            self.tenant.keepers.stop(self.agent);
            self.forget(session.version).await?;
        }
        verdict
    }

    /// The agent's session; signs the agent in where there is none and the bridge can.
    async fn session(&mut self) -> Result<Arc<Session>, CallError> {
        if let Some(session) = self.tenant.session(self.agent).await? {
            return Ok(session);
        }
        self.sign_in_unasked().await?.ok_or(CallError::SessionMissing)
    }

    /// A session that may work where `refused` did not: one that was stored meanwhile, else one
    /// made by signing in.
    async fn newer_session(&mut self, refused: u64) -> Result<Option<Arc<Session>>, CallError> {
        let stored = self.tenant.session(self.agent).await?;
        if let Some(newer) = stored.filter(|stored| stored.version > refused) {
            return Ok(Some(newer));
        }
        self.forget(refused).await?;
        self.sign_in_unasked().await
    }

    async fn sign_in_unasked(&mut self) -> Result<Option<Arc<Session>>, CallError> {
        if let Some(failure) = self.turn.shared_failure(self.arrived) {
            return Err(failure);
        }
        let Some(sign_in) = self.tenant.credentials.sign_in(self.agent) else {
            return Ok(None);
        };
        let tenant = self.tenant.clone();
        tokio::select! {
            biased;
            () = tenant.pacer.moment() => {}
            loss = self.patience.lost() => return Err(loss.before_sending()),
        }
        match self.make_session(&sign_in, Stage::SignIn).await {
            Ok(signed_in) => Ok(Some(signed_in.session)),
            Err(error) => {
                // What only this caller's patience decided says nothing to the others.
                if !matches!(error, CallError::Deadline(_) | CallError::ShuttingDown) {
                    self.turn.share_failure(error.clone());
                }
                Err(error)
            }
        }
    }

    async fn make_session(
        &mut self,
        sign_in: &Arc<SignIn>,
        stage: Stage,
    ) -> Result<SignedIn, CallError> {
        let Tenant { id, sessions, .. } = &*self.tenant;
        if !sessions.has_room(self.agent) {
            let limit = self.tenant.config.limits.sessions;
            return Err(CallError::Overloaded { share: Share::TenantSessions, limit });
        }
        if let Some(error) = self.tenant.credentials.rejection(self.agent, sign_in) {
            return Err(error);
        }
        debug!(tenant.id = %id, agent.id = %self.agent, "signing the agent in");
        let mut reply = self.ask_to_sign_in(&SIGN_IN, sign_in, stage).await?;
        if sign_in.force && is_signed_in_elsewhere(&reply) {
            reply = self.ask_to_sign_in(&FORCE_SIGN_IN, sign_in, stage).await?;
        }
        self.keep(reply, sign_in).await
    }

    async fn ask_to_sign_in(
        &mut self,
        interface: &'static Interface,
        sign_in: &SignIn,
        stage: Stage,
    ) -> Result<Reply, CallError> {
        let command = Command { interface, query: String::new() };
        let body = Some(sign_in.to_body());
        let request = Request { command: &command, agent: self.agent, session: None, body };
        self.tenant.gateway.exchange(&request, stage, &mut self.patience).await
    }

    /// Stores the session that a sign-in made.
    async fn keep(&self, mut reply: Reply, sign_in: &Arc<SignIn>) -> Result<SignedIn, CallError> {
        let guid = reply.guid.take();
        let cookies = Arc::new(Cookies::default());
        reply.set_cookies(&cookies);
        let envelope = reply.into_verdict(None).inspect_err(|error| {
            if error.is_credentials_rejected() {
                self.tenant.credentials.reject(self.agent, sign_in, error);
            }
        })?;
        let guid = guid.ok_or_else(|| {
            CallError::BadReply("the sign-in was accepted, but there is no Guid in its head".into())
        })?;
        let session = NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies };
        let stored = self.tenant.sessions.put(self.agent, session).await;
        let session = stored.map_err(|e| self.tenant.store_failed(&e))?;
        self.tenant.credentials.hold(self.agent, sign_in.clone());
        self.tenant.keepers.start(&self.tenant, self.agent);
        info!(
            tenant.id = %self.tenant.id, agent.id = %self.agent, session.version = session.version,
            gateway.node = session.guid.node(), "signed the agent in",
        );
        Ok(SignedIn { envelope, session })
    }

    async fn send(&mut self, command: &Command, session: &Session) -> Result<Envelope, CallError> {
        let Self { tenant, agent, patience, .. } = self;
        let request = Request { command, agent: *agent, session: Some(session), body: None };
        let mut reply = tenant.gateway.exchange(&request, Stage::Answer, patience).await?;
        tenant.absorb(*agent, session, &mut reply).await?;
        reply.into_verdict(session.guid.node())
    }

    async fn forget(&self, version: u64) -> Result<(), CallError> {
        let removed = self.tenant.sessions.remove(self.agent, version).await;
        removed.map_err(|e| self.tenant.store_failed(&e))
    }

    /// Says in the log what became of a call whose caller was not there to hear it.
    fn report<T>(&self, interface: &Interface, verdict: &Result<T, CallError>) {
        if self.patience.is_awaited() {
            return;
        }
        let (tenant, agent, interface) = (&self.tenant.id, self.agent, interface.log_name);
        match verdict {
            Ok(_) => {
                info!(tenant.id = %tenant, agent.id = %agent, interface, "accepted after its caller had left");
            }
            Err(error) => {
                let outcome = error.outcome().as_str();
                warn!(tenant.id = %tenant, agent.id = %agent, interface, outcome, %error, "failed after its caller had left");
            }
        }
    }
}

fn is_signed_in_elsewhere(reply: &Reply) -> bool {
    // Not 100-015, which says that this gateway allows no forcible sign-in.
    reply.envelope.as_ref().is_ok_and(|envelope| &*envelope.retcode == "100-002")
}
