//! How many requests and resets a caller may send a second on one connection.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

/// A limit for each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_second: NonZeroUsize,
    /// How many may come at once after a second without any.
    at_once: u64,
    /// How many may in any case.
    least_at_once: u64,
}

/// What is left of a [`Rate`] on one connection. It is a bucket of tokens, stored as the one time at which
/// it will be full again.
#[derive(Debug)]
pub(super) struct TokenBucket {
    rate: Rate,
    began: Instant,
    /// In nanoseconds after `began`.
    full_at: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

impl Rate {
    /// The rate for connections with so many streams. What comes in a second may come at once, and so may
    /// one for each stream, since a caller may begin or cancel all of them together.
    pub(super) fn new(per_second: NonZeroUsize, streams: u32) -> Self {
        let least_at_once = u64::from(streams);
        let at_once = least_at_once.max(per_second.get() as u64);
        Self { per_second, at_once, least_at_once }
    }

    /// The same rate, but only one for each stream at once.
    pub(super) fn least(self) -> Self {
        Self { at_once: self.least_at_once, ..self }
    }

    /// The time in which so many come back.
    fn time_of(self, count: u64) -> u64 {
        count.saturating_mul(SECOND) / self.per_second.get() as u64
    }
}

impl TokenBucket {
    /// The limit of a connection that begins now.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, began: Instant::now(), full_at: AtomicU64::default() }
    }

    /// How many come back in a second.
    pub(super) fn per_second(&self) -> NonZeroUsize {
        self.rate.per_second
    }

    /// Takes so many. Returns false if there are not so many left; then none is taken.
    ///
    /// Only the connection's own task calls this, so a load and a store are enough.
    pub(super) fn take(&self, count: u64, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.began).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let full_at = self.full_at.load(Ordering::Relaxed).max(now);
        let full_at = full_at.saturating_add(self.rate.time_of(count));
        let is_there = full_at - now <= self.rate.time_of(self.rate.at_once);
        if is_there {
            self.full_at.store(full_at, Ordering::Relaxed);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(per_second: usize, streams: u32) -> TokenBucket {
        TokenBucket::new(Rate::new(NonZeroUsize::new(per_second).expect("not zero"), streams))
    }

    /// How many can be taken now, one by one.
    fn left(limit: &TokenBucket) -> usize {
        let now = Instant::now();
        (0..10_000_000).take_while(|_| limit.take(1, now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn at_once_may_come_what_comes_in_a_second_or_one_for_each_stream() {
        for (per_second, streams, at_once) in
            [(1, 1, 1), (1, 100, 100), (7, 3, 7), (1000, 100, 1000), (1_000_000, 100, 1_000_000)]
        {
            let limit = limit(per_second, streams);
            assert_eq!(left(&limit), at_once);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(left(&limit), per_second, "what a second gives back");
            tokio::time::advance(Duration::from_secs(1000)).await;
            assert_eq!(left(&limit), at_once, "no more than there ever is");
            let least = TokenBucket::new(limit.rate.least());
            assert_eq!(left(&least), streams as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_are_taken_together_or_not_at_all() {
        let limit = limit(10, 1);
        assert!(!limit.take(11, Instant::now()));
        assert!(limit.take(10, Instant::now()));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(!limit.take(4, Instant::now()));
        assert!(limit.take(3, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_keeps_to_the_rate_is_never_refused() {
        for per_second in [1, 3, 1000, 20_000, 1_000_000] {
            let limit = limit(per_second, 1);
            let (begun, count) = (Instant::now(), 10_000);
            for number in 0..count {
                let due = begun + Duration::from_secs(number) / u32::try_from(per_second).unwrap();
                assert!(limit.take(1, due), "{number} at {per_second} a second");
            }
        }
    }
}
