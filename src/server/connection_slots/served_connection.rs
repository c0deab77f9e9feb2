//! One connection that is served: whether it is idle, and whether it was asked to end.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    server::{flood::Flood, request_counts::RequestCounts, send_buffers::SendBuffer},
    time::millis,
};

/// One connection that is served.
#[derive(Debug)]
pub(in crate::server) struct ServedConnection {
    pub(super) peer: IpAddr,
    epoch: Instant,
    /// Its answers that are not yet written to the socket.
    pub(in crate::server) buffer: Arc<SendBuffer>,
    /// Its requests: how many were received, and how many were dispatched to a service.
    pub(in crate::server) requests: RequestCounts,
    /// Calls whose answers are being made.
    calls: AtomicUsize,
    /// When the connection got its slot, in milliseconds since `epoch`.
    opened: u64,
    /// When the last answer was made, in the same unit. Equals `opened` before the first one.
    idle_since: AtomicU64,
    /// Cancelled when the connection gets its GOAWAY.
    pub(in crate::server) goaway: CancellationToken,
    /// The same as an atomic, for code that asks on every read.
    has_goaway: AtomicBool,
    /// Whether new calls are refused.
    refuses_calls: AtomicBool,
    /// Cancelled when the connection's slot is wanted for another one.
    pub(super) evicted: CancellationToken,
    /// Set if its peer floods it.
    flood: OnceLock<Flood>,
    /// Cancelled after that.
    flooded: CancellationToken,
}

/// A call whose answer is being made. Dropping it ends the call. The answer must be in the send
/// buffer before that, or the connection would look idle in between.
#[derive(Debug)]
pub(in crate::server) struct OpenCall {
    served: Arc<ServedConnection>,
}

/// A connection without a call is not evicted for this long: its first call may be on its way.
pub(super) const FIRST_CALL_GRACE: Duration = Duration::from_secs(1);

// === impl ServedConnection ===

impl ServedConnection {
    /// A connection that gets its slot now. Times are counted from `epoch`.
    pub(super) fn new(peer: IpAddr, epoch: Instant, buffer: Arc<SendBuffer>) -> Self {
        let opened = milliseconds_since(epoch);
        Self {
            peer,
            epoch,
            buffer,
            requests: RequestCounts::default(),
            calls: AtomicUsize::default(),
            opened,
            idle_since: AtomicU64::new(opened),
            goaway: CancellationToken::new(),
            has_goaway: AtomicBool::default(),
            refuses_calls: AtomicBool::default(),
            evicted: CancellationToken::new(),
            flood: OnceLock::new(),
            flooded: CancellationToken::new(),
        }
    }

    /// Notes a call that begins. Costs one atomic that other connections do not touch.
    pub(in crate::server) fn begin(self: &Arc<Self>) -> OpenCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OpenCall { served: self.clone() }
    }

    /// Since when no call has been in progress, in milliseconds since `epoch`. `None` if one is. A
    /// call is in progress until its answer has been written to the socket, unless the peer has
    /// stopped to take answers.
    pub(in crate::server) fn idle_since(&self) -> Option<u64> {
        // Acquire pairs with the release in `OpenCall::drop`. A thread that sees that the last call
        // has ended also sees when it ended, and its answer in the buffer.
        let calls = self.calls.load(Ordering::Acquire);
        let is_idle = calls == 0 && !self.buffer.is_moving();
        is_idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// Since when the connection has been idle, if it may be evicted: it has not been evicted
    /// already, and has had time for a first call.
    pub(super) fn evictable_since(&self, now_ms: u64) -> Option<u64> {
        let since = self.idle_since()?;
        let is_new =
            since == self.opened && now_ms.saturating_sub(since) < millis(FIRST_CALL_GRACE);
        (!is_new && !self.evicted.is_cancelled()).then_some(since)
    }

    /// Notes that the connection gets its GOAWAY.
    pub(in crate::server) fn note_goaway(&self) {
        self.has_goaway.store(true, Ordering::Relaxed);
        self.goaway.cancel();
    }

    /// Whether the connection has got its GOAWAY.
    pub(in crate::server) fn has_goaway(&self) -> bool {
        self.has_goaway.load(Ordering::Relaxed)
    }

    /// Refuses new calls from now on.
    pub(in crate::server) fn refuse_calls(&self) {
        self.refuses_calls.store(true, Ordering::Relaxed);
    }

    /// Whether new calls are refused.
    pub(in crate::server) fn refuses_calls(&self) -> bool {
        self.refuses_calls.load(Ordering::Relaxed)
    }

    /// Notes that the peer floods the connection.
    pub(in crate::server) fn note_flood(&self, flood: Flood) {
        self.flood.get_or_init(|| flood);
        self.flooded.cancel();
    }

    /// Waits until the peer floods the connection.
    pub(in crate::server) async fn flooded(&self) {
        self.flooded.cancelled().await;
    }

    /// The flood of the peer, if there is one.
    pub(in crate::server) fn flood(&self) -> Option<Flood> {
        self.flood.get().copied()
    }

    /// Asks for the connection's slot.
    #[cfg(test)]
    pub(in crate::server) fn evict(&self) {
        self.evicted.cancel();
    }

    /// Waits until the connection's slot is wanted for another one.
    pub(in crate::server) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

// === impl OpenCall ===

impl Drop for OpenCall {
    fn drop(&mut self) {
        let (served, now) = (&self.served, milliseconds_since(self.served.epoch));
        // Before the count goes down, so that a thread that sees the connection idle also sees
        // since when. If calls end at the same time, the latest one counts.
        served.idle_since.fetch_max(now, Ordering::Relaxed);
        served.calls.fetch_sub(1, Ordering::Release);
    }
}

/// Milliseconds since `moment`, which is usually `epoch`.
pub(super) fn milliseconds_since(moment: Instant) -> u64 {
    millis(moment.elapsed())
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};

    use super::*;
    use crate::server::send_buffers::{Chunk, Reader, SendBuffers};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Has a call answered. The result is its answer, which is unwritten until dropped.
    fn answered(served: &Arc<ServedConnection>) -> Chunk {
        let call = served.begin();
        assert_eq!(served.idle_since(), None, "its answer is being made");
        let chunk = Reader::Prompt.chunk(Bytes::from_static(&[0; 100]), &served.buffer);
        drop(call);
        chunk
    }

    #[test]
    fn answers_that_are_not_taken_keep_a_connection_busy_only_briefly() {
        let buffers = SendBuffers::new();
        let served =
            Arc::new(ServedConnection::new(HERE, Instant::now(), buffers.open(HERE).clone()));
        let mut unread = vec![answered(&served)];
        assert_eq!(served.idle_since(), None, "its answer is being sent");
        buffers.begin_step();
        assert_eq!(served.idle_since(), None, "it may be read slowly");
        buffers.begin_step();
        // A new answer does not restart the time.
        unread.push(answered(&served));
        assert!(served.idle_since().is_some());
        let call = served.begin();
        assert_eq!(served.idle_since(), None, "a call is under way");
        drop(call);
        assert!(served.idle_since().is_some());
    }

    #[test]
    fn a_connection_is_busy_for_as_long_as_it_takes_its_answers() {
        let buffers = SendBuffers::new();
        let served =
            Arc::new(ServedConnection::new(HERE, Instant::now(), buffers.open(HERE).clone()));
        let mut slowly = answered(&served);
        for _ in 0..50 {
            buffers.begin_step();
            // An answer that is made meanwhile waits behind the first.
            drop(answered(&served));
            assert_eq!(served.idle_since(), None);
            slowly.advance(1);
        }
        drop(slowly);
        assert!(served.idle_since().is_some());
        // The time without answers does not count as time without progress.
        (0..10).for_each(|_| buffers.begin_step());
        let _unread = answered(&served);
        assert_eq!(served.idle_since(), None);
    }
}
