//! The state of a link, for the log, the admin port and the metrics.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::{LinkError, Refusal};
use crate::session::StoreState;

/// The state of a link to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Redis has not been asked yet.
    #[default]
    Unused,
    /// Redis did as it was asked.
    Up,
    /// Redis answers, but refuses something.
    Refusing(Refusal),
    /// Redis did not answer, or could not be reached.
    Down(LinkError),
}

/// The state of a link, and a signal for tasks that wait for it to get worse.
#[derive(Debug, Default)]
pub(super) struct Health {
    now: Mutex<Now>,
    worse: Notify,
}

#[derive(Debug, Default)]
struct Now {
    state: LinkState,
    /// When Redis last refused something.
    refused: Option<Instant>,
    /// When Redis last answered after it had not, or last refused what it does again in a while.
    again: Option<Instant>,
}

/// Redis counts as refusing until it has refused nothing for this time. If its memory is nearly
/// full, it takes some writes and refuses others. If its user lacks some rights, other commands
/// still work.
const REFUSING_FOR: Duration = Duration::from_secs(5);

impl LinkState {
    /// Whether Redis does what it is asked, as far as is known.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Unused | Self::Up)
    }
}

impl From<LinkState> for StoreState {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Unused => Self::Unused,
            LinkState::Up => Self::Up,
            LinkState::Refusing(refusal) => Self::Refusing(refusal.into()),
            LinkState::Down(error) => Self::Down(error.to_string()),
        }
    }
}

impl Health {
    pub(super) fn state(&self) -> LinkState {
        self.now().state.clone()
    }

    /// When the last outage ended, as far as this process knows; `None`: there was none. One in which Redis answers, but
    /// takes no writes for a while, goes on with each refusal.
    pub(super) fn answers_again_since(&self) -> Option<Instant> {
        self.now().again
    }

    /// Waits until Redis goes down or refuses something.
    pub(super) async fn worse(&self) {
        self.worse.notified().await;
    }

    /// Redis did as it was asked.
    pub(super) fn good(&self) {
        let mut now = self.now();
        let is_refusing = now.refused.is_some_and(|at| at.elapsed() < REFUSING_FOR);
        match &now.state {
            LinkState::Up => return,
            LinkState::Refusing(_) if is_refusing => return,
            LinkState::Refusing(_) => info!("Redis refuses nothing any more"),
            LinkState::Down(_) => {
                info!("Redis answers again");
                now.again = Some(Instant::now());
            }
            LinkState::Unused => {}
        }
        now.state = LinkState::Up;
    }

    /// Redis refused something.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let mut now = self.now();
        now.refused = Some(Instant::now());
        if refusal.passes() || matches!(now.state, LinkState::Down(_)) {
            now.again = now.refused;
        }
        if let LinkState::Refusing(known) = &now.state {
            // Refused writes are reported rather than refused reads.
            if known.scope() >= refusal.scope() {
                return;
            }
        } else {
            let (refused, advice) = (refusal.scope(), refusal.advice());
            warn!(error = %refusal, advice, "Redis refuses {refused}; the bridge goes on with the sessions that it knows");
        }
        now.state = LinkState::Refusing(refusal.clone());
        self.worse.notify_waiters();
    }

    /// Redis did not answer.
    pub(super) fn down(&self, error: &LinkError) {
        let mut now = self.now();
        if !matches!(now.state, LinkState::Down(_)) {
            warn!(%error, "Redis does not answer; the bridge goes on with the sessions that it knows");
            self.worse.notify_waiters();
        }
        now.state = LinkState::Down(error.clone());
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::session::Scope;

    fn refusal(scope: Scope) -> Refusal {
        let code = if scope == Scope::Writes { "OOM" } else { "NOPERM" };
        Refusal::for_tests(code, scope)
    }

    fn name(health: &Health) -> &'static str {
        StoreState::from(health.state()).as_str()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_over_when_nothing_has_been_refused_for_a_while() {
        let health = Health::default();
        health.refused(&refusal(Scope::Writes));
        for _ in 0..10 {
            advance(REFUSING_FOR / 2).await;
            health.good();
            assert_eq!(health.state(), LinkState::Refusing(refusal(Scope::Writes)));
            health.refused(&refusal(Scope::Reads));
        }
        assert_eq!(name(&health), "refuses_writes");
        advance(REFUSING_FOR).await;
        health.good();
        assert_eq!(health.state(), LinkState::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_worked_is_not_said_to_be_unused() {
        let health = Health::default();
        health.refused(&refusal(Scope::Reads));
        assert_eq!(name(&health), "refuses_reads");
        health.refused(&refusal(Scope::Writes));
        assert_eq!(name(&health), "refuses_writes");
        health.down(&LinkError::Down("gone".into()));
        assert_eq!(name(&health), "down");
        health.good();
        assert_eq!(name(&health), "up");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_to_whoever_waits_for_it() {
        use futures_util::FutureExt as _;
        let (log, health) = (crate::telemetry::log::captured::Captured::start(), Health::default());
        let down = || LinkError::Down("gone".into());
        assert!(health.state().is_good());
        for (outages, is_told) in [(1, true), (1, false), (2, true)] {
            let mut worse = Box::pin(health.worse());
            assert!(worse.as_mut().now_or_never().is_none());
            health.down(&down());
            assert!(!health.state().is_good());
            assert_eq!(worse.as_mut().now_or_never().is_some(), is_told);
            assert_eq!(log.with("Redis does not answer").len(), outages);
            if outages == 1 && !is_told {
                health.good();
                assert_eq!(log.with("Redis answers again").len(), 1);
            }
        }
        health.refused(&refusal(Scope::Writes));
        assert!(!health.state().is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_since_when_redis_answers_again() {
        let health = Health::default();
        health.good();
        health.refused(&refusal(Scope::Reads));
        assert_eq!(health.answers_again_since(), None, "it has answered all the time");
        for is_refused in [false, true] {
            health.down(&LinkError::Down("gone".into()));
            advance(REFUSING_FOR).await;
            if is_refused {
                health.refused(&refusal(Scope::Reads));
            } else {
                health.good();
            }
            let again = Instant::now();
            assert_eq!(health.answers_again_since(), Some(again));
            advance(REFUSING_FOR).await;
            health.refused(&refusal(Scope::Reads));
            health.good();
            assert_eq!(health.answers_again_since(), Some(again), "it has not been away since");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_refuses_what_it_does_again_in_a_while_is_away_until_it_does() {
        for (code, is_down_before) in [("LOADING", true), ("LOADING", false), ("OOM", false)] {
            let health = Health::default();
            if is_down_before {
                health.down(&LinkError::Down("gone".into()));
            }
            for _ in 0..10 {
                advance(REFUSING_FOR).await;
                health.refused(&Refusal::for_tests(code, Scope::Reads));
                assert_eq!(health.answers_again_since(), Some(Instant::now()), "{code}");
                // Reads may work all the time, and prove nothing.
                health.good();
            }
            let again = Instant::now();
            advance(REFUSING_FOR).await;
            health.good();
            assert_eq!(health.answers_again_since(), Some(again), "{code}");
        }
    }
}
