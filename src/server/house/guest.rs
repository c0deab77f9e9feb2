//! One connection that is served: what it is doing, and what it has been asked.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::server::{heads::Heads, send_buffers::SendBuffer};

/// One connection that is served.
#[derive(Debug)]
pub(in crate::server) struct Guest {
    pub(super) peer: IpAddr,
    born: Instant,
    /// Answers that are made and not yet written to the socket.
    pub(in crate::server) buffer: Arc<SendBuffer>,
    /// Requests that have come, and those that a service has seen.
    pub(in crate::server) heads: Heads,
    /// Calls whose answers are being made.
    calls: AtomicUsize,
    /// When the connection got its place, in milliseconds since the house was made.
    seated: u64,
    /// When the last answer was made, in the same unit; `seated` before the first one.
    idle_since: AtomicU64,
    /// Cancelled when the connection is asked to end.
    pub(in crate::server) leaving: CancellationToken,
    /// The same, for those who look often.
    has_goaway: AtomicBool,
    /// Whether calls that come now are refused.
    is_closed: AtomicBool,
    /// Cancelled when the connection's place is wanted for another one.
    pub(super) gives_way: CancellationToken,
}

/// A call whose answer is being made; over when dropped. Whoever has the answer puts it into the
/// send buffer first, so that the connection is not idle in between.
#[derive(Debug)]
pub(in crate::server) struct OpenCall {
    guest: Arc<Guest>,
}

/// A guest without a call is not asked to leave before this time: its first call may be on its way.
pub(super) const SETTLING: Duration = Duration::from_secs(1);

// === impl Guest ===

impl Guest {
    /// A guest that gets its place now; times are counted from `born`.
    pub(super) fn new(peer: IpAddr, born: Instant, buffer: Arc<SendBuffer>) -> Self {
        let seated = milliseconds_since(born);
        Self {
            peer,
            born,
            buffer,
            heads: Heads::default(),
            calls: AtomicUsize::default(),
            seated,
            idle_since: AtomicU64::new(seated),
            leaving: CancellationToken::new(),
            has_goaway: AtomicBool::default(),
            is_closed: AtomicBool::default(),
            gives_way: CancellationToken::new(),
        }
    }

    /// Notes a call that begins. An atomic that hardly anybody else touches.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> OpenCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall { guest: self.clone() }
    }

    /// Since when no call has been under way, in milliseconds since the house was made; `None` if
    /// one is. A call is under way until its answer has been written to the socket, but not while
    /// the peer takes nothing of the answers that there are.
    pub(in crate::server) fn idle_since(&self) -> Option<u64> {
        // With the release of the call that ended last: whoever sees that it has ended also sees
        // when, and its answer in the buffer.
        let calls = self.calls.load(Ordering::Acquire);
        let is_idle = calls == 0 && !self.buffer.is_moving();
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

impl Drop for OpenCall {
    fn drop(&mut self) {
        let (guest, now) = (&self.guest, milliseconds_since(self.guest.born));
        // Before the count, so that whoever sees the guest idle sees since when.
        // Of calls that end at the same time, the last counts.
        guest.idle_since.fetch_max(now, Ordering::Relaxed);
        guest.calls.fetch_sub(1, Ordering::Release);
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
    use bytes::{Buf as _, Bytes};

    use super::*;
    use crate::server::send_buffers::{Chunk, Reader, SendBuffers};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Has a call answered; gives its answer, as long as it is not written.
    fn answered(guest: &Arc<Guest>) -> Chunk {
        let call = guest.begin();
        assert_eq!(guest.idle_since(), None, "its answer is being made");
        let chunk = Reader::Prompt.chunk(Bytes::from_static(&[0; 100]), &guest.buffer);
        drop(call);
        chunk
    }

    #[test]
    fn answers_that_are_not_taken_make_nobody_busy_for_long() {
        let buffers = SendBuffers::new();
        let guest = Arc::new(Guest::new(HERE, Instant::now(), buffers.open(HERE).clone()));
        let mut unread = vec![answered(&guest)];
        assert_eq!(guest.idle_since(), None, "its answer is being sent");
        buffers.begin_step();
        assert_eq!(guest.idle_since(), None, "it may be read slowly");
        buffers.begin_step();
        // A new one does not begin the time anew.
        unread.push(answered(&guest));
        assert!(guest.idle_since().is_some());
        let call = guest.begin();
        assert_eq!(guest.idle_since(), None, "a call is under way");
        drop(call);
        assert!(guest.idle_since().is_some());
    }

    #[test]
    fn a_guest_is_busy_for_as_long_as_it_takes_its_answers() {
        let buffers = SendBuffers::new();
        let guest = Arc::new(Guest::new(HERE, Instant::now(), buffers.open(HERE).clone()));
        let mut slowly = answered(&guest);
        for _ in 0..50 {
            buffers.begin_step();
            // One that is made meanwhile, and waits for the first.
            drop(answered(&guest));
            assert_eq!(guest.idle_since(), None);
            slowly.advance(1);
        }
        drop(slowly);
        assert!(guest.idle_since().is_some());
        // The time in between does not count as rest.
        (0..10).for_each(|_| buffers.begin_step());
        let _unread = answered(&guest);
        assert_eq!(guest.idle_since(), None);
    }
}
