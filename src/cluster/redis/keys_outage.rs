use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{LinkError, Refusal};
use crate::session::LastOutage;

/// The last outage for keys that are at one server, what it refuses, and whether it answers, as met by those who ask for them.
/// A server that refuses for a while what it is asked is as good as away, but for its own keys only.
#[derive(Debug, Default)]
pub(super) struct KeysOutage(Mutex<Met>);

/// What was met when these keys were asked for.
#[derive(Debug, Default)]
struct Met {
    outage: Option<LastOutage>,
    /// What was refused last, of whatever kind, and when.
    refused: Option<(Refusal, Instant)>,
    silence: Option<Silence>,
    /// When the server answered last.
    answered: Option<Instant>,
}

/// The server does not answer, while others do.
#[derive(Debug)]
struct Silence {
    error: LinkError,
    /// Since when it may not answer: nobody knows when after its last answer that began.
    since: Instant,
    /// When that was noticed first.
    noticed: Instant,
    /// Until then it is not asked again but by a probe.
    known_until: Instant,
}

/// A server counts as refusing until it has refused nothing for this time. If its memory is nearly full, it takes some writes
/// and refuses others. If its user lacks some rights, other commands still work.
pub(super) const REFUSING_FOR: Duration = Duration::from_secs(5);

/// If Redis is away again after at most this time and that of an attempt, that is still the same outage: while it refuses, it is
/// tried again about once a second.
pub(super) const SAME_OUTAGE: Duration = Duration::from_secs(2);

impl KeysOutage {
    /// The server refuses for a while, and did until now. `common` is the last outage for all keys. It is taken in, since it
    /// may be what joins this refusal to an earlier one.
    pub(super) fn goes_on(&self, common: Option<LastOutage>, attempt: Duration) {
        let (until, length) = (Instant::now(), Duration::ZERO);
        let mut met = self.lock();
        let before = latest(met.outage, common);
        met.outage = latest(before, Some(LastOutage { until, length, attempt }));
    }

    /// The server refuses something, though not for one key alone.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let mut met = self.lock();
        // Refused writes are reported rather than refused reads.
        let known = met.refusing().filter(|known| known.scope() > refusal.scope());
        let told = known.unwrap_or(refusal).clone();
        met.refused = Some((told, Instant::now()));
    }

    /// The server has answered, with whatever. Returns whether it did not before, while others did.
    pub(super) fn answered(&self, attempt: Duration) -> bool {
        let (mut met, until) = (self.lock(), Instant::now());
        met.answered = Some(until);
        let Some(Silence { since, .. }) = met.silence.take() else { return false };
        let length = until.saturating_duration_since(since);
        met.outage = latest(met.outage, Some(LastOutage { until, length, attempt }));
        true
    }

    /// The server does not answer, while others do. Returns whether that is news.
    pub(super) fn silent(&self, error: &LinkError, attempt: Duration) -> bool {
        let (mut met, now) = (self.lock(), Instant::now());
        let (error, known_until) = (error.clone(), now + SAME_OUTAGE + attempt);
        let before = met.silence.take().map(|before| (before.since, before.noticed));
        let (since, noticed) = before.unwrap_or((met.answered.unwrap_or(now), now));
        met.silence = Some(Silence { error, since, noticed, known_until });
        before.is_none()
    }

    /// Why the server is known not to answer, while others do.
    pub(super) fn silence(&self) -> Option<LinkError> {
        let met = self.lock();
        let silence = met.silence.as_ref().filter(|it| Instant::now() < it.known_until)?;
        Some(silence.error.clone())
    }

    /// How long ago it was noticed that the server does not answer.
    pub(super) fn silent_for(&self) -> Duration {
        self.lock().silence.as_ref().map_or(Duration::ZERO, |silence| silence.noticed.elapsed())
    }

    /// What is refused for these keys; `None`: nothing has been for a while.
    pub(super) fn refusing(&self) -> Option<Refusal> {
        self.lock().refusing().cloned()
    }

    /// The last outage for these keys, where `common` is that for all.
    pub(super) fn last(&self, common: Option<LastOutage>) -> Option<LastOutage> {
        latest(self.lock().outage, common)
    }

    fn lock(&self) -> MutexGuard<'_, Met> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn refusing(&self) -> Option<&Refusal> {
        let (refusal, at) = self.refused.as_ref()?;
        (at.elapsed() < REFUSING_FOR).then_some(refusal)
    }
}

/// The later one of two outages, or both together if they are the same.
pub(super) fn latest(one: Option<LastOutage>, other: Option<LastOutage>) -> Option<LastOutage> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let (earlier, later) = if one.until <= other.until { (one, other) } else { (other, one) };
    let between_ends = later.until.saturating_duration_since(earlier.until);
    if between_ends.saturating_sub(later.length) > SAME_OUTAGE + later.attempt {
        return Some(later);
    }
    let length = later.length.max(between_ends + earlier.length);
    Some(LastOutage { length, ..later })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::session::Scope;

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(60);

    /// An outage until now.
    fn outage(length: Duration) -> LastOutage {
        LastOutage { until: Instant::now(), length, attempt: SECOND }
    }

    #[tokio::test(start_paused = true)]
    async fn two_outages_are_one_if_no_more_than_an_attempt_and_a_moment_is_between_them() {
        let most = SAME_OUTAGE + SECOND;
        let only = Some(outage(SECOND));
        assert_eq!((latest(only, None), latest(None, only)), (only, only));
        // How much is between them, how long the later one lasted, and how long that lasted which is told of.
        for (between, length, told) in [
            (most, SECOND, most + SECOND * 2),
            (most + SECOND, SECOND, SECOND),
            (Duration::ZERO, Duration::ZERO, SECOND),
            (Duration::ZERO, LONG, SECOND + LONG),
        ] {
            let earlier = Some(outage(SECOND));
            advance(between + length).await;
            let (later, told) = (Some(outage(length)), Some(outage(told)));
            assert_eq!(latest(earlier, later), told, "{between:?} {length:?}");
            assert_eq!(latest(later, earlier), told, "{between:?} {length:?}");
        }
        let (earlier, longer) = (Some(outage(SECOND)), Some(outage(LONG)));
        assert_eq!(latest(earlier, longer), longer, "it had begun before the other");
    }

    #[tokio::test(start_paused = true)]
    async fn what_joins_two_refusals_may_be_an_outage_for_all_keys() {
        let (keys, begun) = (KeysOutage::default(), Instant::now());
        keys.goes_on(None, SECOND);
        advance(SECOND + LONG).await;
        let common = Some(outage(LONG));
        assert_eq!(keys.last(common), Some(outage(begun.elapsed())));
        advance(SECOND).await;
        keys.goes_on(common, SECOND);
        advance(SECOND).await;
        let another = Some(outage(Duration::ZERO));
        assert_eq!(keys.last(another), Some(outage(begun.elapsed())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_known_for_a_while_and_writes_come_before_reads() {
        let keys = KeysOutage::default();
        let reads = Refusal::for_tests("NOPERM", Scope::Reads);
        let writes = Refusal::for_tests("OOM", Scope::Writes);
        assert_eq!(keys.refusing(), None);
        for (refused, told) in [(&reads, &reads), (&writes, &writes), (&reads, &writes)] {
            advance(REFUSING_FOR.saturating_sub(SECOND)).await;
            keys.refused(refused);
            assert_eq!(keys.refusing().as_ref(), Some(told));
        }
        advance(REFUSING_FOR).await;
        assert_eq!(keys.refusing(), None);
        keys.refused(&reads);
        assert_eq!(keys.refusing(), Some(reads));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_away_from_its_last_answer_to_its_next() {
        let (keys, error) = (KeysOutage::default(), LinkError::Silent(SECOND));
        assert!(!keys.answered(SECOND) && keys.silence().is_none());
        advance(SECOND).await;
        for turn in 0..3 {
            assert_eq!(keys.silent(&error, SECOND), turn == 0);
            assert_eq!(keys.silence(), Some(error.clone()));
            advance(SECOND).await;
        }
        assert_eq!((keys.silent_for(), keys.last(None)), (SECOND * 3, None));
        assert!(keys.answered(SECOND));
        assert_eq!(keys.last(None), Some(outage(SECOND * 4)));
        assert_eq!((keys.silence(), keys.silent_for()), (None, Duration::ZERO));
        assert!(keys.silent(&error, SECOND));
        advance(SAME_OUTAGE + SECOND).await;
        assert_eq!(keys.silence(), None, "others than probes ask again");
    }
}
