//! Requests that a connection has brought, and those that a service has seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts both. h2 refuses some requests by itself, and tells hyper nothing of them: they are what is
/// missing.
#[derive(Debug, Default)]
pub(super) struct Heads {
    brought: AtomicU64,
    seen: AtomicU64,
    /// Whether a write stands still. h2 then looks at nothing that it has read.
    is_stalled: AtomicBool,
}

impl Heads {
    /// The heads of so many requests have come.
    pub(super) fn bring(&self, count: u64) {
        self.brought.fetch_add(count, Ordering::Relaxed);
    }

    /// A service sees a request.
    pub(super) fn see(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether a write stands still.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// How many requests no service has seen. While a write stands still, some of them may yet be
    /// seen; `None` then.
    pub(super) fn missing(&self) -> Option<u64> {
        let is_stalled = self.is_stalled.load(Ordering::Relaxed);
        (!is_stalled).then(|| self.missing_in_the_end())
    }

    /// The same of a connection that has ended.
    pub(super) fn missing_in_the_end(&self) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        self.brought.load(Ordering::Relaxed).saturating_sub(seen)
    }
}
