//! A caller's connection as hyper sees it: between HTTP/2 and the bytes of TLS or TCP.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    connection_slots::ServedConnection,
    flood::{Flood, FloodKind},
    frame_budget::FrameBudget,
    frames::Frames,
    send_buffers::Held,
    token_bucket::TokenBucket,
};

/// Passes to hyper what a caller sends, except for frames that h2 gets wrong ([`Frames`]). Also
/// counts a connection in the send buffers while its peer takes no bytes.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    served: Arc<ServedConnection>,
    frames: Frames,
    budget: FrameBudget,
    resets: TokenBucket,
    /// What the frames cost that were read since the connection's task last waited.
    without_pause: u64,
    /// Whether the peer has used one of them up. What came then is lost, so nothing may be read after it.
    is_flooded: bool,
    /// Bytes that were read after GOAWAY and that hyper has not got yet.
    pending: BytesMut,
    /// How many of them hyper may get. The rest is an incomplete frame header.
    passable: usize,
    /// Set while a write is blocked.
    stalled: Option<Held>,
}

/// After frames of this cost, the tasks of other connections have their turn. It is some hundred microseconds of
/// work, and a peer can send ten times as much at once.
const COST_AT_ONCE: u64 = 128;
/// How many bytes are read at once from a caller whose budget is not ample, and after GOAWAY. h2 handles all frames
/// that it has got before it reads again, so larger pieces could cost more than [`COST_AT_ONCE`].
const PIECE: usize = 1024;
/// Bytes that a connection counts with while its peer takes nothing at all. It may hold the headers
/// of as many answers as there may be streams, and h2 keeps the memory that it once allocated for
/// them. With a hundred streams, the default, a connection was measured to take 190 KiB
/// (`unread_answers`: 150 of them with refused calls take 29 MiB). The rest is for TLS.
const STALLED: usize = 256 * 1024;

impl<S> Wire<S> {
    /// `resets`: how many streams the peer may reset.
    pub(super) fn new(
        stream: S,
        served: Arc<ServedConnection>,
        budget: FrameBudget,
        resets: TokenBucket,
    ) -> Self {
        let (frames, pending) = (Frames::after_preface(), BytesMut::new());
        let (without_pause, passable, is_flooded, stalled) = (0, 0, false, None);
        Self {
            stream,
            served,
            frames,
            budget,
            resets,
            without_pause,
            is_flooded,
            pending,
            passable,
            stalled,
        }
    }

    /// Counts what has been read. A peer that floods the connection is not read from any more, and its
    /// connection is about to be closed.
    fn count(&mut self) -> Poll<()> {
        let requests = self.frames.take_requests();
        if requests > 0 {
            self.served.requests.note_received(requests);
        }
        let Some(kind) = self.flood() else { return Poll::Ready(()) };
        self.served.note_flood(Flood { kind, last_stream: self.frames.last_stream() });
        self.is_flooded = true;
        Poll::Pending
    }

    /// What there is too much of in the frames that have been read. The clock is read only if there are
    /// resets, so that calls do not pay for it.
    fn flood(&mut self) -> Option<FloodKind> {
        let sent = self.frames.take_sent();
        self.without_pause += sent.cost();
        if sent.resets > 0 && !self.resets.take(sent.resets, Instant::now()) {
            return Some(FloodKind::Resets);
        }
        let is_within = self.budget.spend(sent, self.served.requests.progress());
        (!is_within).then_some(FloodKind::Frames)
    }

    /// Counts the connection in its send buffer while a write is blocked.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.served.requests.set_stalled(false);
            }
        } else if self.stalled.is_none() {
            self.stalled = Some(self.served.buffer.hold(STALLED));
            self.served.requests.set_stalled(true);
        }
        written
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.frames.is_in_headers() {
            self.served.requests.note_received(1);
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads from the stream. Also lets other tasks go first after [`COST_AT_ONCE`].
    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        let read = if self.without_pause >= COST_AT_ONCE {
            context.waker().wake_by_ref();
            Poll::Pending
        } else if self.budget.is_ample() || into.remaining() <= PIECE {
            stream.poll_read(context, into)
        } else {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            let read = stream.poll_read(context, &mut piece);
            into.put_slice(piece.filled());
            read
        };
        if read.is_pending() {
            self.without_pause = 0;
        }
        read
    }

    /// Reads without holding anything back.
    fn pass(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(self.poll_stream(context, into))?;
        let (_, fresh) = into.filled_mut().split_at_mut(before);
        self.frames.look(fresh, false);
        self.count().map(Ok)
    }

    /// Reads until hyper may get something, or until the end of the stream.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.passable == 0 {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(self.poll_stream(context, &mut piece))?;
            if piece.filled().is_empty() {
                // The end of the stream, perhaps in the middle of a frame header.
                self.passable = self.pending.len();
                break;
            }
            self.pending.extend_from_slice(piece.filled());
            let unfinished = self.frames.look(&mut self.pending, true);
            ready!(self.count());
            self.passable = self.pending.len() - unfinished;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_flooded {
            return Poll::Pending;
        }
        if !self.served.has_goaway() {
            return self.pass(context, into);
        }
        ready!(self.fill(context))?;
        let length = self.passable.min(into.remaining());
        self.passable -= length;
        into.put_slice(&self.pending.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.note(shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::{
        super::{connection_slots::Slot, preface::PREFACE, token_bucket::Rate},
        *,
    };

    fn resets() -> TokenBucket {
        TokenBucket::new(Rate::new(std::num::NonZeroUsize::MIN, 1))
    }

    /// What hyper reads in pieces of `size`, from a connection that gets its GOAWAY after `begins`
    /// bytes.
    async fn heard(mut wire: Wire<DuplexStream>, begins: usize, size: usize) -> Vec<u8> {
        let (mut heard, mut piece) = (Vec::new(), vec![0; size]);
        loop {
            if heard.len() >= begins {
                wire.served.note_goaway();
            }
            match wire.read(&mut piece).await.unwrap() {
                0 => return heard,
                read => heard.extend_from_slice(&piece[..read]),
            }
        }
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_through_reads_of_any_size_and_whenever_the_end_begins() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"12345678"].concat();
        // Ends in the middle of a frame header.
        let sent = [PREFACE, &ping.repeat(100), &[0, 0, 8, 6]].concat();
        for (begins, size) in [(0, 1), (0, 7), (5, 3), (9, 2), (500, 4), (501, 2000), (5000, 9)] {
            let slot = Slot::alone();
            let (mut peer, stream) = tokio::io::duplex(11);
            let wire = Wire::new(stream, slot.served.clone(), FrameBudget::new(100), resets());
            let saying = async {
                peer.write_all(&sent).await.unwrap();
                drop(peer);
            };
            let ((), heard) = tokio::join!(saying, heard(wire, begins, size));
            assert!(heard == sent, "{begins} {size}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_sends_many_frames_at_once_lets_others_go_first() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"12345678"].concat();
        let sent = [PREFACE, &ping.repeat(300)].concat();
        // After GOAWAY, other amounts are read at once.
        for (has_goaway, expected) in [(false, 2), (true, 1)] {
            let slot = Slot::alone();
            let (mut peer, stream) = tokio::io::duplex(sent.len());
            let mut wire = Wire::new(stream, slot.served.clone(), FrameBudget::new(100), resets());
            peer.write_all(&sent).await.unwrap();
            if has_goaway {
                wire.served.note_goaway();
            }
            let (mut heard, mut pauses, mut piece) = (0, 0, vec![0; 50 * ping.len()]);
            while heard < sent.len() {
                match futures_util::poll!(std::pin::pin!(wire.read(&mut piece))) {
                    Poll::Ready(read) => heard += read.unwrap(),
                    Poll::Pending => pauses += 1,
                }
            }
            assert_eq!(pauses, expected, "{has_goaway}");
        }
    }

    /// How many bytes of HEADERS hyper gets before its task waits, if so many requests have been carried out.
    async fn heard_at_once(carried_out: usize) -> usize {
        let headers = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x82];
        let slot = Slot::alone();
        let sent = [PREFACE, &headers.repeat(200)].concat();
        let (mut peer, stream) = tokio::io::duplex(sent.len());
        let budget = FrameBudget::new(1000);
        let mut wire = Wire::new(stream, slot.served.clone(), budget, resets());
        (0..carried_out).for_each(|_| slot.served.requests.note_dispatched());
        let (mut heard, mut piece) = (0, vec![0; 8192]);
        // The budget learns of them with the first bytes.
        peer.write_all(&sent[..PREFACE.len()]).await.unwrap();
        heard += wire.read(&mut piece).await.unwrap();
        peer.write_all(&sent[PREFACE.len()..]).await.unwrap();
        while let Poll::Ready(read) = futures_util::poll!(std::pin::pin!(wire.read(&mut piece))) {
            heard += read.unwrap();
        }
        heard - PREFACE.len()
    }

    #[tokio::test]
    async fn only_a_caller_that_has_got_on_may_send_many_headers_at_once() {
        assert_eq!([heard_at_once(0).await, heard_at_once(1).await], [PIECE, 2000]);
    }

    #[tokio::test]
    async fn a_connection_that_takes_nothing_is_counted_until_it_does() {
        let slot = Slot::alone();
        let held = || slot.served.buffer.bytes();
        let (mut peer, stream) = tokio::io::duplex(16);
        let mut wire = Wire::new(stream, slot.served.clone(), FrameBudget::new(100), resets());
        wire.write_all(&[0; 16]).await.unwrap();
        assert_eq!(held(), 0);
        let mut write = Box::pin(wire.write_all(&[0; 8]));
        assert!(futures_util::poll!(&mut write).is_pending());
        assert_eq!(held(), STALLED);
        peer.read_exact(&mut [0; 16]).await.unwrap();
        write.await.unwrap();
        assert_eq!(held(), 0);
    }
}
