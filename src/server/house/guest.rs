//! One connection that is served: what it is doing, and what it has been asked.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One connection that is served.
#[derive(Debug)]
pub(in crate::server) struct Guest {
    pub(super) peer: IpAddr,
    born: Instant,
    /// Calls whose answers are being made, times [`MADE`]; and answers that are being sent.
    calls: AtomicU64,
    /// When the connection got its place, in milliseconds since the house was made.
    seated: u64,
    /// When the last answer was made, in the same unit; `seated` before the first one.
    idle_since: AtomicU64,
    /// Since when there have been answers that are being sent, in the same unit.
    sending_since: AtomicU64,
    /// Cancelled when the connection is asked to end.
    pub(in crate::server) leaving: CancellationToken,
    /// The same, for those who look often.
    has_goaway: AtomicBool,
    /// Whether calls that come now are refused.
    is_closed: AtomicBool,
    /// Cancelled when the connection's place is wanted for another one.
    pub(super) gives_way: CancellationToken,
}

/// A call that is under way; over when dropped.
#[derive(Debug)]
pub(in crate::server) struct OpenCall {
    guest: Arc<Guest>,
    unit: u64,
}

/// A guest without a call is not asked to leave before this time: its first call may be on its way.
pub(super) const SETTLING: Duration = Duration::from_secs(1);
/// When there have been answers for so long that are made and not sent yet, they make nobody busy:
/// their reader does not take them.
const SENDING: Duration = Duration::from_secs(2);
const MADE: u64 = 1 << 32;
const SENT: u64 = 1;

// === impl Guest ===

impl Guest {
    /// A guest that gets its place now; times are counted from `born`.
    pub(super) fn new(peer: IpAddr, born: Instant) -> Self {
        let seated = milliseconds_since(born);
        Self {
            peer,
            born,
            calls: AtomicU64::default(),
            seated,
            idle_since: AtomicU64::new(seated),
            sending_since: AtomicU64::default(),
            leaving: CancellationToken::new(),
            has_goaway: AtomicBool::default(),
            is_closed: AtomicBool::default(),
            gives_way: CancellationToken::new(),
        }
    }

    /// Notes a call that begins. An atomic that hardly anybody else touches.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> OpenCall {
        self.calls.fetch_add(MADE, Ordering::Relaxed);
        OpenCall { guest: self.clone(), unit: MADE }
    }

    /// Since when no call has been under way, in milliseconds since the house was made; `None` if
    /// one is. Answers that nobody takes are not.
    pub(in crate::server) fn idle_since(&self) -> Option<u64> {
        // With the release of the call that ended last: whoever sees that it has ended also sees
        // when.
        let calls = self.calls.load(Ordering::Acquire);
        let sending_since = self.sending_since.load(Ordering::Relaxed);
        let sending =
            || milliseconds_since(self.born).saturating_sub(sending_since) < milliseconds(SENDING);
        let is_idle = calls == 0 || calls < MADE && !sending();
        is_idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// Since when the guest has been idle, if it may be asked to leave: it has not been asked
    /// before, and has had the time for a first call.
    pub(super) fn dispensable(&self, house_age: u64) -> Option<u64> {
        let since = self.idle_since()?;
        let settles =
            since == self.seated && house_age.saturating_sub(since) < milliseconds(SETTLING);
        (!settles && !self.gives_way.is_cancelled()).then_some(since)
    }

    /// Says that the connection is asked to end.
    pub(in crate::server) fn leave(&self) {
        self.has_goaway.store(true, Ordering::Relaxed);
        self.leaving.cancel();
    }

    /// Whether the connection has been asked to end.
    pub(in crate::server) fn is_leaving(&self) -> bool {
        self.has_goaway.load(Ordering::Relaxed)
    }

    /// Has calls refused from now on.
    pub(in crate::server) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether calls that come now are refused.
    pub(in crate::server) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Says that the connection's place is wanted.
    #[cfg(test)]
    pub(in crate::server) fn make_way(&self) {
        self.gives_way.cancel();
    }

    /// Waits until the connection's place is wanted for another one.
    pub(in crate::server) async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }
}

// === impl OpenCall ===

impl OpenCall {
    /// Notes that the answer has been made, and is sent from now on.
    pub(in crate::server) fn answered(&mut self) {
        if self.unit == MADE {
            self.unit = SENT;
            self.end(MADE - SENT);
        }
    }

    fn end(&self, units: u64) {
        let (guest, now) = (&self.guest, milliseconds_since(self.guest.born));
        // Before the count, so that whoever sees the guest idle sees since when.
        // Of calls that end at the same time, the last counts.
        guest.idle_since.fetch_max(now, Ordering::Relaxed);
        if guest.calls.load(Ordering::Relaxed) % MADE == 0 {
            guest.sending_since.store(now, Ordering::Relaxed);
        }
        guest.calls.fetch_sub(units, Ordering::Release);
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if self.unit == MADE {
            self.end(MADE);
        } else {
            self.guest.calls.fetch_sub(SENT, Ordering::Release);
        }
    }
}

pub(super) fn milliseconds_since(moment: Instant) -> u64 {
    milliseconds(moment.elapsed())
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Arc<Guest> {
        Arc::new(Guest::new([127, 0, 0, 1].into(), Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_not_taken_make_nobody_busy_for_long() {
        let guest = guest();
        let mut unread = Vec::new();
        // A new one now and then does not begin the time anew.
        for _ in 0..3 {
            let mut call = guest.begin();
            assert_eq!(guest.idle_since(), None, "its answer is being made");
            call.answered();
            assert_eq!(guest.idle_since(), None, "its answer is being sent");
            unread.push(call);
            tokio::time::advance(SENDING * 2 / 5).await;
        }
        assert!(guest.idle_since().is_some());
        let call = guest.begin();
        assert_eq!(guest.idle_since(), None, "a call is under way");
        drop(call);
        assert!(guest.idle_since().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_whose_answers_are_taken_is_busy_with_each() {
        let guest = guest();
        for _ in 0..10 {
            let mut call = guest.begin();
            tokio::time::advance(SENDING).await;
            call.answered();
            assert_eq!(guest.idle_since(), None);
            drop(call);
            assert!(guest.idle_since().is_some());
        }
    }
}
