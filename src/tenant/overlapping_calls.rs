//! Sends one request of a call, and repeats it if another call for the agent was in its way
//! (000-007).
//!
//! This replica makes one call at a time for an agent. But another replica may have a call open, or
//! the gateway may still be processing one that was given up. The gateway then refuses the later
//! request with 000-007, which promises that it did nothing. So the bridge waits and asks again.

use std::{
    num::NonZeroUsize,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::admitted_call::AdmittedCall;
use crate::{
    call::{CallError, Stage, Untouched, Wait},
    gateway::{Closing, Command, Reply, Request},
    session::Session,
};

/// Limits the repeated requests of one tenant, for all agents together (token bucket): per second
/// as many as it may have requests at once, and twice as many in a burst.
#[derive(Debug)]
pub(super) struct RepeatBudget {
    per_second: f64,
    /// How many repeats are left, and when that was computed.
    left: Mutex<(f64, Instant)>,
}

/// The growing pauses before each repeat of a request.
struct Pauses {
    next: Duration,
    /// When to stop repeating: no other call of this interface can still be open then.
    until: Instant,
}

const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(320);

impl AdmittedCall {
    /// Sends a request with a session or with a body, and reads its answer. Repeats it while
    /// another call for the agent is in its way, and there is time and budget.
    pub(super) async fn ask(
        &mut self,
        command: &Command,
        (session, body): (Option<&Session>, Option<Bytes>),
        stage: Stage,
        mut untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let mut pauses = None;
        if let Some(given_up) = self.turn.take_closing() {
            Box::pin(self.wait_for_end(given_up, &untouched)).await?;
        }
        loop {
            let reply = self.ask_once(command, (session, body.clone()), stage, untouched).await?;
            let node = || session.and_then(|session| session.guid.node());
            match reply.is_overlap().then(|| reply.refusal(node())).flatten() {
                Some(overlap) => untouched = Untouched::after(overlap),
                None => return Ok(reply),
            }
            let limit = command.interface.time_limit(&self.tenant.config.timeouts);
            let pauses = pauses.get_or_insert_with(|| Pauses::within(limit));
            if !Box::pin(self.pause(pauses, &untouched)).await {
                return Ok(reply);
            }
            if self.sent.is_some() {
                // Events until now may come from the other call.
                self.sent = Some(self.tenant.events.moment());
            }
        }
    }

    async fn ask_once(
        &mut self,
        command: &Command,
        (session, body): (Option<&Session>, Option<Bytes>),
        stage: Stage,
        untouched: Untouched,
    ) -> Result<Reply, CallError> {
        let patience = self.patience(self.wait);
        let Self { tenant, agent, caller_wait, request: place, turn, trace, .. } = self;
        let mut seat = tenant.admission.seat(place.as_mut(), turn, patience);
        let (agent, trace) = (*agent, trace.clone());
        let request = Request { command, agent, session, body, stage, trace };
        tenant.gateway.exchange(request, caller_wait, &mut seat, untouched).await
    }

    /// Waits until the gateway has noticed that this call's last request (such as a reset of the
    /// agent's skills) was given up. Otherwise it would refuse the next request, or carry it out
    /// first.
    async fn wait_for_end(
        &mut self,
        given_up: Closing,
        untouched: &Untouched,
    ) -> Result<(), CallError> {
        let mut noticed = pin!(given_up.noticed());
        tokio::select! {
            biased;
            () = &mut noticed => Ok(()),
            abandoned = self.caller_wait.abandoned() => {
                let goes_on = self.caller_wait.goes_on(abandoned, Wait::Queue, untouched);
                let error = untouched.because(abandoned.before(Wait::Queue));
                if !goes_on {
                    self.caller_wait.answer(error.clone());
                }
                // Also where the caller has been answered: the agent's next call must wait for it,
                // too.
                noticed.await;
                if goes_on { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Waits before a request is repeated. Returns `false` if time or budget do not suffice.
    async fn pause(&mut self, pauses: &mut Pauses, untouched: &Untouched) -> bool {
        let tenant = self.tenant.clone();
        let (now, due) = pauses.next();
        let in_time = due <= pauses.until && self.caller_wait.lasts_until(due);
        if !in_time || !tenant.repeats.take(now) {
            return false;
        }
        debug!(ccgw.tenant.id = %tenant.id, ccgw.agent.id = %self.agent, "another call for the agent is open at the gateway: asking again in a moment");
        // No request is open during the pause, so its place is free for others.
        let held = self.request.take().is_some();
        let waited =
            self.caller_wait.before_sending(untouched, Wait::Queue, sleep_until(due)).await;
        if waited.is_err() {
            return false;
        }
        !held || self.take_place(self.wait, untouched).await.is_ok()
    }
}

// === impl Pauses ===

impl Pauses {
    fn within(limit: Duration) -> Self {
        Self { next: PAUSE_FIRST, until: Instant::now() + limit }
    }

    /// The current time, and the end of the next pause. With jitter, so that two replicas do not
    /// collide again and again.
    fn next(&mut self) -> (Instant, Instant) {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(PAUSE_MAX);
        let now = Instant::now();
        (now, now + pause)
    }
}

// === impl RepeatBudget ===

impl RepeatBudget {
    /// A full budget for a tenant that may have this many requests at once.
    pub(super) fn new(requests: NonZeroUsize) -> Self {
        let per_second = f64::from(u32::try_from(requests.get()).unwrap_or(u32::MAX));
        Self { per_second, left: Mutex::new((per_second * 2.0, Instant::now())) }
    }

    /// Takes one repeat from the budget; `false` if none is left.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, at) = *left;
        let refilled = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        let amount = (known + refilled).min(self.per_second * 2.0);
        let there_is = amount >= 1.0;
        *left = (if there_is { amount - 1.0 } else { amount }, now.max(at));
        there_is
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_before_a_repetition_double_and_end_with_the_limit() {
        let limit = Duration::from_secs(8);
        let mut pauses = Pauses::within(limit);
        assert_eq!(pauses.until, Instant::now() + limit);
        for millis in [10, 20, 40, 80, 160, 320, 320] {
            let (now, due) = pauses.next();
            let (pause, longest) = (due - now, Duration::from_millis(millis));
            assert!((longest / 2..longest).contains(&pause), "{pause:?} of {longest:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_come_from_a_budget_that_fills_up_again() {
        let budget = RepeatBudget::new(NonZeroUsize::new(3).expect("not zero"));
        let burst = |at| (0..100).filter(|_| budget.take(at)).count();
        let begun = Instant::now();
        assert_eq!(burst(begun), 6);
        assert_eq!(burst(begun + Duration::from_secs(1)), 3);
        assert_eq!(burst(begun + Duration::from_secs(60)), 6);
        assert_eq!(burst(begun), 0, "a clock that was read earlier brings nothing");
    }
}
