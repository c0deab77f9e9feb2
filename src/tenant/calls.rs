//! How each call begins: it takes its places, waits for the agent's turn, and goes on detached.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::poll;
use tokio::time::{Instant, timeout_at};

use super::{
    Accepted, ChangeId, Context, DetachedWork, SignInAnswer, Tenant,
    admission::{CallPlace, Patience},
    admitted_call::AdmittedCall,
    request_ids::{Asked, Begun, Claim, Did, Ended, Made},
    sign_out::has_ended,
};
use crate::{
    call::{Abandoned, CallError, Deadline, Obstacle, Stage, Untouched, Wait, detached},
    event::SentBy,
    gateway::{Command, Envelope, FORCE_SIGN_OUT, Interface, SIGN_OUT, SignIn},
    id::AgentId,
    session::Session,
    telemetry::trace::SpanKind,
};

/// How long the bridge's own calls may wait for the agent's turn and a place among the requests.
const RECOVERY_QUEUE: Duration = Duration::from_secs(10);

/// For waits that only the caller's deadline bounds.
const UNTIL_THE_DEADLINE: Duration = Duration::MAX;

/// The places that a call has taken, and what it still waits for.
struct Places {
    untouched: Untouched,
    /// `None` for calls that the bridge makes by itself.
    call: Option<CallPlace>,
    /// How long the call may wait for a place among the requests.
    wait: Duration,
    /// Whether the agent has to be signed in for the call.
    needs_session: bool,
}

impl Tenant {
    /// Carries out a command for an agent: waits for the agent's turn and for a place among the
    /// tenant's requests, finds the session or signs the agent in, and sends the command.
    ///
    /// A command is repeated in two cases only, in which the refusal promises that nothing was
    /// done. If it is refused for its Guid, it is repeated once, provided that there is a newer
    /// Guid or the bridge can sign the agent in. If another call for the agent was in its way
    /// (000-007), it is repeated for a while.
    ///
    /// If another call with the same `id` makes the change, or has made it, this waits for that call's outcome.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] except those about malformed requests. [`Obstacle::RequestIdReused`] if the id belongs
    /// to another change.
    pub async fn command(
        self: &Arc<Self>,
        agent: AgentId,
        command: Command,
        context: &Context,
        id: Option<ChangeId>,
    ) -> Result<Accepted, CallError> {
        self.check_edition(command.interface)?;
        let claim = match self.claim(id, || Asked::new(agent, &command), context).await? {
            Ok(claim) => claim,
            Err(ended) => return self.accepted_before(&ended, command),
        };
        let places = self.places(!command.interface.only_reads())?;
        let work = |call: AdmittedCall, untouched| call.command(command, untouched, claim);
        self.in_turn(places, agent, context, work).await
    }

    /// Like [`Tenant::command`], for what a call has to ask while it waits for its confirmation. It still has
    /// its place among the calls, and all others may be taken.
    pub(super) async fn command_while_confirming(
        self: &Arc<Self>,
        agent: AgentId,
        command: Command,
        context: &Context,
    ) -> Result<Accepted, CallError> {
        self.check_edition(command.interface)?;
        let (untouched, wait) = (Untouched::at_the_start(), self.config.limits.queue_wait);
        let places = Places { untouched, call: None, wait, needs_session: false };
        let work = |call: AdmittedCall, untouched| call.command(command, untouched, None);
        self.in_turn(places, agent, context, work).await
    }

    /// Like [`Tenant::command`], for a command of a batch. It waits for its places until the
    /// caller's deadline. The commands of batches use at most half of the tenant's requests. Where no place
    /// among the calls is free, the command shares the batch's own, if that has one.
    ///
    /// # Errors
    ///
    /// As [`Tenant::command`].
    pub async fn command_of_batch(
        self: &Arc<Self>,
        (agent, id): (AgentId, Option<ChangeId>),
        command: Command,
        context: &Context,
        own: impl FnOnce() -> Option<CallPlace>,
    ) -> Result<Accepted, CallError> {
        let claim = match self.claim(id, || Asked::new(agent, &command), context).await? {
            Ok(claim) => claim,
            Err(ended) => {
                let before = self.accepted_before(&ended, command)?;
                return Ok(Accepted { of_batch: true, ..before });
            }
        };
        let call = || self.admission.enter().or_else(|full| own().ok_or(full)).map(Some);
        self.command_in_batches((agent, claim), command, context, call).await
    }

    /// Like [`Tenant::command_of_batch`], for what a batch has to ask while it waits for its confirmations. It
    /// still has its place among the calls.
    pub(super) async fn command_of_confirming_batch(
        self: &Arc<Self>,
        agent: AgentId,
        command: Command,
        context: &Context,
    ) -> Result<Accepted, CallError> {
        self.command_in_batches((agent, None), command, context, || Ok(None)).await
    }

    /// The right to make the change, or what it has come to in another call with the same id.
    async fn claim(
        &self,
        id: Option<ChangeId>,
        asked: impl FnOnce() -> Asked,
        context: &Context,
    ) -> Result<Result<Option<Claim>, Ended>, CallError> {
        let Some(id) = id else { return Ok(Ok(None)) };
        let asked = asked();
        if let Some(claim) = self.request_ids.begin_at_once(id, &asked) {
            return Ok(Ok(Some(claim)));
        }
        // Boxed, since most calls have no id.
        let beginning = Box::pin(self.request_ids.begin(id, &asked, context.deadline));
        let begun = tokio::select! {
            biased;
            begun = beginning => begun?,
            // Another call may be making the change.
            () = self.work.cutoff.given() => {
                return Err(Abandoned::Cutoff.after_sending(Stage::Answer));
            }
        };
        match begun {
            Begun::First(claim) => Ok(Ok(Some(claim))),
            Begun::Before(ended) => Ok(Err(ended)),
        }
    }

    /// A command within the part of the requests that batches have. `call` takes its place among the calls.
    async fn command_in_batches(
        self: &Arc<Self>,
        (agent, claim): (AgentId, Option<Claim>),
        command: Command,
        context: &Context,
        call: impl FnOnce() -> Result<Option<CallPlace>, Obstacle>,
    ) -> Result<Accepted, CallError> {
        self.check_edition(command.interface)?;
        let (untouched, needs_session) =
            (Untouched::at_the_start(), !command.interface.only_reads());
        let place = self.waiting(context.deadline, self.admission.batch(context.caller)).await;
        let place = untouched.check(place.flatten())?;
        let call = untouched.check(call())?;
        let places = Places { untouched, call, wait: UNTIL_THE_DEADLINE, needs_session };
        let work = |call: AdmittedCall, untouched| async move {
            let accepted = call.command(command, untouched, claim).await;
            // Held until here, even if the batch has been answered, since the request was open.
            drop(place);
            Ok(Accepted { of_batch: true, ..accepted? })
        };
        self.in_turn(places, agent, context, work).await
    }

    /// What another call with the same id has come to.
    fn accepted_before(&self, ended: &Ended, command: Command) -> Result<Accepted, CallError> {
        let Made { did, after } = Result::clone(ended)?;
        // The id belongs to the same interface.
        let Did::Changed(answer) = did else { return Err(CallError::Internal) };
        let after = after.unwrap_or_else(|| SentBy::This(self.events.moment()));
        Ok(Accepted { answer, command, after, of_batch: false, place: None })
    }

    /// What another sign-in with the same id has come to, with the agent's session as it is now.
    async fn signed_in_before(
        &self,
        agent: AgentId,
        ended: &Ended,
        context: &Context,
    ) -> Result<SignInAnswer, CallError> {
        let Made { did, .. } = Result::clone(ended)?;
        let Did::SignedIn(envelope, made, skills) = did else { return Err(CallError::Internal) };
        let found = self.session_by(agent, context.deadline).await;
        let session = found.unwrap_or_else(|_| made.filter(|_| !self.sessions.has_ended(agent)));
        Ok(SignInAnswer { envelope, session, skills })
    }

    /// How many commands of batches may be under way at once.
    pub fn batch_share(&self) -> usize {
        self.admission.batch_share()
    }

    /// Signs an agent in. If `sign_in` has no password, the configured credentials are used.
    ///
    /// # Errors
    ///
    /// As [`Tenant::command`].
    pub async fn sign_in(
        self: &Arc<Self>,
        agent: AgentId,
        sign_in: SignIn,
        context: &Context,
        id: Option<ChangeId>,
    ) -> Result<SignInAnswer, CallError> {
        let claim = match self.claim(id, || Asked::sign_in(agent, &sign_in), context).await? {
            Ok(claim) => claim,
            Err(ended) => return self.signed_in_before(agent, &ended, context).await,
        };
        let places = self.places(false)?;
        // Before the agent's turn is waited for, and once more when it has come.
        let rejection = self.credentials.rejection(agent, &sign_in);
        let rejection = timeout_at(context.deadline.start_by(), rejection).await;
        let late = |_elapsed| Obstacle::Deadline(Wait::Store);
        // Where the store does not say, its caller has asked for it all the same.
        if let Ok(Some(rejection)) = places.untouched.check(rejection.map_err(late))? {
            return Err(places.untouched.because(rejection));
        }
        let work = |call: AdmittedCall, untouched| call.sign_in(sign_in, untouched, claim);
        self.in_turn(places, agent, context, work).await.map(SignInAnswer::from)
    }

    /// Signs an agent out and forgets its session and its credentials. With `force`, even while the
    /// agent is talking.
    ///
    /// # Errors
    ///
    /// [`Obstacle::SessionMissing`] if the bridge has no session of the agent; else as
    /// [`Tenant::command`].
    pub async fn sign_out(
        self: &Arc<Self>,
        agent: AgentId,
        force: bool,
        context: &Context,
        id: Option<ChangeId>,
    ) -> Result<Envelope, CallError> {
        let interface = if force { &FORCE_SIGN_OUT } else { &SIGN_OUT };
        let claim = match self.claim(id, || Asked::sign_out(agent, interface), context).await? {
            Ok(claim) => claim,
            Err(ended) => return signed_out_before(&ended),
        };
        let places = self.places(false)?;
        let work = move |call: AdmittedCall, untouched| call.sign_out(interface, untouched, claim);
        self.in_turn(places, agent, context, work).await
    }

    /// Signs an agent out because the bridge stops. Returns whether the agent is signed out by now.
    pub(super) async fn sign_out_by_itself(
        self: &Arc<Self>,
        agent: AgentId,
        deadline: Deadline,
    ) -> bool {
        let work = |call: AdmittedCall, untouched| call.sign_out(&SIGN_OUT, untouched, None);
        has_ended(&self.of_bridge(agent, deadline, work).await)
    }

    /// Replaces a lost session by signing in, unless a newer one is stored by now.
    pub(super) async fn recover(
        self: &Arc<Self>,
        agent: AgentId,
        lost: u64,
    ) -> Result<Arc<Session>, CallError> {
        let deadline = Deadline::new(Instant::now(), RECOVERY_QUEUE + self.sign_in_max());
        let work = move |call: AdmittedCall, untouched| call.recover(lost, untouched);
        self.of_bridge(agent, deadline, work).await
    }

    /// Asks the gateway for a new Guid of an agent, and stores it. Waits for a place among the
    /// renewals: all agents of another replica may come at once, and calls need places among the
    /// requests, too.
    pub(super) async fn update_guid(self: &Arc<Self>, agent: AgentId) -> Result<(), CallError> {
        let deadline = Deadline::new(Instant::now(), RECOVERY_QUEUE + self.config.timeouts.request);
        let place = self.waiting(deadline, self.renewals.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let place = place.map_err(CallError::unasked)?.map_err(|_| CallError::Internal)?;
        let work = |call: AdmittedCall, untouched| async move {
            let renewed = call.update_guid(untouched).await;
            // Held until here, even if nobody waits any more, since the request was open.
            drop(place);
            renewed
        };
        self.of_bridge(agent, deadline, work).await
    }

    /// Makes a call that nobody asked for. It takes no place among the calls, since callers may
    /// have taken all of them. It waits for a place among the requests until its deadline.
    async fn of_bridge<T, W>(
        self: &Arc<Self>,
        agent: AgentId,
        deadline: Deadline,
        work: impl FnOnce(AdmittedCall, Untouched) -> W,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        let context = Context::of_bridge(deadline);
        let (untouched, wait) = (Untouched::at_the_start(), UNTIL_THE_DEADLINE);
        let places = Places { untouched, call: None, wait, needs_session: false };
        self.in_turn(places, agent, &context, work).await
    }

    /// Checks whether this edition of the gateway has the interface. If it has not, it would answer
    /// HTTP 404, and that would look like a wrong address.
    fn check_edition(&self, interface: &Interface) -> Result<(), CallError> {
        let edition = self.config.edition;
        if interface.is_in(edition) {
            return Ok(());
        }
        let (interface, edition) = (interface.log_name, edition.as_str());
        Err(CallError::unasked(Obstacle::InterfaceMissing { interface, edition }))
    }

    /// Takes the places that a caller's call needs.
    fn places(&self, needs_session: bool) -> Result<Places, CallError> {
        let untouched = Untouched::at_the_start();
        let call = Some(untouched.check(self.admission.enter())?);
        Ok(Places { untouched, call, wait: self.config.limits.queue_wait, needs_session })
    }

    /// Waits for the agent's turn and a place among the requests, then does `work`, [`detached`].
    async fn in_turn<T, W>(
        self: &Arc<Self>,
        Places { untouched, call, wait, needs_session }: Places,
        agent: AgentId,
        context: &Context,
        work: impl FnOnce(AdmittedCall, Untouched) -> W,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        let Context { deadline, trace, caller } = context.clone();
        let arrived = deadline.arrived();
        let queue = trace.child(|| "queue".into(), SpanKind::Internal);
        let sign_in_by = needs_session.then(|| deadline.start_by());
        // The turn first, so that a call holds no place among the requests while it waits for the
        // turn.
        let turn = self.waiting(deadline, self.agents.turn(agent, sign_in_by)).await;
        let turn = untouched.check(turn.flatten())?;
        let patience = Patience { caller, wait, start_by: Some(deadline.start_by()) };
        let request = self.admission.request(self.gateway.current(agent), patience);
        let request = untouched.check(self.waiting(deadline, request).await.flatten())?;

        drop(queue);

        self.metrics.queued(arrived.elapsed());
        let tenant = self.clone();
        let DetachedWork { tasks, cutoff, .. } = &self.work;
        detached(tasks, deadline, cutoff.clone(), move |caller_wait| {
            let request = Some(request);
            let (lock, sent, made) = (None, None, None);
            // A bound for work that goes on after its caller has left: the deadline does not bound
            // it then.
            let wait = wait.min(tenant.sign_in_max());
            let call = AdmittedCall {
                tenant,
                agent,
                arrived,
                caller_wait,
                caller,
                trace,
                turn,
                call,
                request,
                wait,
                lock,
                sent,
                made,
                answered_by: None,
                is_for_keeper: false,
            };
            work(call, untouched)
        })
        .await
    }

    /// Waits in a queue until the time when the call has to start, or the bridge stops.
    async fn waiting<T>(
        &self,
        deadline: Deadline,
        queue: impl Future<Output = T>,
    ) -> Result<T, Obstacle> {
        if self.work.cutoff.is_given() {
            return Err(self.why_it_stops());
        }
        let mut queue = pin!(queue);
        // Usually the call does not have to wait, and then needs no timer.
        if let Poll::Ready(at_once) = poll!(queue.as_mut()) {
            return Ok(at_once);
        }
        // The queue first: a call that gets its turn while the bridge ends is still not sent, since the signal
        // is checked again before that.
        tokio::select! {
            biased;
            waited = timeout_at(deadline.start_by(), queue) => {
                waited.map_err(|_| Obstacle::Deadline(Wait::Queue))
            }
            () = self.work.cutoff.given() => Err(self.why_it_stops()),
        }
    }
}

/// What another sign-out with the same id has come to.
fn signed_out_before(ended: &Ended) -> Result<Envelope, CallError> {
    match Result::clone(ended)?.did {
        Did::SignedOut(envelope) => Ok(envelope),
        Did::Changed(_) | Did::SignedIn(..) => Err(CallError::Internal),
    }
}
