//! What one connection holds.

use std::{
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{AT_REST, MOVING, STEP, STEPS, STUCK, SendBuffers};
use crate::tenant::address_block;

/// The unwritten answers of one connection.
#[derive(Debug)]
pub(in crate::server) struct SendBuffer {
    of: Arc<SendBuffers>,
    peer: IpAddr,
    bytes: AtomicUsize,
    /// How many pieces made their last progress in which step. The index is the step modulo
    /// [`STEPS`].
    progressed: [AtomicUsize; STEPS],
    /// The step of the last progress of any piece, or in which the first piece came.
    last_progress: AtomicUsize,
    /// How often the peer has taken something.
    moves: AtomicUsize,
    /// The value of `moves` at the last two looks, the earlier one first.
    looked: [AtomicUsize; 2],
    cut: CancellationToken,
}

/// A connection's send buffer in the list of all. Dropping it removes it from the list.
#[derive(Debug)]
pub(in crate::server) struct Listed {
    number: u64,
    buffer: Arc<SendBuffer>,
}

/// Bytes that a connection holds until this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Held {
    buffer: Arc<SendBuffer>,
    bytes: usize,
    /// The step of its last progress. `None` if it need not make any.
    step: Option<usize>,
}

// === impl SendBuffer ===

impl SendBuffer {
    pub(super) fn new(of: Arc<SendBuffers>, peer: IpAddr) -> Self {
        let last_progress = AtomicUsize::new(of.step.load(Ordering::Relaxed));
        Self {
            of,
            peer: address_block(peer),
            bytes: AtomicUsize::default(),
            progressed: <_>::default(),
            last_progress,
            moves: AtomicUsize::default(),
            looked: <_>::default(),
            cut: CancellationToken::new(),
        }
    }

    /// Counts bytes until the result is dropped. Costs two atomics, one of them shared by all
    /// connections.
    pub(in crate::server) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let of = &*self.of;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.progress(of.step.load(Ordering::Relaxed));
        }
        let all = of.bytes.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if all > of.limit {
            of.is_full.notify_one();
        }
        Held { buffer: self.clone(), bytes, step: None }
    }

    /// Counts bytes of which the peer has to take some within ten seconds. Costs one atomic more.
    pub(in crate::server) fn hold_briefly(self: &Arc<Self>, bytes: usize) -> Held {
        let step = self.of.step.load(Ordering::Relaxed);
        self.at(step).fetch_add(1, Ordering::Relaxed);
        let mut held = self.hold(bytes);
        held.step = Some(step);
        held
    }

    /// Closes the connection, since its peer does not read an answer or the end of a stream.
    pub(in crate::server) fn cut_late(&self) {
        if self.cut_once() {
            self.of.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the connection has to be closed.
    pub(in crate::server) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Asks for the connection to be closed. Returns whether this is the first request to do so.
    pub(super) fn cut_once(&self) -> bool {
        let first = !self.is_cut();
        self.cut.cancel();
        first
    }

    /// Whether the connection is being closed.
    pub(in crate::server) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// How many bytes it holds.
    pub(in crate::server) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether answers are on their way to the peer. There are some, and the peer has taken a part
    /// of one within the last two to four seconds, or the first of them came then.
    pub(in crate::server) fn is_moving(&self) -> bool {
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let rested = self.of.step.load(Ordering::Relaxed).wrapping_sub(last_progress);
        self.bytes() > 0 && rested < MOVING
    }

    /// How much longer the peer may need to read its answers, if it needs no more than `time` after
    /// the last piece was handed to the socket. Zero if there was no piece. Also zero if some are
    /// still held, since then the peer has not been reading.
    pub(in crate::server) fn linger_time(&self, time: Duration) -> Duration {
        if self.bytes() > 0 || self.moves.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let steps = self.of.step.load(Ordering::Relaxed).wrapping_sub(last_progress);
        // One less, since the first of the steps may have been nearly over at that time.
        let steps = u32::try_from(steps.saturating_sub(1)).unwrap_or(u32::MAX);
        time.saturating_sub(STEP.saturating_mul(steps))
    }

    /// Whether a piece is stuck in this step, or rests while the whole connection rests.
    pub(super) fn is_stuck(&self, step: usize) -> bool {
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let at_rest = step.wrapping_sub(last_progress) >= AT_REST;
        let since = if at_rest { AT_REST } else { STUCK };
        let has_piece = |ago| self.at(step.wrapping_sub(ago)).load(Ordering::Relaxed) > 0;
        (since..STEPS).any(has_piece)
    }

    /// Records how much the peer has taken so far.
    pub(super) fn look(&self) {
        let [before, last] = &self.looked;
        before.store(last.load(Ordering::Relaxed), Ordering::Relaxed);
        last.store(self.moves.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the peer has taken anything since the look before the last, two to four seconds ago.
    /// The last look may have been too recently for the peer to do anything.
    pub(super) fn has_moved(&self) -> bool {
        let [before, _last] = &self.looked;
        self.moves.load(Ordering::Relaxed) != before.load(Ordering::Relaxed)
    }

    /// How many steps ago the oldest piece that has to make progress did so.
    pub(super) fn oldest(&self, step: usize) -> usize {
        let has_piece = |ago: &usize| self.at(step.wrapping_sub(*ago)).load(Ordering::Relaxed) > 0;
        (0..STEPS).rev().find(has_piece).unwrap_or_default()
    }

    fn progress(&self, step: usize) {
        self.last_progress.store(step, Ordering::Relaxed);
    }

    /// The counter of pieces for `step`.
    pub(super) fn at(&self, step: usize) -> &AtomicUsize {
        let [first, ..] = &self.progressed;
        self.progressed.get(step % STEPS).unwrap_or(first)
    }
}

// === impl Listed ===

impl Listed {
    pub(super) fn new(number: u64, buffer: Arc<SendBuffer>) -> Self {
        Self { number, buffer }
    }
}

impl Deref for Listed {
    type Target = Arc<SendBuffer>;

    fn deref(&self) -> &Arc<SendBuffer> {
        &self.buffer
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.buffer.of.connections().all.remove(&self.number);
    }
}

// === impl Held ===

impl Held {
    /// Notes that the peer has taken a part of it.
    pub(super) fn progress(&mut self) {
        self.buffer.moves.fetch_add(1, Ordering::Relaxed);
        let Some(last) = &mut self.step else { return };
        let now = self.buffer.of.step.load(Ordering::Relaxed);
        self.buffer.progress(now);
        if *last != now {
            self.buffer.at(now).fetch_add(1, Ordering::Relaxed);
            self.buffer.at(*last).fetch_sub(1, Ordering::Relaxed);
            *last = now;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Self { buffer, bytes, step } = self;
        buffer.of.bytes.0.fetch_sub(*bytes, Ordering::Relaxed);
        buffer.bytes.fetch_sub(*bytes, Ordering::Relaxed);
        buffer.moves.fetch_add(1, Ordering::Relaxed);
        buffer.progress(buffer.of.step.load(Ordering::Relaxed));
        if let Some(step) = *step {
            buffer.at(step).fetch_sub(1, Ordering::Relaxed);
        }
    }
}
