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

/// What one connection holds.
#[derive(Debug)]
pub(in crate::server) struct SendBuffer {
    of: Arc<SendBuffers>,
    peer: IpAddr,
    bytes: AtomicUsize,
    /// How many pieces made progress last in which step, by its number modulo [`STEPS`].
    progressed: [AtomicUsize; STEPS],
    /// The step in which any of them made progress last, or in which the first of them came.
    last_progress: AtomicUsize,
    /// How often the peer has taken something.
    moves: AtomicUsize,
    /// What that was at the last looks, the one before the last first.
    looked: [AtomicUsize; 2],
    cut: CancellationToken,
}

/// A connection's send buffer in the list of all; taken off when dropped.
#[derive(Debug)]
pub(in crate::server) struct Listed {
    number: u64,
    buffer: Arc<SendBuffer>,
}

/// Bytes that a connection holds, until this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Held {
    buffer: Arc<SendBuffer>,
    bytes: usize,
    /// When it made progress last; none if it need not make any.
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

    /// Counts bytes for as long as it takes. Two atomics, of which one is common to all connections.
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

    /// Counts bytes of which some have to be taken within ten seconds. One atomic more.
    pub(in crate::server) fn hold_briefly(self: &Arc<Self>, bytes: usize) -> Held {
        let step = self.of.step.load(Ordering::Relaxed);
        self.at(step).fetch_add(1, Ordering::Relaxed);
        let mut held = self.hold(bytes);
        held.step = Some(step);
        held
    }

    /// Closes the connection, since its peer does not read what ends a stream.
    pub(in crate::server) fn cut_late(&self) {
        if self.cut_once() {
            self.of.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the connection has to be closed.
    pub(in crate::server) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether it was not being closed before.
    pub(super) fn cut_once(&self) -> bool {
        let first = !self.is_cut();
        self.cut.cancel();
        first
    }

    /// Whether the connection is being closed.
    pub(in crate::server) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// What it holds.
    pub(in crate::server) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether answers are on their way to the peer: there are some, and the peer has taken a part of
    /// one within the last two to four seconds, or the first of them came then.
    pub(in crate::server) fn is_moving(&self) -> bool {
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let rested = self.of.step.load(Ordering::Relaxed).wrapping_sub(last_progress);
        self.bytes() > 0 && rested < MOVING
    }

    /// How much longer the peer may need to read its answers, if that takes it no longer than `time`
    /// from when the last piece was handed to the socket. No time if there has been none, or if some
    /// are still held, since then the peer has not been reading.
    pub(in crate::server) fn read_out(&self, time: Duration) -> Duration {
        if self.bytes() > 0 || self.moves.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let steps = self.of.step.load(Ordering::Relaxed).wrapping_sub(last_progress);
        // The first of them may have been about to end then.
        let steps = u32::try_from(steps.saturating_sub(1)).unwrap_or(u32::MAX);
        time.saturating_sub(STEP.saturating_mul(steps))
    }

    /// Whether a piece is stuck in this step, or at rest and the connection with it.
    pub(super) fn is_stuck(&self, step: usize) -> bool {
        let last_progress = self.last_progress.load(Ordering::Relaxed);
        let at_rest = step.wrapping_sub(last_progress) >= AT_REST;
        let since = if at_rest { AT_REST } else { STUCK };
        let has_piece = |ago| self.at(step.wrapping_sub(ago)).load(Ordering::Relaxed) > 0;
        (since..STEPS).any(has_piece)
    }

    /// Notes what the peer has taken so far.
    pub(super) fn look(&self) {
        let [before, last] = &self.looked;
        before.store(last.load(Ordering::Relaxed), Ordering::Relaxed);
        last.store(self.moves.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the peer has taken anything since the look before the last, which was two to four
    /// seconds ago: since the last one, it may have had no time.
    pub(super) fn has_moved(&self) -> bool {
        let [before, _last] = &self.looked;
        self.moves.load(Ordering::Relaxed) != before.load(Ordering::Relaxed)
    }

    /// How many steps ago the oldest piece that has to make progress made any.
    pub(super) fn oldest(&self, step: usize) -> usize {
        let has_piece = |ago: &usize| self.at(step.wrapping_sub(*ago)).load(Ordering::Relaxed) > 0;
        (0..STEPS).rev().find(has_piece).unwrap_or_default()
    }

    fn progress(&self, step: usize) {
        self.last_progress.store(step, Ordering::Relaxed);
    }

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
