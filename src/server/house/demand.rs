//! How many newcomers wait for a place, and which guests were asked to make one.

use std::collections::{HashMap, hash_map::Entry};

use tokio::time::Instant;

use super::{ASK_AGAIN, Full};

/// Those who wait and those who were asked, by the bound that leaves no room. There are no more of
/// either than handshakes.
#[derive(Debug, Default)]
pub(super) struct Demand {
    waiting: HashMap<Full, usize>,
    asked: Vec<Asked>,
}

/// A guest that was asked to leave and has not gone.
#[derive(Debug)]
struct Asked {
    guest: u64,
    full: Full,
    at: Instant,
}

impl Demand {
    /// Counts a newcomer that waits.
    pub(super) fn wait(&mut self, full: Full) {
        *self.waiting.entry(full).or_default() += 1;
    }

    /// Counts a newcomer no more.
    pub(super) fn wait_no_more(&mut self, full: Full) {
        if let Entry::Occupied(mut waiting) = self.waiting.entry(full) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }

    /// Whether more newcomers wait than guests are about to leave for them. One that was asked
    /// long ago does not count: it does not go.
    pub(super) fn is_open(&mut self, full: Full, now: Instant) -> bool {
        self.asked.retain(|asked| now.saturating_duration_since(asked.at) < ASK_AGAIN);
        let leaving = self.asked.iter().filter(|asked| asked.full == full).count();
        leaving < self.waiting.get(&full).copied().unwrap_or_default()
    }

    /// Notes a guest that was asked to leave.
    pub(super) fn note_asked(&mut self, guest: u64, full: Full, at: Instant) {
        self.asked.push(Asked { guest, full, at });
    }

    /// Notes a guest that has gone.
    pub(super) fn note_gone(&mut self, guest: u64) {
        self.asked.retain(|asked| asked.guest != guest);
    }
}
