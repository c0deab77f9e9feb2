//! A connection to a gateway as hyper sees it: between HTTP/1.1 and the bytes of TLS or TCP.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    connector::Stream,
    heads::{BadHead, Heads},
    socket::{Socket, Upcoming},
};

/// Passes to hyper what a gateway sends, except for parts of heads that hyper cannot take ([`Heads`]).
pub(super) struct Wire {
    stream: TokioIo<Stream>,
    heads: Heads,
    upcoming: Arc<Upcoming>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let upcoming = socket(&stream).upcoming().clone();
        Self { stream: TokioIo::new(stream), heads: Heads::default(), upcoming }
    }

    /// Tells the connection which requests are coming.
    pub(super) fn upcoming(&self) -> &Arc<Upcoming> {
        &self.upcoming
    }

    fn stream(&mut self) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.stream)
    }

    /// Reads a part of a head, and takes out what hyper cannot take.
    fn read_head(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        loop {
            let held = self.heads.held();
            if into.remaining() <= held.len() {
                return Poll::Ready(Err(io::Error::other(BadHead::TooLong)));
            }
            into.put_slice(held);
            let with_held = into.filled().len();
            let read = self.stream().poll_read(context, into);
            if !matches!(read, Poll::Ready(Ok(()))) {
                into.set_filled(before);
                return read;
            }
            if into.filled().len() == with_held {
                // The end of the stream. hyper reports a head that is incomplete.
                self.heads = Heads::default();
                return Poll::Ready(Ok(()));
            }
            let (_, fresh) = into.filled_mut().split_at_mut(before);
            let kept = self.heads.pass(fresh).map_err(io::Error::other)?;
            into.set_filled(before + kept);
            // Nothing at all would be the end of the stream to hyper.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// The TCP connection below TLS.
fn socket(stream: &Stream) -> &Socket {
    match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.heads.is_outside() {
            return self.read_head(context, into);
        }
        self.stream().poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.upcoming.begins() {
            self.heads.begin();
        }
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.upcoming.begins() {
            self.heads.begin();
        }
        self.stream().poll_write_vectored(context, buffers)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("heads", &self.heads).finish_non_exhaustive()
    }
}
