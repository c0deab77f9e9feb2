//! Calls that have to wait for their turn: how each begins, until it is under way.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    Accepted, Context, SignedIn, Tenant, Work, admission::CallPlace, admitted_call::AdmittedCall,
    batch_share,
};
use crate::{
    call::{CallError, Deadline, Obstacle, Untouched, Wait, detached},
    gateway::{Command, Envelope, Interface, SignIn},
    id::AgentId,
    session::Session,
    telemetry::trace::SpanKind,
};

/// How long the bridge's own work may wait for the agent's turn and a place.
const RECOVERY_QUEUE: Duration = Duration::from_secs(10);

/// A wait that ends with its caller's.
const UNTIL_THE_DEADLINE: Duration = Duration::MAX;

/// What a call takes of the tenant's limits beside the agent's turn.
struct Places {
    untouched: Untouched,
    /// `None`: what the bridge does by itself is no call.
    call: Option<CallPlace>,
    /// For a place among the requests.
    wait: Duration,
    /// Whether the call may have to wait until the agent is signed in.
    needs_session: bool,
}

impl Tenant {
    /// Carries a command out for an agent: waits for the agent's turn and for a place among the
    /// tenant's requests, finds the session or makes one, and sends the command.
    ///
    /// A command that is refused for its Guid is repeated once, if there is a newer Guid or the
    /// bridge can sign the agent in, and one that another call for the agent was in the way of
    /// (000-007) is repeated for a while; such refusals promise that nothing was done. Nothing else
    /// is ever repeated.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] but those that speak of the request's form.
    pub async fn command(
        self: &Arc<Self>,
        agent: AgentId,
        command: Command,
        context: &Context,
    ) -> Result<Accepted, CallError> {
        self.check_edition(command.interface)?;
        let places = self.places(!command.interface.only_reads())?;
        let work = |call: AdmittedCall, untouched| call.command(command, untouched);
        self.in_turn(places, agent, context, work).await
    }

    /// The same for one of many: waits for its places as long as the caller does, and leaves half
    /// of the tenant's requests to other calls.
    ///
    /// # Errors
    ///
    /// As [`Tenant::command`].
    pub async fn command_of_batch(
        self: &Arc<Self>,
        agent: AgentId,
        command: Command,
        context: &Context,
    ) -> Result<Accepted, CallError> {
        self.check_edition(command.interface)?;
        let place = self.waiting(context.deadline, self.batches.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let place = place.map_err(CallError::unasked)?.map_err(|_| CallError::Internal)?;
        let places = self.places(!command.interface.only_reads())?;
        let places = Places { wait: UNTIL_THE_DEADLINE, ..places };
        let work = |call: AdmittedCall, untouched| async move {
            let accepted = call.command(command, untouched).await;
            // Held as long as the request may be open, also when the batch has been answered.
            drop(place);
            Ok(Accepted { of_batch: true, ..accepted? })
        };
        self.in_turn(places, agent, context, work).await
    }

    /// How many commands of batches may be under way at once.
    pub fn batch_share(&self) -> usize {
        batch_share(&self.config.limits)
    }

    /// Signs an agent in. `given` is what the caller said; without a password the configured
    /// credentials are used.
    ///
    /// # Errors
    ///
    /// As [`Tenant::command`].
    pub async fn sign_in(
        self: &Arc<Self>,
        agent: AgentId,
        sign_in: SignIn,
        context: &Context,
    ) -> Result<SignedIn, CallError> {
        let places = self.places(false)?;
        let work = |call: AdmittedCall, untouched| call.sign_in(sign_in, untouched);
        self.in_turn(places, agent, context, work).await
    }

    /// Signs an agent out and forgets its session and its credentials; by force even while the
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
    ) -> Result<Envelope, CallError> {
        let places = self.places(false)?;
        let work = move |call: AdmittedCall, untouched| call.sign_out(force, untouched);
        self.in_turn(places, agent, context, work).await
    }

    /// Makes a session anew that was lost, unless there is a newer one by now.
    pub(super) async fn recover(
        self: &Arc<Self>,
        agent: AgentId,
        lost: u64,
    ) -> Result<Arc<Session>, CallError> {
        let deadline = Deadline::new(Instant::now(), RECOVERY_QUEUE + self.sign_in_max());
        let work = move |call: AdmittedCall, untouched| call.recover(lost, untouched);
        self.of_bridge(agent, deadline, work).await
    }

    /// Renews an agent's Guid by asking for it.
    pub(super) async fn update_guid(self: &Arc<Self>, agent: AgentId) -> Result<(), CallError> {
        let deadline = Deadline::new(Instant::now(), RECOVERY_QUEUE + self.config.timeouts.request);
        self.of_bridge(agent, deadline, AdmittedCall::update_guid).await
    }

    /// What the bridge does by itself. It takes no place among the calls, of which callers may have
    /// taken all, and waits for a place among the requests as long as it has time.
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

    /// Whether the tenant's gateway has the interface. Without this it would answer HTTP 404, as it
    /// does for a wrong address.
    fn check_edition(&self, interface: &Interface) -> Result<(), CallError> {
        let edition = self.config.edition;
        if interface.is_in(edition) {
            return Ok(());
        }
        let (interface, edition) = (interface.log_name, edition.as_str());
        Err(CallError::unasked(Obstacle::InterfaceMissing { interface, edition }))
    }

    /// What a caller's call takes.
    fn places(&self, needs_session: bool) -> Result<Places, CallError> {
        let untouched = Untouched::at_the_start();
        let call = Some(untouched.check(self.admission.enter())?);
        Ok(Places { untouched, call, wait: self.config.limits.queue_wait, needs_session })
    }

    /// Waits until `agent`'s next call may be made and hands it to a task of its own.
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
        let Context { deadline, trace } = context.clone();
        let arrived = deadline.arrived();
        let queue = trace.child(|| "queue".into(), SpanKind::Internal);
        let sign_in_by = needs_session.then(|| deadline.start_by());
        // The agent's turn comes first: a call that waits for it takes nothing from other agents.
        let turn = self.waiting(deadline, self.agents.turn(agent, sign_in_by)).await;
        let turn = untouched.check(turn.flatten())?;
        let request = self.admission.request(self.gateway.current(), wait);
        let request = untouched.check(self.waiting(deadline, request).await.flatten())?;

        drop(queue);

        self.metrics.queued(arrived.elapsed());
        let tenant = self.clone();
        let Work { tasks, cutoff, .. } = &self.work;
        detached(tasks, deadline, cutoff.clone(), move |caller_wait| {
            let request = Some(request);
            let (lock, asked_again) = (None, None);
            // Also where the work goes on without its caller, whose deadline bounds it otherwise.
            let wait = wait.min(tenant.sign_in_max());
            let call = AdmittedCall {
                tenant,
                agent,
                arrived,
                caller_wait,
                trace,
                turn,
                call,
                request,
                wait,
                lock,
                asked_again,
            };
            work(call, untouched)
        })
        .await
    }

    /// Waits in a queue, as long as it makes sense for the caller.
    async fn waiting<T>(
        &self,
        deadline: Deadline,
        queue: impl Future<Output = T>,
    ) -> Result<T, Obstacle> {
        if self.work.cutoff.is_given() {
            return Err(Obstacle::ShuttingDown);
        }
        // The queue first: usually the call does not have to wait, and then needs neither a timer nor the
        // lock of the signal. A call that gets its turn while the bridge ends is still not sent, since the
        // signal is checked again before that.
        tokio::select! {
            biased;
            waited = timeout_at(deadline.start_by(), queue) => {
                waited.map_err(|_| Obstacle::Deadline(Wait::Queue))
            }
            () = self.work.cutoff.given() => Err(Obstacle::ShuttingDown),
        }
    }
}
