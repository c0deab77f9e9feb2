//! Waits for the event that confirms a command which the gateway has accepted.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{Accepted, Context, Tenant};
use crate::{
    call::{CallError, Deadline, Obstacle},
    event::{Agents, Event, SentBy, Watch, What},
    gateway::{AgentStatus, Effect, is_of_time_limit},
    id::AgentId,
    state::AgentState,
    telemetry::trace::SpanKind,
};

/// Whether an accepted command has taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// An event says so.
    Confirmed {
        /// The event's number.
        sequence: u64,
        /// When it happened.
        at: SystemTime,
    },
    /// The gateway accepted the command, but nothing confirms the effect.
    Accepted(Unconfirmed),
}

/// Why a change is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The bridge does not poll this agent's events.
    NotKept,
    /// The agent is handling a call; the change comes with its end (client).
    Talking,
    /// The agent is in after-call work; the change comes with its end (client).
    AfterCallWork,
    /// The event came, but the agent's status shows another state by now.
    OtherState,
    /// No event came in time.
    NoEvent,
    /// This replica is shutting down.
    ShuttingDown,
}

/// The part of a confirming event's content that is read (cec_07_1346).
#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    reason: &'a RawValue,
}

/// The first reason code that callers can choose. Smaller ones are the platform's own
/// (cec_07_1346).
const OWN_REASONS: i32 = 200;

impl Tenant {
    /// Waits until an event says that an accepted command has taken effect: at most `within`, and
    /// at most until the caller's deadline.
    ///
    /// Events that were fetched before the command was sent do not count, even if they are
    /// published later; of a change that another process has sent, only the numbers of events are known. An
    /// event that the gateway had queued before the command looks like a later
    /// one. So the bridge asks for the agent's status after the event, and the status has to fit.
    /// If the gateway cannot tell the status, an event fetched here is sufficient. An event that
    /// another replica has fetched may be older than it looks, so it never confirms without a
    /// status. Nor does any event if the question, or the answer to it, came to nothing.
    pub async fn confirm(
        self: &Arc<Self>,
        agent: AgentId,
        accepted: &Accepted,
        within: Duration,
        context: &Context,
    ) -> Confirmation {
        let span = context.trace.child(|| "confirm".into(), SpanKind::Internal);
        let context = Context { trace: span.trace().clone(), ..context.clone() };
        let confirmation = self.wait_for_event(agent, accepted, within, &context).await;
        span.set("ccgw.confirmation", || confirmation.as_str());
        self.metrics.confirmation(confirmation);
        confirmation
    }

    async fn wait_for_event(
        self: &Arc<Self>,
        agent: AgentId,
        accepted: &Accepted,
        within: Duration,
        context: &Context,
    ) -> Confirmation {
        let Some(effect) = accepted.command.interface.effect else {
            return Confirmation::Accepted(Unconfirmed::NotKept);
        };
        let until = context.deadline.start_by().min(Instant::now() + within);
        match timeout_at(until, self.is_polled(agent)).await {
            Ok(true) => {}
            Ok(false) => return Confirmation::Accepted(Unconfirmed::NotKept),
            // Only the store knows the agent, and does not say in time.
            Err(_elapsed) => return Confirmation::Accepted(Unconfirmed::NoEvent),
        }
        let watch = self.events.watch(Agents::These([agent].into()), Some(accepted.after.newest()));
        let (reason, after, of_batch) =
            (accepted.command.reason(), accepted.after, accepted.of_batch);
        let context = context.clone();
        let mut seen = Seen { agent, effect, reason, after, of_batch, other_state: false, context };
        let waiting = timeout_at(until, self.confirming_event(watch, &mut seen, until));
        let waited = self.work.stopping.run_until_cancelled(waiting).await;
        match waited {
            None => Confirmation::Accepted(Unconfirmed::ShuttingDown),
            Some(Ok(event)) => {
                Confirmation::Confirmed { sequence: event.sequence, at: event.time() }
            }
            Some(Err(_too_late)) => Confirmation::Accepted(self.obstacle(&seen)),
        }
    }

    async fn confirming_event(
        self: &Arc<Self>,
        mut watch: Watch,
        seen: &mut Seen,
        until: Instant,
    ) -> Arc<Event> {
        loop {
            for event in watch.more().await.events {
                if !seen.may_be_confirmed_by(&event) {
                    continue;
                }
                match self.fits_by_now(seen, until).await {
                    Ok(Some(true)) => return event,
                    Ok(Some(false)) => seen.other_state = true,
                    Ok(None) if seen.after.is_before(&event) => return event,
                    Ok(None) | Err(_) => {}
                }
            }
        }
    }

    /// Whether the agent is now in a state that fits the command; `None` if the gateway cannot tell.
    ///
    /// # Errors
    ///
    /// Why the gateway could not be asked, or what became of its answer.
    async fn fits_by_now(
        self: &Arc<Self>,
        seen: &Seen,
        until: Instant,
    ) -> Result<Option<bool>, CallError> {
        let left = until.saturating_duration_since(Instant::now());
        let deadline = Deadline::new(Instant::now(), left);
        let context = &Context { deadline, ..seen.context.clone() };
        let status = if seen.of_batch {
            self.agent_status_of_batch(seen.agent, context).await
        } else {
            self.agent_status_while_confirming(seen.agent, context).await
        };
        match status {
            Ok(AgentStatus { state: AgentState::Unknown, .. }) => Ok(None),
            Ok(status) => Ok(Some((seen.effect.fits)(status.state))),
            Err(error) if cannot_tell(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn obstacle(&self, seen: &Seen) -> Unconfirmed {
        let delaying =
            self.events.state(seen.agent).filter(|&state| (seen.effect.waits_out)(state));
        match delaying {
            Some(AgentState::Talking) => Unconfirmed::Talking,
            Some(AgentState::AfterCallWork) => Unconfirmed::AfterCallWork,
            _ if seen.other_state => Unconfirmed::OtherState,
            _ => Unconfirmed::NoEvent,
        }
    }
}

impl Confirmation {
    /// The name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed { .. } => "confirmed",
            Self::Accepted(Unconfirmed::NotKept) => "not_kept",
            Self::Accepted(Unconfirmed::Talking) => "talking",
            Self::Accepted(Unconfirmed::AfterCallWork) => "after_call_work",
            Self::Accepted(Unconfirmed::OtherState) => "other_state",
            Self::Accepted(Unconfirmed::NoEvent) => "no_event",
            Self::Accepted(Unconfirmed::ShuttingDown) => "shutting_down",
        }
    }
}

/// The change that is waited for, and what has been seen so far.
struct Seen {
    agent: AgentId,
    effect: Effect,
    reason: Option<i32>,
    /// The position in the tenant's events when the command was sent.
    after: SentBy,
    of_batch: bool,
    other_state: bool,
    context: Context,
}

impl Seen {
    fn may_be_confirmed_by(&self, event: &Event) -> bool {
        may_be_confirmed_by(event, self.effect, self.reason, self.after)
    }
}

/// Whether an event can confirm a change that was asked for with this reason and sent `after` this moment, as
/// far as can be said without the agent's status.
pub(super) fn may_be_confirmed_by(
    event: &Event,
    effect: Effect,
    asked: Option<i32>,
    after: SentBy,
) -> bool {
    if !after.may_be_before(event) {
        return false;
    }
    let What::Gateway(event) = &event.what else { return false };
    if !effect.events.contains(&&*event.kind) {
        return false;
    }
    // An event that belongs to an earlier request has the earlier reason.
    let named = event.content.as_deref().and_then(reason);
    let (asked, named) = (asked.unwrap_or_default(), named.unwrap_or_default());
    asked < OWN_REASONS || named < OWN_REASONS || asked == named
}

/// Whether this error says that the gateway cannot tell an agent's status. Otherwise it was not asked, or its answer was
/// lost, and the status may be another one than an event says.
fn cannot_tell(error: &CallError) -> bool {
    match error {
        CallError::NotSent(_) => {
            matches!(error.obstacle(), Some(Obstacle::InterfaceMissing { .. }))
        }
        CallError::Refused(refusal) => !refusal.retcode.kind().is_in_progress(),
        // A proxy says so whose gateway has not answered.
        CallError::HttpStatus { status } => {
            !matches!(*status, 502 | 503) && !is_of_time_limit(*status)
        }
        CallError::NoSuchInterface { .. } | CallError::BadReply(_) => true,
        CallError::AfterRefusal(..)
        | CallError::NoAnswer(_)
        | CallError::Deadline(_)
        | CallError::GatewayBusy { .. }
        | CallError::Observed { .. }
        | CallError::Internal => false,
    }
}

fn reason(content: &str) -> Option<i32> {
    let content: Content<'_> = serde_json::from_str(content).ok()?;
    content.reason.get().trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{Refusal, Wait},
        event::{Fetched, GatewayEvent, Moment},
        gateway::SAY_BUSY,
        id::DEFAULT_AGENT_IDS,
        retcode::Retcode,
    };

    fn seen(reason: Option<i32>, after: SentBy) -> Seen {
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        let effect = SAY_BUSY.effect.unwrap();
        let deadline = Deadline::new(Instant::now(), Duration::ZERO);
        let (context, of_batch) = (Context::of_bridge(deadline), false);
        Seen { agent, effect, reason, after, of_batch, other_state: false, context }
    }

    fn event(kind: &str, content: Option<&str>, fetched: Fetched) -> Event {
        let (kind, content) = (kind.into(), content.map(Into::into));
        let what = What::Gateway(GatewayEvent {
            kind,
            work_no: "1001".into(),
            content,
            generated_at: None,
        });
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        Event { sequence: 1, received_at: SystemTime::now(), agent, what, fetched }
    }

    #[track_caller]
    fn check(asked: Option<i32>, kind: &str, content: Option<&str>, expected: bool) {
        let at = Instant::now();
        let event = event(kind, content, Fetched::Here(at));
        let seen = seen(asked, SentBy::This(Moment { newest: 0, at }));
        assert_eq!(seen.may_be_confirmed_by(&event), expected, "{asked:?} {event:?}");
    }

    #[test]
    fn an_event_that_was_fetched_before_the_request_was_sent_confirms_nothing() {
        let fetched = Instant::now();
        let at = fetched + Duration::from_millis(1);
        let busy = "AgentState_SetNotReady_Success";
        for (fetched, may_confirm, needs_no_status) in [
            (Fetched::Here(fetched), false, false),
            (Fetched::ElsewhereBy(fetched), false, false),
            (Fetched::Unknown, false, false),
            (Fetched::Here(at), true, true),
            (Fetched::ElsewhereBy(at), true, false),
        ] {
            let event = event(busy, None, fetched);
            let after = |newest| SentBy::This(Moment { newest, at });
            assert_eq!(seen(None, after(0)).may_be_confirmed_by(&event), may_confirm);
            assert_eq!(after(0).is_before(&event), needs_no_status);
            assert!(!seen(None, after(1)).may_be_confirmed_by(&event));
        }
    }

    #[test]
    fn an_event_confirms_what_another_process_has_sent_by_its_number_and_the_agents_status() {
        let (busy, now) = ("AgentState_SetNotReady_Success", Instant::now());
        for (fetched, after, may_confirm) in [
            (Fetched::Here(now), 0, true),
            (Fetched::ElsewhereBy(now), 0, true),
            (Fetched::Unknown, 0, false),
            (Fetched::Here(now), 1, false),
        ] {
            let (event, after) = (event(busy, None, fetched), SentBy::Another(after));
            assert_eq!(seen(None, after).may_be_confirmed_by(&event), may_confirm);
            assert!(!after.is_before(&event), "not without the status");
        }
    }

    #[test]
    fn events_of_another_kind_or_of_another_request_confirm_nothing() {
        let busy = "AgentState_SetNotReady_Success";
        let named = Some(r#"{"reason":"200"}"#);
        check(None, busy, None, true);
        check(Some(200), busy, named, true);
        check(Some(201), busy, named, false);
        check(Some(201), busy, Some(r#"{"reason":200}"#), false);
        check(Some(200), busy, Some(r#"{"reason":200}"#), true);
        check(Some(0), busy, named, true);
        check(Some(200), busy, Some(r#"{"reason":"201"}"#), false);
        check(Some(201), busy, Some(r#"{"reason":"1"}"#), true);
        for no_reason in ["7", "\"200\"", "[]", "null", r#"{"reason":null}"#] {
            check(Some(201), busy, Some(no_reason), true);
        }
        check(None, "AgentState_Busy", None, false);
        check(None, "AgentState_Force_SetNotReady", named, false);
    }

    #[test]
    fn only_what_the_gateway_itself_says_shows_that_it_cannot_tell_a_status() {
        let refused = |retcode| {
            let retcode = Retcode::refusal(retcode).unwrap();
            let message = String::new();
            CallError::Refused(Refusal { retcode, message, node: None, http_status: 200 })
        };
        let missing = Obstacle::InterfaceMissing { interface: "x", edition: "2014" };
        for (error, expected) in [
            (CallError::unasked(missing), true),
            (CallError::unasked(Obstacle::Deadline(Wait::Queue)), false),
            (refused("999-999"), true),
            (refused("000-007"), false),
            (CallError::HttpStatus { status: 500 }, true),
            (CallError::HttpStatus { status: 502 }, false),
            (CallError::HttpStatus { status: 504 }, false),
            (CallError::GatewayBusy { status: 503, retry_after: None }, false),
            (CallError::BadReply(String::new()), true),
            (CallError::NoAnswer(String::new()), false),
        ] {
            assert_eq!(cannot_tell(&error), expected, "{error}");
        }
    }
}
