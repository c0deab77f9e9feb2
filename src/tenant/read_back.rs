//! What a call does when it is not known what became of its change: it asks the gateway what the agent is
//! doing.
//!
//! A state proves less than it seems to. `docs/calling/read-back.md` says what it proves for each change.

use std::{mem, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    Answer, ReadBack,
    admitted_call::AdmittedCall,
    agents::{Activity, Learned},
    confirm::may_be_confirmed_by,
    repeats::Repeat,
};
use crate::{
    call::{CallError, CallerWait, Outcome, Stage, Untouched},
    event::Moment,
    gateway::{AGENT_STATUS, AgentStatus, Command, Effect, Envelope},
    session::Origin,
    state::AgentState,
    telemetry::trace::SpanKind,
};

/// How long it is known what an agent is doing whose events come to its owner, not to the bridge.
const KNOWN_WITHOUT_EVENTS: Duration = Duration::from_secs(10);

impl AdmittedCall {
    /// Notes what an accepted command says about the agent.
    pub(super) fn learn_from(&mut self, command: &Command, envelope: &Envelope) {
        let Some(sent) = self.sent else { return };
        if let Some(effect) = command.interface.effect {
            // In a call or another passing state the change may be delayed, or have no effect.
            let before = self.activity_before(sent);
            let is_at_once =
                before.is_some_and(|before| is_lasting(before) && !(effect.waits_out)(before));
            if is_at_once {
                self.learn(effect.leads_to, sent.newest);
            } else {
                self.turn.learn(Learned::Unclear);
            }
        } else if let Some(status) = envelope.result.as_deref().and_then(AgentStatus::read) {
            self.learn(status.state, sent.newest);
        }
    }

    /// Notes what the agent is doing. `newest`: the newest event before the gateway was asked.
    pub(super) fn learn(&mut self, state: AgentState, newest: u64) {
        let session = self.tenant.sessions.cached(self.agent).map(|session| session.made);
        self.turn.learn(Learned::Said(Activity { state, newest, at: Instant::now(), session }));
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
        self.turn.learn(Learned::Unclear);
        if !self.may_read_back() {
            return Err(error);
        }
        // A gateway that has taken too long may take longer.
        let is_late =
            sent.at.elapsed() >= command.interface.time_limit(&self.tenant.config.timeouts);
        let span = self.trace.child(|| "read_back".into(), SpanKind::Internal);
        let observed = self.while_caller_waits(&error, effect).await;
        let is_shown = |state| {
            // The event of an earlier change to the state that the agent had may come late.
            let is_new = match before {
                Some(before) => contradicts(before, effect),
                None => self.is_told_by_events(command, effect, sent),
            };
            state == effect.leads_to && is_new
        };
        let is_excluded = |state, settled| settled && !is_late && contradicts(state, effect);
        let (result, verdict) = match observed {
            None => (ReadBack::Failed, Err(error)),
            Some((state, _)) if is_shown(state) => (ReadBack::Applied, Ok(Answer::Observed(state))),
            Some((state, settled)) => {
                let not_applied = is_excluded(state, settled);
                if !not_applied && !(effect.fits)(state) {
                    // The change may still come.
                    self.turn.learn(Learned::Unclear);
                }
                let result = if not_applied { ReadBack::NotApplied } else { ReadBack::Unproven };
                let cause = Box::new(error);
                (result, Err(CallError::Observed { state, not_applied, cause }))
            }
        };
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
        let now = self.tenant.sessions.cached(self.agent)?;
        let is_owners = now.origin == Origin::Registered;
        let is_old = sent.at.saturating_duration_since(at) > KNOWN_WITHOUT_EVENTS;
        if session != Some(now.made) || (is_owners && is_old) {
            return None;
        }
        let others = self.tenant.events.states_between(self.agent, newest, sent.newest)?;
        others.iter().all(|other| *other == state).then_some(state)
    }

    /// Whether an event since the change was sent reports it.
    fn is_told_by_events(&self, command: &Command, effect: Effect, sent: Moment) -> bool {
        let events = self.tenant.events.of_agent_after(self.agent, sent.newest);
        events.iter().any(|event| {
            sent.is_before(event) && may_be_confirmed_by(event, effect, command.reason, sent)
        })
    }

    /// Observes the agent. A caller whose time is over before that is told `error`.
    async fn while_caller_waits(
        &mut self,
        error: &CallError,
        effect: Effect,
    ) -> Option<(AgentState, bool)> {
        // The question is the bridge's own, and goes on without the caller.
        let own = CallerWait::of_bridge(self.tenant.work.cutoff.clone());
        let mut caller = mem::replace(&mut self.caller_wait, own);
        let observed = caller.answering(|| error.clone(), Box::pin(self.observe(effect))).await;
        self.caller_wait = caller;
        observed
    }

    /// What the agent is doing, and whether it has been doing that until the gateway cannot be working on the
    /// change any more.
    async fn observe(&mut self, effect: Effect) -> Option<(AgentState, bool)> {
        let first = self.ask_activity().await?;
        if !contradicts(first, effect) {
            return Some((first, false));
        }
        // No request is open meanwhile, so the place is free for others.
        self.request = None;
        tokio::select! {
            () = sleep(self.tenant.config.timeouts.settle) => {}
            _stopping = self.caller_wait.abandoned() => return Some((first, false)),
        }
        self.take_place(self.wait, &Untouched::at_the_start()).await.ok()?;
        let second = self.ask_activity().await?;
        Some((second, first == second))
    }

    async fn ask_activity(&mut self) -> Option<AgentState> {
        let untouched = Untouched::at_the_start();
        let session = self.stored_session(&untouched).await.ok()?.ok()??;
        let newest = self.tenant.events.newest();
        let question = Command::plain(&AGENT_STATUS);
        let envelope = self.send_at(Stage::ReadBack, &question, &session, untouched).await.ok()?;
        let state = AgentStatus::read(envelope.result.as_deref()?)?.state;
        self.learn(state, newest);
        (state != AgentState::Unknown).then_some(state)
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
