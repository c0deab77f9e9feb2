//! Answers that are not yet written to the socket: how much memory they may take, and for how long.

mod buffer;
mod chunk;

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

pub(super) use self::{
    buffer::{Held, Listed, SendBuffer},
    chunk::{Chunk, Reader},
};
use super::turned_away::TurnedAway;
use crate::tenant::{Resource, Usage};

/// The send buffers of all connections.
///
/// The peer decides how much of an answer it takes, by HTTP/2 flow control or by not reading its
/// socket. hyper asks a body for more only when the peer takes something. So an answer that nobody
/// reads cannot end by itself, and its connection has to be closed. A connection is closed in three
/// cases:
///
/// * One of its answers has made no progress for ten seconds, and neither has any other.
/// * One of its answers has made no progress for half a minute, whatever the others do.
/// * All connections together hold more than the limit. Then those are closed first whose peers
///   have taken nothing for some seconds, the one with the oldest piece first. So a slow reader of
///   a large answer does not have to make room for many that read nothing. If there is no
///   difference, the address that holds most loses the connection that holds most.
#[derive(Debug)]
pub(super) struct SendBuffers {
    limit: usize,
    /// Bytes that all connections hold.
    bytes: CacheAligned<AtomicUsize>,
    /// Counts the [`STEP`]s since the start.
    step: AtomicUsize,
    connections: Mutex<Connections>,
    /// Notified when the limit is exceeded.
    is_full: Notify,
    late: AtomicU64,
    full: AtomicU64,
}

/// A value in a cache line of its own. Every call writes to it. In a shared cache line, each write
/// would take the neighbouring fields away from the other cores, although those hardly change.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CacheAligned<T>(T);

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    all: HashMap<u64, Arc<SendBuffer>>,
}

/// How often answers without progress are looked for.
const STEP: Duration = Duration::from_secs(2);
/// After so many steps without progress, a connection no longer counts as sending answers. That is
/// two to four seconds.
const MOVING: usize = 2;
/// After so many steps without progress, a piece of an answer or a connection counts as resting.
/// That is ten to twelve seconds.
const AT_REST: usize = 6;
/// After so many steps without progress, a piece is stuck although others make progress. That is 26
/// to 28 seconds. A busy reader may let some answers wait for others, but hardly for longer than
/// its deadlines.
const STUCK: usize = 14;
/// More than [`STUCK`], so that a new step never shares a counter with pieces of an old one.
const STEPS: usize = 16;
/// When the limit is exceeded, answers that are written within this time do not count. Thousands
/// may be made at once, when a gateway resumes after it had hung.
const BURST: Duration = Duration::from_millis(250);
/// The exception for bursts ends at this multiple of the limit, so that memory stays bounded.
const BURST_MAX: usize = 2;
/// The limit of bytes for all connections.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many bytes count as one place in metrics.
const PLACE: usize = 16 * 1024;

// === impl SendBuffers ===

impl SendBuffers {
    pub(super) fn new() -> Arc<Self> {
        Self::with_limit(BYTES_MAX)
    }

    fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            bytes: CacheAligned::default(),
            step: AtomicUsize::default(),
            connections: Mutex::default(),
            is_full: Notify::new(),
            late: AtomicU64::default(),
            full: AtomicU64::default(),
        })
    }

    /// Opens the send buffer of a connection of `peer`.
    pub(super) fn open(self: &Arc<Self>, peer: IpAddr) -> Listed {
        let buffer = Arc::new(SendBuffer::new(self.clone(), peer));
        let mut connections = self.connections();
        let number = connections.next;
        connections.next += 1;
        connections.all.insert(number, buffer.clone());
        Listed::new(number, buffer)
    }

    /// How much of the limit is used, in places of [`PLACE`] bytes.
    pub(super) fn usage(&self) -> Usage {
        let taken = self.bytes.0.load(Ordering::Relaxed).div_ceil(PLACE);
        Usage { resource: Resource::UnreadAnswers, limit: self.limit / PLACE, taken }
    }

    /// How many connections were closed, by cause.
    pub(super) fn counts(&self) -> [(TurnedAway, u64); 2] {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            (TurnedAway::UnreadAnswerLate, count(&self.late)),
            (TurnedAway::UnreadAnswersFull, count(&self.full)),
        ]
    }

    /// Closes connections whose peers do not read. Never ends.
    pub(super) async fn watch(&self) {
        let mut next_step = Instant::now() + STEP;
        loop {
            tokio::select! {
                () = sleep_until(next_step) => {
                    next_step = Instant::now() + STEP;
                    self.begin_step();
                }
                () = self.is_full.notified() => {
                    let mut before = self.held();
                    if timeout(BURST, self.overflows()).await.is_ok() {
                        before = self.held();
                    }
                    self.make_room(&before);
                }
            }
        }
    }

    /// Waits until more is held than a burst excuses.
    async fn overflows(&self) {
        while self.bytes.0.load(Ordering::Relaxed) <= self.limit.saturating_mul(BURST_MAX) {
            self.is_full.notified().await;
        }
    }

    /// Begins the next step, and closes the connections whose answers are stuck.
    pub(super) fn begin_step(&self) {
        let step = self.step.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        for buffer in self.connections().all.values() {
            buffer.look();
            if buffer.is_stuck(step) {
                buffer.cut_late();
            }
        }
    }

    /// How many bytes each connection holds, by number. Leaves out those that are being closed.
    fn held(&self) -> HashMap<u64, usize> {
        let connections = self.connections();
        let open = connections.all.iter().filter(|(_, buffer)| !buffer.is_cut());
        open.map(|(number, buffer)| (*number, buffer.bytes())).collect()
    }

    /// Closes connections until the others hold no more than the limit. Bytes that a connection has
    /// come to hold since `before` do not count.
    fn make_room(&self, before: &HashMap<u64, usize>) {
        let mut held = self.held();
        held.retain(|number, bytes| {
            *bytes = (*bytes).min(before.get(number).copied().unwrap_or_default());
            *bytes > 0
        });
        let mut all: usize = held.values().sum();
        let step = self.step.load(Ordering::Relaxed);
        let connections = self.connections();
        while all > self.limit {
            let next = connections.next_to_go(&held, step);
            let Some((number, buffer)) = next else { return };
            all -= held.remove(&number).unwrap_or_default();
            if buffer.cut_once() {
                self.full.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Connections ===

impl Connections {
    /// The connection to close next when too much is held.
    fn next_to_go(&self, held: &HashMap<u64, usize>, step: usize) -> Option<(u64, &SendBuffer)> {
        let rests = |number: &u64| {
            let buffer = self.all.get(number).filter(|buffer| !buffer.has_moved())?;
            Some(buffer.oldest(step))
        };
        // `None` if all peers have taken something lately.
        let longest = held.keys().filter_map(rests).max();
        let first = held.iter().filter(|(number, _)| rests(number) == longest);
        self.largest(&first.map(|(number, bytes)| (*number, *bytes)).collect())
    }

    /// The connection that holds most, of the address that holds most.
    fn largest(&self, held: &HashMap<u64, usize>) -> Option<(u64, &SendBuffer)> {
        let mut by_peer: HashMap<IpAddr, usize> = HashMap::new();
        let holders = || {
            let all = held.iter();
            all.filter_map(|(number, bytes)| Some((*number, *bytes, self.all.get(number)?)))
        };
        for (_, bytes, buffer) in holders() {
            *by_peer.entry(buffer.peer()).or_default() += bytes;
        }
        let (peer, _) = by_peer.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        let theirs = holders().filter(|(_, _, buffer)| buffer.peer() == peer);
        let largest = theirs.max_by_key(|(number, bytes, _)| (*bytes, Reverse(*number)));
        largest.map(|(number, _, buffer)| (number, &**buffer))
    }
}

#[cfg(test)]
mod tests;
