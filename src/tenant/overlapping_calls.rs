//! Sends one request of a call, and repeats it if another call for the agent was in its way
//! (000-007).
//!
//! This replica makes one call at a time for an agent. But another replica may have a call open, or
//! the gateway may still be processing one that was given up. The gateway then refuses the later
//! request with 000-007, which promises that it did nothing. So the bridge waits and asks again.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{admitted_call::AdmittedCall, repeats::Repeat};
use crate::{
    call::{CallError, Stage, Untouched, Wait},
    gateway::{Closing, Command, Reply, Request},
    session::Session,
};

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
            if self.sent.is_some() && stage != Stage::ReadBack {
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
        let mut seat = tenant.admission.seat(place.as_mut(), turn, (patience, &tenant.repeats));
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
        let due = pauses.next();
        let in_time = due <= pauses.until && self.caller_wait.lasts_until(due);
        if !in_time || !tenant.repeats.may(Repeat::Overlap) {
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

    /// The end of the next pause. With jitter, so that two replicas do not collide again and again.
    fn next(&mut self) -> Instant {
        let pause = self.next.mul_f64(rand::rng().random_range(0.5..1.0));
        self.next = (self.next * 2).min(PAUSE_MAX);
        Instant::now() + pause
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
            let (pause, longest) = (pauses.next() - Instant::now(), Duration::from_millis(millis));
            assert!((longest / 2..longest).contains(&pause), "{pause:?} of {longest:?}");
        }
    }
}
