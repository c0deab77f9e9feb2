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
mod tests {
    use bytes::{Buf as _, Bytes};
    use futures_util::FutureExt as _;
    use tokio::time::sleep;

    use super::{chunk::OVERHEAD, *};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn peer(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn is_cut(buffer: &SendBuffer) -> bool {
        buffer.cut().now_or_never().is_some()
    }

    fn chunk(buffer: &Arc<SendBuffer>, reader: &Reader) -> Chunk {
        reader.chunk(Bytes::from_static(&[0; 100]), buffer)
    }

    #[test]
    fn an_answer_that_makes_no_progress_costs_its_connection() {
        let all = SendBuffers::new();
        let [stuck, slow, watching] = [1, 2, 3].map(|number| all.open(peer(number)));
        let stays = chunk(&stuck, &Reader::Prompt);
        let mut moves = chunk(&slow, &Reader::Prompt);
        let _stream = chunk(&watching, &Reader::slow());
        for _ in 0..AT_REST - 1 {
            all.begin_step();
            moves.advance(1);
            assert!(!is_cut(&stuck));
        }
        all.begin_step();
        moves.advance(1);
        assert!(is_cut(&stuck));
        drop(stays);
        for _ in 0..2 * STEPS {
            all.begin_step();
            moves.advance(1);
        }
        assert!(!is_cut(&slow) && !is_cut(&watching));
        let counts = [(TurnedAway::UnreadAnswerLate, 1), (TurnedAway::UnreadAnswersFull, 0)];
        assert_eq!(all.counts(), counts);
    }

    #[test]
    fn a_slow_reader_has_to_be_prompt_when_the_answer_is_over() {
        let all = SendBuffers::new();
        let [stuck, moving, done] = [1, 2, 3].map(|number| all.open(peer(number)));
        let reader = Reader::slow();
        let _stays = chunk(&stuck, &reader);
        let mut moves = chunk(&moving, &reader);
        drop(chunk(&done, &reader));
        all_steps(&all, || {});
        let readers = [(); 2].map(|()| Reader::slow());
        let _stays = chunk(&stuck, &readers[0]);
        let mut left = chunk(&moving, &readers[1]);
        for (reader, buffer) in [(&reader, &done), (&readers[0], &stuck), (&readers[1], &moving)] {
            reader.over(buffer);
        }
        drop((reader, readers));
        all_steps(&all, || {
            moves.advance(1);
            left.advance(1);
        });
        assert_eq!([&stuck, &moving].map(|buffer| is_cut(buffer)), [true, false]);
    }

    #[test]
    fn an_answer_may_wait_for_others_of_its_connection_for_a_while() {
        let all = SendBuffers::new();
        // For how many steps others make progress, and for how many more none does, before the
        // connection is closed.
        for (moving, still) in [(STUCK, 0), (AT_REST, AT_REST)] {
            let buffer = all.open(peer(1));
            let _waits = chunk(&buffer, &Reader::Prompt);
            for step in 1..=moving + still {
                assert!(!is_cut(&buffer), "{step} of {moving} + {still}");
                all.begin_step();
                if step <= moving {
                    drop(chunk(&buffer, &Reader::Prompt));
                }
            }
            assert!(is_cut(&buffer), "{moving} + {still}");
        }
    }

    /// Takes more steps than a prompt reader has.
    fn all_steps(all: &SendBuffers, mut each: impl FnMut()) {
        for _ in 0..2 * STEPS {
            all.begin_step();
            each();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_byte_within_ten_seconds_is_not_slow() {
        let all = SendBuffers::new();
        let buffer = all.open(peer(1));
        let mut moves = chunk(&buffer, &Reader::Prompt);
        let reading = async {
            for _ in 0..20 {
                sleep(PATIENCE).await;
                moves.advance(1);
            }
        };
        tokio::select! {
            biased;
            () = all.watch() => unreachable!("for ever"),
            () = reading => {}
            () = buffer.cut() => panic!("cut"),
        }
        let rested = Instant::now();
        tokio::select! {
            () = all.watch() => unreachable!("for ever"),
            () = buffer.cut() => {}
        }
        let rested = rested.elapsed();
        assert!((PATIENCE..=PATIENCE + STEP).contains(&rested), "{rested:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_too_much_is_unread_the_address_with_most_of_it_loses_its_largest() {
        let piece = OVERHEAD + 100;
        let all = SendBuffers::with_limit(8 * piece);
        let honest = all.open(peer(1));
        let _answers = [(); 3].map(|()| chunk(&honest, &Reader::Prompt));
        // Each of its connections holds less than the honest one.
        let flood: Vec<_> = (0..6).map(|_| all.open(peer(2))).collect();
        let mut held: Vec<_> = flood.iter().map(|buffer| chunk(buffer, &Reader::slow())).collect();
        let lost = |flood: &[Listed]| flood.iter().filter(|buffer| is_cut(buffer)).count();
        look(&all).await;
        assert_eq!(lost(&flood), 1, "one too many");
        // Connections that are being closed no longer count, so that no others are closed for them.
        held.push(chunk(&flood[5], &Reader::slow()));
        look(&all).await;
        assert_eq!(lost(&flood), 2);
        assert!(is_cut(&flood[5]), "it held most");
        assert!(!is_cut(&honest));
        assert_eq!(all.counts()[1], (TurnedAway::UnreadAnswersFull, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn where_too_much_is_unread_whoever_reads_stays() {
        let piece = OVERHEAD + 100;
        let all = SendBuffers::with_limit(8 * piece);
        let reader = all.open(peer(1));
        let mut answers = [(); 4].map(|()| chunk(&reader, &Reader::Prompt));
        let at_rest: Vec<_> = (2..8).map(|number| all.open(peer(number))).collect();
        let mut held = vec![chunk(&at_rest[5], &Reader::Prompt)];
        // All take something now and then, except the last, whose piece came first.
        for step in 0..4 {
            all.begin_step();
            answers[0].advance(1);
            if step == 0 {
                let others = &at_rest[..5];
                held.extend(others.iter().map(|buffer| chunk(buffer, &Reader::Prompt)));
                held[1..].iter_mut().for_each(|piece| piece.advance(1));
            }
        }
        look(&all).await;
        let lost: Vec<_> = at_rest.iter().map(|buffer| is_cut(buffer)).collect();
        assert!(!is_cut(&reader), "it holds most, and reads");
        assert_eq!(lost.iter().filter(|lost| **lost).count(), 2, "two too many: {lost:?}");
        assert!(lost[5], "it has taken nothing for longest");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_written_at_once_may_be_many() {
        let all = SendBuffers::with_limit(8 * (OVERHEAD + 100));
        let buffers = [1, 2].map(|number| all.open(peer(number)));
        let mut burst: Vec<_> =
            (0..15).map(|at| chunk(&buffers[at % 2], &Reader::Prompt)).collect();
        let written = async {
            sleep(BURST / 2).await;
            // Other answers are made meanwhile.
            burst.splice(.., (0..4).map(|at| chunk(&buffers[at % 2], &Reader::Prompt)));
            sleep(BURST).await;
        };
        tokio::select! {
            () = all.watch() => unreachable!("for ever"),
            () = written => {}
        }
        assert!(!buffers.iter().any(|buffer| is_cut(buffer)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_a_moment_take_no_more_than_twice_the_limit() {
        let all = SendBuffers::with_limit(8 * (OVERHEAD + 100));
        let flood: Vec<_> = (0..40).map(|number| all.open(peer(number))).collect();
        let mut held = Vec::new();
        let most = AtomicUsize::new(0);
        // Connections that are closed free what they hold, and others go on.
        let coming = async {
            for at in 0..400 {
                let buffer = &flood[at % flood.len()];
                held.push((buffer, chunk(buffer, &Reader::Prompt)));
                held.retain(|(buffer, _)| !is_cut(buffer));
                most.fetch_max(all.bytes.0.load(Ordering::Relaxed), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        // The watch runs after each answer, as it could on a thread of its own.
        tokio::select! {
            biased;
            () = all.watch() => unreachable!("for ever"),
            () = coming => {}
        }
        let most = most.into_inner();
        assert!(most <= (BURST_MAX * 8 + 1) * (OVERHEAD + 100), "{most}");
    }

    /// Gives the watch time for one look.
    async fn look(all: &SendBuffers) {
        let _watched = timeout(2 * BURST, all.watch()).await;
    }

    #[test]
    fn what_is_dropped_is_held_no_more() {
        let all = SendBuffers::new();
        let buffer = all.open(peer(1));
        let mut chunks = [Reader::Prompt, Reader::slow()].map(|reader| chunk(&buffer, &reader));
        assert_eq!(all.usage().taken, 2 * (OVERHEAD + 100) / PLACE + 1);
        all.begin_step();
        chunks[0].advance(100);
        drop(chunks);
        assert_eq!(all.usage().taken, 0);
        assert!((0..STEPS).all(|step| buffer.at(step).load(Ordering::Relaxed) == 0));
        drop(buffer);
        assert!(all.connections().all.is_empty());
    }
}
