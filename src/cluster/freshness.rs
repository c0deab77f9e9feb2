//! Tells whether what is said again and again is new, or something old that somebody has brought back.

use std::{collections::HashMap, hash::Hash, mem};

use tokio::time::Instant;

/// For each teller, the highest number that it has given to what it told, and when that was first seen here.
///
/// Clocks of replicas and store need not agree for that. Only replicas can seal what they tell, so there are
/// no more tellers than have been. Of those the latest are remembered.
#[derive(Debug)]
pub(super) struct Freshness<K> {
    latest: HashMap<K, Seen>,
    /// The latest of before.
    earlier: HashMap<K, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    at: Instant,
}

/// How many tellers are the latest: far more than tell something at the same time. While a gateway answers no sign-ins, new ones
/// come all day.
const LATEST_MAX: usize = 1 << 14;

impl<K: Copy + Eq + Hash> Freshness<K> {
    pub(super) fn new() -> Self {
        Self { latest: HashMap::new(), earlier: HashMap::new() }
    }

    /// Notes what was told. Returns when its teller last told something new.
    pub(super) fn note(&mut self, teller: K, number: u64) -> Instant {
        let known = self.latest.get(&teller).or_else(|| self.earlier.get(&teller));
        if let Some(seen) = known.filter(|seen| seen.number >= number) {
            return seen.at;
        }
        if self.latest.len() >= LATEST_MAX {
            self.earlier = mem::take(&mut self.latest);
        }
        let at = Instant::now();
        self.latest.insert(teller, Seen { number, at });
        at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_again_is_no_fresher() {
        let (mut fresh, begun) = (Freshness::new(), Instant::now());
        assert_eq!(fresh.note('a', 7), begun);
        tokio::time::advance(Duration::from_secs(1)).await;
        for old in [7, 6, 0] {
            assert_eq!(fresh.note('a', old), begun, "{old}");
        }
        assert_eq!(fresh.note('a', 8), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn of_very_many_tellers_the_latest_are_remembered() {
        let (mut fresh, begun, count) = (Freshness::new(), Instant::now(), 5 * LATEST_MAX);
        for teller in 0..count {
            fresh.note(teller, 1);
        }
        assert!(fresh.latest.len() + fresh.earlier.len() <= 2 * LATEST_MAX);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(fresh.note(count - LATEST_MAX, 1), begun);
        assert_eq!(fresh.note(0, 1), Instant::now(), "it was forgotten");
    }
}
