//! The state of a link, for the log, the admin port and the metrics.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::{
    LinkError, Refusal,
    keys_outage::{KeysOutage, REFUSING_FOR, latest},
};
use crate::session::{LastOutage, StoreState};

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
    /// How long an attempt to ask Redis may take.
    attempt: Duration,
}

#[derive(Debug, Default)]
struct Now {
    state: LinkState,
    /// When Redis last refused something.
    refused: Option<Instant>,
    /// When Redis last answered.
    answered: Option<Instant>,
    /// Since when Redis may be away, if it does not answer: nobody knows when after its last answer that began.
    down_since: Option<Instant>,
    /// The last time that Redis did not answer. What it refuses is an outage for some keys only.
    outage: Option<LastOutage>,
    /// Why a server last did not answer while others did, and when.
    silence: Option<(LinkError, Instant)>,
}

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
    /// Nothing is known yet. An attempt to ask Redis may take so long.
    pub(super) fn new(attempt: Duration) -> Self {
        Self { attempt, ..Self::default() }
    }

    pub(super) fn state(&self) -> LinkState {
        self.now().state.clone()
    }

    /// The same for people: a server that does not answer is told of, though others do.
    pub(super) fn shown(&self) -> LinkState {
        let now = self.now();
        match &now.silence {
            Some((error, at)) if !now.is_down() && at.elapsed() < self.told_for() => {
                LinkState::Down(error.clone())
            }
            _ => now.state.clone(),
        }
    }

    /// For how long a server that does not answer is told of. It is asked again about once a second, and each time that may
    /// take as long as an attempt.
    fn told_for(&self) -> Duration {
        REFUSING_FOR + self.attempt
    }

    /// The last outage for these keys, as far as this process knows; `None`: there was none.
    pub(super) fn last_outage(&self, keys: &KeysOutage) -> Option<LastOutage> {
        let common = self.now().outage;
        keys.last(common)
    }

    /// Waits until Redis goes down or refuses something.
    pub(super) async fn worse(&self) {
        self.worse.notified().await;
    }

    /// Redis did as it was asked.
    pub(super) fn good(&self) {
        let mut now = self.now();
        now.answered = Some(Instant::now());
        let is_refusing = now.refused.is_some_and(|at| at.elapsed() < REFUSING_FOR);
        match &now.state {
            LinkState::Up => return,
            LinkState::Refusing(_) if is_refusing => return,
            LinkState::Refusing(_) => info!("Redis refuses nothing any more"),
            LinkState::Down(_) => {
                info!("Redis answers again");
                now.was_away(self.attempt);
            }
            LinkState::Unused => {}
        }
        now.state = LinkState::Up;
    }

    /// Redis refused something to a request for these keys.
    pub(super) fn refused(&self, refusal: &Refusal, keys: &KeysOutage) {
        let mut now = self.now();
        let answered = Some(Instant::now());
        (now.refused, now.answered) = (answered, answered);
        if now.is_down() {
            now.was_away(self.attempt);
        }
        if !refusal.is_about_one_key() {
            keys.refused(refusal);
        }
        if refusal.passes() {
            keys.goes_on(now.outage, self.attempt);
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

    /// The server of these keys has answered, with whatever.
    pub(super) fn heard(&self, keys: &KeysOutage) {
        if keys.answered(self.attempt) && self.now().silence.take().is_some() {
            info!("the node of the Redis cluster answers again");
        }
    }

    /// The server of these keys does not answer, while others do.
    pub(super) fn silent(&self, error: &LinkError, keys: &KeysOutage) {
        if keys.silent(error, self.attempt) {
            self.worse.notify_waiters();
        }
        let mut now = self.now();
        let before = now.silence.replace((error.clone(), Instant::now()));
        if before.is_none_or(|(_, at)| at.elapsed() >= self.told_for()) {
            warn!(%error, "a node of the Redis cluster does not answer; for tenants whose keys it has, the bridge goes on with the sessions that it knows");
        }
    }

    /// Redis did not answer.
    pub(super) fn down(&self, error: &LinkError) {
        let mut now = self.now();
        let answered = now.answered;
        now.down_since.get_or_insert_with(|| answered.unwrap_or_else(Instant::now));
        if !now.is_down() {
            warn!(%error, "Redis does not answer; the bridge goes on with the sessions that it knows");
            self.worse.notify_waiters();
        }
        now.state = LinkState::Down(error.clone());
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn is_down(&self) -> bool {
        matches!(self.state, LinkState::Down(_))
    }

    /// Redis answers, and did not until now.
    fn was_away(&mut self, attempt: Duration) {
        let until = Instant::now();
        let since = |begun| until.saturating_duration_since(begun);
        let length = self.down_since.take().map_or(Duration::ZERO, since);
        self.outage = latest(self.outage, Some(LastOutage { until, length, attempt }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::{cluster::redis::keys_outage::SAME_OUTAGE, session::Scope};

    fn refusal(scope: Scope) -> Refusal {
        let code = if scope == Scope::Writes { "OOM" } else { "NOPERM" };
        Refusal::for_tests(code, scope)
    }

    impl Health {
        fn refused_somewhere(&self, refusal: &Refusal) {
            self.refused(refusal, &KeysOutage::default());
        }
    }

    fn name(health: &Health) -> &'static str {
        StoreState::from(health.state()).as_str()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_over_when_nothing_has_been_refused_for_a_while() {
        let health = Health::default();
        health.refused_somewhere(&refusal(Scope::Writes));
        for _ in 0..10 {
            advance(REFUSING_FOR / 2).await;
            health.good();
            assert_eq!(health.state(), LinkState::Refusing(refusal(Scope::Writes)));
            health.refused_somewhere(&refusal(Scope::Reads));
        }
        assert_eq!(name(&health), "refuses_writes");
        advance(REFUSING_FOR).await;
        health.good();
        assert_eq!(health.state(), LinkState::Up);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_worked_is_not_said_to_be_unused() {
        let health = Health::default();
        health.refused_somewhere(&refusal(Scope::Reads));
        assert_eq!(name(&health), "refuses_reads");
        health.refused_somewhere(&refusal(Scope::Writes));
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
        health.refused_somewhere(&refusal(Scope::Writes));
        assert!(!health.state().is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_is_told_of_once_however_long_its_answers_are_waited_for() {
        let log = crate::telemetry::log::captured::Captured::start();
        let attempt = REFUSING_FOR * 4;
        let (health, keys) = (Health::new(attempt), KeysOutage::default());
        let silent = LinkError::Silent(attempt);
        health.good();
        for _ in 0..3 {
            health.silent(&silent, &keys);
            advance(attempt).await;
            assert_eq!(health.shown(), LinkState::Down(silent.clone()));
        }
        assert_eq!(log.with("does not answer").len(), 1);
        health.heard(&keys);
        assert_eq!(health.shown(), LinkState::Up);
        health.silent(&silent, &keys);
        advance(attempt + REFUSING_FOR).await;
        assert_eq!(health.shown(), LinkState::Up, "nobody asks any more");
    }

    fn gone() -> LinkError {
        LinkError::Down("gone".into())
    }

    fn outage(length: Duration) -> LastOutage {
        LastOutage { until: Instant::now(), length, attempt: Duration::ZERO }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_until_when_redis_was_away_and_for_how_long() {
        let (health, keys) = (Health::default(), KeysOutage::default());
        health.good();
        health.refused(&refusal(Scope::Reads), &keys);
        assert_eq!(health.last_outage(&keys), None, "it has answered all the time");
        for is_refused in [false, true] {
            health.down(&gone());
            advance(SAME_OUTAGE).await;
            health.down(&gone());
            advance(SAME_OUTAGE).await;
            if is_refused {
                health.refused(&refusal(Scope::Reads), &keys);
            } else {
                health.good();
            }
            let expected = Some(outage(2 * SAME_OUTAGE));
            assert_eq!(health.last_outage(&keys), expected);
            advance(REFUSING_FOR).await;
            health.refused(&refusal(Scope::Reads), &keys);
            health.good();
            assert_eq!(health.last_outage(&keys), expected, "it has not been away since");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_refuses_what_it_does_again_in_a_while_is_away_until_it_does() {
        for (code, is_down_before) in [("LOADING", true), ("LOADING", false), ("OOM", false)] {
            let (health, keys) = (Health::default(), KeysOutage::default());
            let begun = Instant::now();
            if is_down_before {
                health.down(&gone());
                advance(REFUSING_FOR).await;
            }
            for _ in 0..10 {
                health.refused(&Refusal::for_tests(code, Scope::Reads), &keys);
                assert_eq!(health.last_outage(&keys), Some(outage(begun.elapsed())), "{code}");
                // Reads may work all the time, and prove nothing.
                health.good();
                advance(SAME_OUTAGE).await;
            }
            let expected = health.last_outage(&keys);
            advance(REFUSING_FOR).await;
            health.good();
            assert_eq!(health.last_outage(&keys), expected, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_fails_now_and_then_has_many_short_outages() {
        let (health, keys) = (Health::default(), KeysOutage::default());
        let short = Duration::from_millis(300);
        for _ in 0..10 {
            health.good();
            health.down(&gone());
            advance(short).await;
            health.good();
            assert_eq!(health.last_outage(&keys), Some(outage(short)));
            advance(REFUSING_FOR).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_counts_from_the_last_answer_before_it() {
        let (health, keys) = (Health::default(), KeysOutage::default());
        let unanswered = Duration::from_millis(500);
        for is_refused in [false, true] {
            advance(REFUSING_FOR).await;
            if is_refused {
                health.refused(&refusal(Scope::Reads), &keys);
            } else {
                health.good();
            }
            advance(unanswered).await;
            health.down(&gone());
            advance(unanswered).await;
            health.good();
            assert_eq!(health.last_outage(&keys), Some(outage(2 * unanswered)), "{is_refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_of_one_outage_also_where_each_attempt_takes_its_longest() {
        let attempt = REFUSING_FOR;
        let (health, keys, begun) = (Health::new(attempt), KeysOutage::default(), Instant::now());
        for _ in 0..10 {
            health.refused(&Refusal::for_tests("LOADING", Scope::Reads), &keys);
            let (until, length) = (Instant::now(), begun.elapsed());
            assert_eq!(health.last_outage(&keys), Some(LastOutage { until, length, attempt }));
            advance(SAME_OUTAGE + attempt).await;
        }
    }
}
