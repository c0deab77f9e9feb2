//! Counts the requests that a connection has received and those that a service has got, and what its
//! streams have been sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::frame_budget::{OF_DATA, OF_PIECE, OF_REQUEST};

/// Counts both. h2 refuses some requests by itself and does not tell hyper. The difference shows
/// how many.
#[derive(Debug, Default)]
pub(super) struct RequestCounts {
    received: AtomicU64,
    dispatched: AtomicU64,
    /// What the messages of streams give back to the budget of frames.
    streamed: AtomicU64,
    /// Whether a write to the socket is blocked. While it is, h2 does not process what it has read.
    is_stalled: AtomicBool,
}

impl RequestCounts {
    /// Counts requests that were received.
    pub(super) fn note_received(&self, count: u64) {
        self.received.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a request that a service has got.
    pub(super) fn note_dispatched(&self) {
        self.dispatched.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message of so many bytes that a stream sends.
    pub(super) fn note_streamed(&self, bytes: usize) {
        let given_back = OF_PIECE + bytes as u64 / OF_DATA;
        self.streamed.fetch_add(given_back, Ordering::Relaxed);
    }

    /// What calls give back to the budget of frames, since the connection began.
    pub(super) fn progress(&self) -> u64 {
        let dispatched = self.dispatched.load(Ordering::Relaxed);
        dispatched * OF_REQUEST + self.streamed.load(Ordering::Relaxed)
    }

    /// Notes whether a write is blocked.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Whether a write is blocked, perhaps in the middle of a frame.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// How many requests no service has got. `None` while a write is blocked, since h2 may yet pass
    /// some of them on.
    pub(super) fn undispatched(&self) -> Option<u64> {
        (!self.is_stalled()).then(|| self.undispatched_at_end())
    }

    /// The same for a connection that has ended.
    pub(super) fn undispatched_at_end(&self) -> u64 {
        let dispatched = self.dispatched.load(Ordering::Relaxed);
        self.received.load(Ordering::Relaxed).saturating_sub(dispatched)
    }
}
