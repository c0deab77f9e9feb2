//! What a call does when it is not known what became of its change: it asks the gateway what the agent is
//! doing.
//!
//! A state proves less than it seems to. `docs/calling/read-back.md` says what it proves for each change.

use std::{future::pending, mem, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    Answer, ReadBack, Tenant, admitted_call::AdmittedCall, agents::Activity,
    confirm::may_be_confirmed_by, repeats::Repeat,
};
use crate::{
    call::{CallError, CallerWait, Outcome, Stage, Untouched},
    event::{Agents, Event, Fetched, Moment, SentBy, Told},
    gateway::{AGENT_STATUS, AgentStatus, Command, Effect, Envelope, is_of_time_limit},
    id::AgentId,
    session::{Session, SessionState},
    state::AgentState,
    telemetry::trace::SpanKind,
};

/// How long it is known what an agent is doing whose events do not come to the bridge.
const KNOWN_WITHOUT_EVENTS: Duration = Duration::from_secs(10);

/// A change whose answer was lost.
#[derive(Clone, Copy)]
struct Lost<'a> {
    command: &'a Command,
    effect: Effect,
    /// When it was sent.
    sent: Moment,
    /// What the agent was doing then, if that is known.
    before: Option<AgentState>,
    /// Whether the events of what this replica did for the agent before have come by now.
    is_apart: bool,
}

/// What was found out about the agent afterwards.
#[derive(Clone, Copy)]
struct Observed {
    state: AgentState,
    /// Whether the agent has been doing nothing else until the gateway cannot be working on the change any more.
    is_settled: bool,
    /// Whether an event says that the change was made.
    is_told: bool,
}

impl AdmittedCall {
    /// Notes what an accepted command says about the agent.
    pub(super) fn learn_from(&mut self, command: &Command, envelope: &Envelope) {
        let Some(sent) = self.sent else { return };
        self.turn.was_good(sent.at.checked_sub(self.tenant.config.timeouts.settle));
        if let Some(effect) = command.interface.effect {
            // In a call or another passing state the change may be delayed. Where the old state fits the change, too, as
            // a rest fits the end of a busy state, it may have had no effect.
            let is_there = |before| before == effect.leads_to || contradicts(before, effect);
            let is_known = self.activity_before(sent).is_some_and(is_there);
            self.learn(is_known.then_some(effect.leads_to), sent.newest);
        } else if let Some(status) = envelope.result.as_deref().and_then(AgentStatus::read) {
            self.learn(Some(status.state), sent.newest);
        }
    }

    /// Notes what the agent is doing; `None`: anything. `newest`: the newest event before the gateway was asked.
    pub(super) fn learn(&mut self, state: Option<AgentState>, newest: u64) {
        let known = || self.tenant.sessions.cached(self.agent).map(|session| session.made);
        let session = self.made.or_else(known).and_then(NonZeroU64::new);
        self.turn.learn(Activity { state, newest, at: Instant::now(), session });
    }

    /// Finds out what became of a change, if `error` leaves that open.
    ///
    /// # Errors
    ///
    /// `error` itself, or with what the agent is doing.
    pub(super) async fn read_back(
        &mut self,
        command: &Command,
        error: CallError,
    ) -> Result<Answer, CallError> {
        let (Some(effect), Some(sent)) = (command.interface.effect, self.sent) else {
            return Err(error);
        };
        if error.outcome() != Outcome::Unknown {
            return Err(error);
        }
        let before = self.activity_before(sent);
        let settle = self.tenant.config.timeouts.settle;
        let is_apart = self.turn.activity().is_none_or(|known| sent.at >= known.at + settle);
        let lost = Lost { command, effect, sent, before, is_apart };
        self.learn(None, sent.newest);
        if !self.may_read_back() {
            return Err(error);
        }
        let span = self.trace.child(|| "read_back".into(), SpanKind::Internal);
        // A gateway that has taken too long may take longer.
        let limit = command.interface.time_limit(&self.tenant.config.timeouts);
        let is_proxys_limit =
            matches!(error, CallError::HttpStatus { status } if is_of_time_limit(status));
        let is_late = sent.at.elapsed() >= limit || is_proxys_limit;
        let observed = self.while_caller_waits(&error, lost).await;
        let (result, verdict) = match observed {
            None => (ReadBack::Failed, Err(error)),
            Some(observed) if lost.is_shown_by(observed) => {
                (ReadBack::Applied, Ok(Answer::Observed(observed.state)))
            }
            Some(observed) => {
                let not_applied = !is_late && lost.is_excluded_by(observed);
                let result = if not_applied { ReadBack::NotApplied } else { ReadBack::Unproven };
                let (state, cause) = (observed.state, Box::new(error));
                (result, Err(CallError::Observed { state, not_applied, cause }))
            }
        };
        let has_come = observed.is_some_and(|observed| (effect.fits)(observed.state));
        if !has_come && result != ReadBack::NotApplied {
            // It may still come.
            self.learn(None, sent.newest);
        }
        span.set("ccgw.read_back", || result.as_str());
        self.tenant.metrics.read_back(result);
        debug!(ccgw.tenant.id = %self.tenant.id, ccgw.agent.id = %self.agent, read_back = result.as_str(), "asked what became of a change");
        verdict
    }

    fn may_read_back(&self) -> bool {
        let tenant = &self.tenant;
        tenant.config.read_back
            && AGENT_STATUS.is_in(tenant.config.edition)
            && tenant.repeats.may(Repeat::ReadBack)
    }

    /// What the agent was doing when the change was sent, if that is known.
    fn activity_before(&self, sent: Moment) -> Option<AgentState> {
        let Activity { state, newest, at, session } = self.turn.activity()?;
        let now = self.tenant.sessions.cached(self.agent).filter(|now| self.is_of_call(now))?;
        let is_old = sent.at.saturating_duration_since(at) > KNOWN_WITHOUT_EVENTS;
        if session.map(NonZeroU64::get) != Some(now.made) || (is_old && !self.gets_events()) {
            return None;
        }
        let told = self.tenant.events.last_told(self.agent, newest, sent.newest).ok()?;
        let Some(Told { state: last, fetched, .. }) = told else { return state };
        if Some(last) == state {
            return state;
        }
        // The gateway may send an event after it was asked although it happened before, and a later event may be on
        // its way. So this one counts where it is far enough from both. When another replica has fetched one is not
        // known.
        let settle = self.tenant.config.timeouts.settle;
        let Fetched::Here(fetched) = fetched else { return None };
        let is_apart = fetched >= at + settle && sent.at >= fetched + settle;
        is_apart.then_some(last)
    }

    fn is_of_call(&self, session: &Session) -> bool {
        self.made == Some(session.made)
    }

    /// Whether the agent's events come to the bridge as they happen.
    fn gets_events(&self) -> bool {
        // Where another replica polls, it may hear nothing, or its events may not come here.
        self.tenant.session_state(self.agent) == Some(SessionState::Kept)
            && self.tenant.is_sole_keeper(self.agent)
    }

    /// Observes the agent. A caller whose time is over before that is told `error`.
    async fn while_caller_waits(&mut self, error: &CallError, lost: Lost<'_>) -> Option<Observed> {
        // The question is the bridge's own, and goes on without the caller.
        let own = CallerWait::of_bridge(self.tenant.work.cutoff.clone());
        let mut caller = mem::replace(&mut self.caller_wait, own);
        let observed = caller.answering(|| error.clone(), Box::pin(self.observe(lost))).await;
        self.caller_wait = caller;
        observed
    }

    async fn observe(&mut self, lost: Lost<'_>) -> Option<Observed> {
        let state = self.ask_activity().await?;
        let first = Observed { state, is_settled: false, is_told: false };
        let needs_event = lost.needs_event(state) && self.gets_events();
        if !needs_event && !contradicts(state, lost.effect) {
            return Some(first);
        }
        // No request is open meanwhile, so the place is free for others.
        self.request = None;
        let (tenant, agent) = (self.tenant.clone(), self.agent);
        let told =
            async { if needs_event { lost.told(&tenant, agent).await } else { pending().await } };
        tokio::select! {
            biased;
            () = told => return Some(Observed { is_told: true, ..first }),
            () = sleep(tenant.config.timeouts.settle) => {}
            _stopping = self.caller_wait.abandoned() => return Some(first),
        }
        if needs_event {
            return Some(first);
        }
        self.take_place(self.wait, &Untouched::at_the_start()).await.ok()?;
        let second = self.ask_activity().await?;
        // The change may have been made, and somebody else may have changed the agent back.
        let is_settled = state == second && !lost.may_be_told_of(&tenant, agent);
        Some(Observed { state: second, is_settled, is_told: false })
    }

    async fn ask_activity(&mut self) -> Option<AgentState> {
        let untouched = Untouched::at_the_start();
        let session = self.stored_session(&untouched).await.ok()?.ok()??;
        // A sign-in since then would show in the state, and not the change.
        if !self.is_of_call(&session) {
            return None;
        }
        let newest = self.tenant.events.newest();
        let question = Command::plain(&AGENT_STATUS);
        let envelope = self.send(Stage::ReadBack, &question, &session, untouched).await.ok()?;
        let state = AgentStatus::read(envelope.result.as_deref()?)?.state;
        self.learn(Some(state), newest);
        (state != AgentState::Unknown).then_some(state)
    }
}

impl Lost<'_> {
    fn is_shown_by(&self, observed: Observed) -> bool {
        // The event of an earlier change to the state that the agent had may come late.
        let is_new = match self.before {
            Some(before) => contradicts(before, self.effect),
            None => observed.is_told,
        };
        observed.state == self.effect.leads_to && is_new
    }

    fn is_excluded_by(&self, observed: Observed) -> bool {
        observed.is_settled && contradicts(observed.state, self.effect)
    }

    /// Whether the state is that of the change and may have been so before, so that only an event shows that the
    /// change was made. Soon after an earlier change, it may be the event of that one.
    fn needs_event(&self, state: AgentState) -> bool {
        state == self.effect.leads_to && self.before.is_none() && self.is_apart
    }

    /// Whether an event since the change was sent says that the agent was in its state, or may have said so.
    fn may_be_told_of(&self, tenant: &Tenant, agent: AgentId) -> bool {
        let (events, leads_to) = (&tenant.events, self.effect.leads_to);
        let since = events.told_between(agent, self.sent.newest, events.newest());
        since.map_or(true, |since| since.iter().any(|told| told.state == leads_to))
    }

    /// Waits for an event that reports the change.
    async fn told(&self, tenant: &Tenant, agent: AgentId) {
        let Self { command, effect, sent, .. } = *self;
        let mut watch = tenant.events.watch(Agents::These([agent].into()), Some(sent.newest));
        let is_told = |event: &Arc<Event>| {
            sent.is_before(event)
                && may_be_confirmed_by(event, effect, command.reason(), SentBy::This(sent))
        };
        while !watch.more().await.events.iter().any(is_told) {}
    }
}

/// Whether an agent cannot be in this state once the gateway has accepted the change, except if it has been
/// changed again.
fn contradicts(state: AgentState, effect: Effect) -> bool {
    // In other states the gateway may have accepted a change and delay it, or may not show it.
    is_lasting(state) && !(effect.fits)(state) && !(effect.waits_out)(state)
}

/// Whether an agent usually stays in this state until it is changed.
fn is_lasting(state: AgentState) -> bool {
    use AgentState::{AfterCallWork, Busy, Idle, Resting};
    matches!(state, Busy | Idle | AfterCallWork | Resting)
}
