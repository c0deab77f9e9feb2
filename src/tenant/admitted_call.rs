//! A call that has its agent's turn: from reading the agent's Guid to the gateway's answer.
//!
//! All of this is detached work, which goes on when the caller leaves. It holds the turn and the
//! places until the gateway has answered. So the agent's next call never overlaps with this one.

use std::{mem, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::{debug, field};

use super::{
    Accepted, Answer, CallerId, ChangeId, SignedIn, Tenant,
    admission::{CallPlace, Patience, RequestPlace},
    agents::Turn,
    request_ids::{Claim, Did, Made},
    sign_in_lock::SignInLock,
};
use crate::{
    call::{CallError, CallerWait, Obstacle, Stage, Untouched, Wait},
    event::{Moment, SentBy},
    gateway::{Command, Envelope, Interface, SIGN_IN, SignIn, UPDATE_GUID},
    id::AgentId,
    session::{Guid, Origin, Session},
    telemetry::trace::{SpanKind, Trace},
};

/// A call, with the turn, the places and the lock that it holds.
pub(super) struct AdmittedCall {
    pub(super) tenant: Arc<Tenant>,
    pub(super) agent: AgentId,
    pub(super) arrived: Instant,
    pub(super) caller_wait: CallerWait,
    pub(super) caller: CallerId,
    /// The trace that new spans belong to.
    pub(super) trace: Trace,
    pub(super) turn: Turn,
    /// `None` for calls that the bridge makes by itself.
    pub(super) call: Option<CallPlace>,
    /// `None` while the call waits for something other than the gateway.
    pub(super) request: Option<RequestPlace>,
    /// How long the call may wait for a place among the requests.
    pub(super) wait: Duration,
    /// Keeps other replicas from signing the agent in meanwhile.
    pub(super) lock: Option<SignInLock>,
    /// When the command was last sent. Events until then may come from another call.
    pub(super) sent: Option<Moment>,
    /// The session that it was sent with, by its [`made`](Session::made). `None` while it has not been sent, or a sign-in
    /// follows.
    pub(super) made: Option<u64>,
    /// The address of the gateway that has answered it last, an index into `base_urls`.
    pub(super) answered_by: Option<usize>,
    /// Whether the sign-in that it makes is for the agent's keeper alone: no caller wants the agent back.
    pub(super) is_for_keeper: bool,
}

impl AdmittedCall {
    /// How the call waits for a place: for `wait` at most. Its `caller_wait` sees to the deadline.
    pub(super) fn patience(&self, wait: Duration) -> Patience {
        Patience { caller: self.caller, wait, start_by: None }
    }

    pub(super) async fn command(
        mut self,
        command: Command,
        untouched: Untouched,
        claim: Option<Claim>,
    ) -> Result<Accepted, CallError> {
        let claim = claim.map(Claim::under_way);
        let id = claim.as_ref().map(Claim::id);
        let verdict = match self.command_once_or_twice(&command, untouched).await {
            Ok(envelope) => {
                self.learn_from(&command, &envelope);
                Ok(Answer::Envelope(envelope))
            }
            Err(error) => Box::pin(self.read_back(&command, error)).await,
        };
        self.report(command.interface, id, &verdict);
        let after = SentBy::This(self.sent.unwrap_or_else(|| self.tenant.events.moment()));
        if let Some(claim) = claim {
            let made = |answer| Made { did: Did::Changed(answer), after: Some(after) };
            claim.end(verdict.clone().map(made));
        }
        let (answer, place) = (verdict?, self.call.take());
        Ok(Accepted { answer, command, after, of_batch: false, place })
    }

    pub(super) async fn sign_in(
        mut self,
        sign_in: SignIn,
        untouched: Untouched,
        claim: Option<Claim>,
    ) -> Result<SignedIn, CallError> {
        let claim = claim.map(Claim::under_way);
        let verdict = self.sign_in_in_turn(&Arc::new(sign_in), untouched).await;
        self.report(&SIGN_IN, claim.as_ref().map(Claim::id), &verdict);
        if let Some(claim) = claim {
            claim.end(verdict.clone().map(|SignedIn { envelope, session, skills }| Made {
                did: Did::SignedIn(envelope, Some(session), skills),
                after: None,
            }));
        }
        verdict
    }

    /// Asks the gateway for a new Guid. Needed where polls bring none.
    pub(super) async fn update_guid(mut self, untouched: Untouched) -> Result<(), CallError> {
        // The newest session of all replicas: a renewed Guid replaces only the Guid it was made
        // from. If that is not the stored one, the new Guid would be discarded.
        let session = self.tenant.newest_session(self.agent).await;
        // An owner's Guid is not the bridge's to replace.
        let session = session.filter(|session| session.origin == Origin::SignedIn);
        let session = untouched.check(session.ok_or(Obstacle::SessionMissing))?;
        // The new Guid is stored like one that any other answer brings.
        self.send(Stage::Answer, &Command::plain(&UPDATE_GUID), &session, untouched).await.map(drop)
    }

    /// [`AdmittedCall::session`] as a part of the trace, with the sign-in that it may need.
    pub(super) async fn traced_session(
        &mut self,
        interface: &Interface,
        untouched: &Untouched,
    ) -> Result<Arc<Session>, Obstacle> {
        let span = self.trace.child(|| "session".into(), SpanKind::Internal);
        let whole = mem::replace(&mut self.trace, span.trace().clone());
        let session = self.session(interface, untouched).await;
        self.trace = whole;
        match &session {
            Ok(session) => span.set("ccgw.guid_version", || session.version.to_string()),
            Err(error) => span.fail(|| error.to_string()),
        }
        session
    }

    /// The agent's session. If there is none, signs the agent in if the bridge has credentials, but
    /// not for a command that only reads.
    async fn session(
        &mut self,
        interface: &Interface,
        untouched: &Untouched,
    ) -> Result<Arc<Session>, Obstacle> {
        let stored = self.stored_session(untouched).await?;
        let tenant = &self.tenant;
        let lost = match stored {
            Ok(Some(session))
                if interface.only_reads()
                    || !tenant.sign_ins.is_lost(self.agent, session.version) =>
            {
                return Ok(session);
            }
            // The session is known to be lost: the gateway would refuse its Guid again.
            Ok(Some(lost)) => lost.version,
            Ok(None) => 0,
            // The store does not answer. Another replica may know a session, but this one can only
            // sign in.
            Err(Obstacle::StoreUnavailable(_))
                if !interface.only_reads() && tenant.credentials.has_password_here(self.agent) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        if interface.only_reads() {
            return Err(Obstacle::SessionMissing);
        }
        let begun = Instant::now();
        // Boxed, like below: otherwise the future of each call would contain the large future of a
        // sign-in, and be moved with it.
        let signed_in = Box::pin(self.sign_in_unasked(lost, untouched)).await;
        self.tenant.metrics.session_waited(begun.elapsed());
        signed_in?.ok_or(Obstacle::SessionMissing)
    }

    /// The session known to this process, or else the stored one. Only the latter asks the store.
    pub(super) async fn stored_session(
        &mut self,
        untouched: &Untouched,
    ) -> Result<Result<Option<Arc<Session>>, Obstacle>, Obstacle> {
        if let Some(known) = self.tenant.sessions.cached(self.agent) {
            return Ok(Ok(Some(known)));
        }
        let loading = Box::pin(self.tenant.session(self.agent));
        self.caller_wait.before_sending(untouched, Wait::Store, loading).await
    }

    /// Sends a command with a session, and takes from its answer whatever renews the session. The call has come to this
    /// `stage` with it.
    pub(super) async fn send(
        &mut self,
        stage: Stage,
        command: &Command,
        session: &Arc<Session>,
        untouched: Untouched,
    ) -> Result<Envelope, CallError> {
        let asked = self.ask(command, (Some(session), None), stage, untouched).await;
        let mut reply = asked?;
        self.answered_by = reply.answered_by;
        reply.set_cookies(&session.cookies);
        if let Some(guid) = reply.guid.take() {
            self.store_guid(session, guid).await;
        }
        let verdict = reply.into_verdict(session.guid.node());
        if verdict.is_ok() && session.is_due_anew() {
            let (tenant, agent, session) = (self.tenant.clone(), self.agent, session.clone());
            self.settle(async move { tenant.store_anew(agent, &session).await }).await;
        }
        verdict
    }

    /// Stores the Guid that an answer has brought for this session, if it is another one.
    pub(super) async fn store_guid(&mut self, session: &Arc<Session>, guid: Guid) {
        if !session.is_renewed_by(&guid) {
            return;
        }
        let (tenant, agent, old) = (self.tenant.clone(), self.agent, session.clone());
        // The session that the Guid renews may still be being stored.
        let before = self.turn.take_changes();
        let renewing = async move {
            let _panics = join_all(before).await;
            let stored = tenant.sessions.cached(agent).filter(|known| known.guid == old.guid);
            tenant.renew_session(agent, &stored.unwrap_or(old), guid).await;
        };
        self.settle(renewing).await;
    }

    /// Waits until the store has taken a change that the gateway has made, but no longer than the
    /// caller waits: so a slow store does not delay the answer. `None`: the change is still being
    /// stored. It goes on in a task, and the agent's next call waits for that task.
    pub(super) async fn settle<T: Send + 'static>(
        &mut self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut change = Box::pin(change);
        tokio::select! {
            biased;
            done = &mut change => return Some(done),
            _abandoned = self.caller_wait.abandoned() => {}
        }
        let going_on = self.tenant.work.tasks.spawn(async move { drop(change.await) });
        self.turn.hold_for_change(going_on);
        None
    }

    /// Logs and counts the outcome of a call whose caller has left. What the bridge asks by itself has none who could.
    pub(super) fn report<T>(
        &self,
        interface: &Interface,
        id: Option<ChangeId>,
        verdict: &Result<T, CallError>,
    ) {
        if self.caller_wait.is_awaited() || self.call.is_none() {
            return;
        }
        let outcome = match verdict {
            Ok(_) => "accepted",
            Err(error) => error.outcome().as_str(),
        };
        let (tenant, agent, interface) = (&self.tenant, self.agent, interface.log_name);
        let error = verdict.as_ref().err().map(field::display);
        let request = id.map(|id| field::display(id.request));
        debug!(ccgw.tenant.id = %tenant.id, ccgw.agent.id = %agent, interface, ccgw.request.id = request, ccgw.outcome = outcome, error, "ended after its caller had left");
        tenant.metrics.abandoned(outcome);
        tenant.abandoned.note(tenant, verdict.as_ref().err());
    }
}
