//! Whether something that is told again and again is told anew, or is an old word of it set back.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// For each teller, the highest number that it has given to what it told, and when that was first seen here.
///
/// Clocks of replicas and store need not agree for that. Only replicas can seal what they tell, so there are
/// no more tellers than have been.
#[derive(Debug)]
pub(super) struct Freshness<K>(HashMap<K, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    at: Instant,
}

/// How long a teller is remembered that tells nothing new. After that, what it has told is not from now.
const REMEMBERED: Duration = Duration::from_secs(2 * 24 * 60 * 60);

impl<K: Copy + Eq + Hash> Freshness<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Notes what was told. Returns when its teller last told something new.
    pub(super) fn note(&mut self, teller: K, number: u64) -> Instant {
        let now = Instant::now();
        let at = match self.0.get(&teller) {
            Some(seen) if seen.number >= number => return seen.at,
            Some(_) => now,
            None => {
                self.0.retain(|_, seen| seen.at.elapsed() < REMEMBERED);
                now
            }
        };
        self.0.insert(teller, Seen { number, at });
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_again_is_no_fresher_and_tellers_are_remembered_for_a_while() {
        let (mut fresh, begun) = (Freshness::new(), Instant::now());
        assert_eq!(fresh.note('a', 7), begun);
        tokio::time::advance(Duration::from_secs(1)).await;
        for old in [7, 6, 0] {
            assert_eq!(fresh.note('a', old), begun, "{old}");
        }
        assert_eq!(fresh.note('a', 8), Instant::now());
        tokio::time::advance(REMEMBERED).await;
        fresh.note('b', 1);
        assert_eq!(fresh.0.len(), 1);
    }
}
