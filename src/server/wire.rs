//! A caller's connection as hyper sees it, between its frames and the bytes below.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{frames::Frames, house::Guest, send_buffers::Held};

/// Shows hyper what a caller sends, but for frames that h2 takes wrongly ([`Frames`]), and counts a
/// connection that takes no bytes among the send buffers.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    guest: Arc<Guest>,
    frames: Frames,
    /// What was read while the connection was asked to end, and hyper has not got yet.
    passing: BytesMut,
    /// How much of it hyper may get. The rest is the beginning of a frame's head.
    looked_at: usize,
    /// While a write stands still.
    stalled: Option<Held>,
}

/// What is read at once while the connection is asked to end.
const PIECE: usize = 1024;
/// What a connection is counted with whose peer takes no bytes at all. It may hold the heads of as many
/// answers as there may be streams, and h2 keeps the room that it once had for these. With a hundred
/// streams, the default, a connection was measured to take 190 KiB (`unread_answers`: 150 of them with
/// refused calls take 29 MiB); the rest is for TLS.
const STALLED: usize = 256 * 1024;

impl<S> Wire<S> {
    pub(super) fn new(stream: S, guest: Arc<Guest>) -> Self {
        let (frames, passing) = (Frames::after_preface(), BytesMut::new());
        Self { stream, guest, frames, passing, looked_at: 0, stalled: None }
    }

    /// Counts the requests whose heads have been read.
    fn count_heads(&mut self) {
        let heads = self.frames.take_heads();
        if heads > 0 {
            self.guest.heads.bring(heads);
        }
    }

    /// Counts the connection while a write stands still.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.guest.heads.stall(false);
            }
        } else if self.stalled.is_none() {
            self.stalled = Some(self.guest.buffer.hold(STALLED));
            self.guest.heads.stall(true);
        }
        written
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.frames.is_in_head() {
            self.guest.heads.bring(1);
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads without holding anything back.
    fn pass(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let (_, fresh) = into.filled_mut().split_at_mut(before);
        self.frames.look(fresh, false);
        self.count_heads();
        Poll::Ready(Ok(()))
    }

    /// Reads until there is something that hyper may get, or the end.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.looked_at == 0 {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut piece))?;
            if piece.filled().is_empty() {
                // The end, perhaps in the middle of a head.
                self.looked_at = self.passing.len();
                break;
            }
            self.passing.extend_from_slice(piece.filled());
            let unfinished = self.frames.look(&mut self.passing, true);
            self.count_heads();
            self.looked_at = self.passing.len() - unfinished;
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
        if !self.guest.is_leaving() {
            return self.pass(context, into);
        }
        ready!(self.fill(context))?;
        let length = self.looked_at.min(into.remaining());
        self.looked_at -= length;
        into.put_slice(&self.passing.split_to(length));
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
        super::{house::Stay, opening::PREFACE},
        *,
    };

    /// What is read in pieces of `size`, of a connection that is asked to end after `begins` bytes.
    async fn heard(mut wire: Wire<DuplexStream>, begins: usize, size: usize) -> Vec<u8> {
        let (mut heard, mut piece) = (Vec::new(), vec![0; size]);
        loop {
            if heard.len() >= begins {
                wire.guest.leave();
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
        // Ends in the middle of a head.
        let sent = [PREFACE, &ping.repeat(100), &[0, 0, 8, 6]].concat();
        for (begins, size) in [(0, 1), (0, 7), (5, 3), (9, 2), (500, 4), (501, 2000), (5000, 9)] {
            let stay = Stay::alone();
            let (mut peer, stream) = tokio::io::duplex(11);
            let wire = Wire::new(stream, stay.guest.clone());
            let saying = async {
                peer.write_all(&sent).await.unwrap();
                drop(peer);
            };
            let ((), heard) = tokio::join!(saying, heard(wire, begins, size));
            assert!(heard == sent, "{begins} {size}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_takes_nothing_is_counted_until_it_does() {
        let stay = Stay::alone();
        let held = || stay.guest.buffer.bytes();
        let (mut peer, stream) = tokio::io::duplex(16);
        let mut wire = Wire::new(stream, stay.guest.clone());
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
