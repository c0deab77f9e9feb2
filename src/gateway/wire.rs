//! A connection to a gateway as hyper sees it: between HTTP/1.1 and the bytes of TLS or TCP.

use std::{
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    connector::Stream,
    heads::{BadHead, Heads},
};

/// Passes to hyper what a gateway sends, except for parts of heads that hyper cannot take ([`Heads`]).
/// Ends a connection on which the gateway has sent something before the request.
pub(super) struct Wire {
    stream: TokioIo<Stream>,
    heads: Heads,
    upcoming: Arc<Upcoming>,
}

/// Whether a request is about to be written. The connection's owner says so, and the wire, which hyper
/// owns, asks.
#[derive(Debug, Default)]
pub(super) struct Upcoming(AtomicU8);

/// No request is about to be written.
const NONE: u8 = 0;
/// The first of a connection is.
const FIRST: u8 = 1;
/// One is, on a connection that has been idle.
const AFTER_REST: u8 = 2;

impl Upcoming {
    /// Announces a request. `rested` tells whether the connection has been idle.
    pub(super) fn announce(&self, rested: bool) {
        self.0.store(if rested { AFTER_REST } else { FIRST }, Ordering::Relaxed);
    }

    /// Whether one is announced, and now begins to be written.
    fn begins(&self) -> bool {
        let announced = self.0.load(Ordering::Relaxed) != NONE;
        if announced {
            self.0.store(NONE, Ordering::Relaxed);
        }
        announced
    }

    fn comes_after_rest(&self) -> bool {
        self.0.load(Ordering::Relaxed) == AFTER_REST
    }
}

impl Wire {
    pub(super) fn new(stream: Stream, upcoming: Arc<Upcoming>) -> Self {
        Self { stream: TokioIo::new(stream), heads: Heads::default(), upcoming }
    }

    fn stream(&mut self) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.stream)
    }

    /// Called where tokio knows of nothing to read.
    ///
    /// tokio looks at sockets only now and then. A gateway or proxy that closes an idle connection, maybe
    /// after an answer (408) that nobody asked for, may have done so before the request is written
    /// without tokio knowing yet. So the kernel itself is asked before a connection is used again. The error makes hyper give the request back unwritten: it reads before it takes a
    /// request to write.
    fn nothing_to_read(&self) -> Poll<io::Result<()>> {
        if self.upcoming.comes_after_rest() && self.has_unread() {
            return Poll::Ready(Err(io::Error::other("the gateway ended the idle connection")));
        }
        Poll::Pending
    }

    /// Whether the kernel has bytes of the gateway, or the end of the connection.
    fn has_unread(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(self.socket()).peek(&mut byte);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn socket(&self) -> &TcpStream {
        match self.stream.inner() {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        }
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

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.heads.is_outside() {
            return self.read_head(context, into);
        }
        match self.stream().poll_read(context, into) {
            Poll::Pending => self.nothing_to_read(),
            read @ Poll::Ready(_) => read,
        }
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
