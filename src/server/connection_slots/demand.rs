//! How many new connections wait for a slot, and which connections were evicted for them.

use std::collections::{HashMap, hash_map::Entry};

use tokio::time::Instant;

use super::{EVICT_AGAIN, Full};

/// Waiting and evicted connections, by the limit that they are about. There are never more of
/// either than handshakes.
#[derive(Debug, Default)]
pub(super) struct Demand {
    waiting: HashMap<Full, usize>,
    evicted: Vec<Evicted>,
}

/// A connection that was evicted and has not ended yet.
#[derive(Debug)]
struct Evicted {
    number: u64,
    full: Full,
    at: Instant,
}

impl Demand {
    /// Counts a connection that waits.
    pub(super) fn wait(&mut self, full: Full) {
        *self.waiting.entry(full).or_default() += 1;
    }

    /// Stops counting a connection that waited.
    pub(super) fn stop_waiting(&mut self, full: Full) {
        if let Entry::Occupied(mut waiting) = self.waiting.entry(full) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }

    /// Whether more connections wait than are ending for them. One that was evicted longer ago than
    /// [`EVICT_AGAIN`] does not count, since it seems not to end.
    pub(super) fn wants_more(&mut self, full: Full, now: Instant) -> bool {
        self.evicted.retain(|evicted| now.saturating_duration_since(evicted.at) < EVICT_AGAIN);
        let ending = self.evicted.iter().filter(|evicted| evicted.full == full).count();
        ending < self.waiting.get(&full).copied().unwrap_or_default()
    }

    /// Notes a connection that was evicted.
    pub(super) fn note_evicted(&mut self, number: u64, full: Full, at: Instant) {
        self.evicted.push(Evicted { number, full, at });
    }

    /// Notes a connection that has ended.
    pub(super) fn note_gone(&mut self, number: u64) {
        self.evicted.retain(|evicted| evicted.number != number);
    }
}
