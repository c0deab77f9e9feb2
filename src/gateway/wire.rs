//! An open connection to a gateway: the bytes of TCP, or of TLS over TCP.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use super::{connector::Stream, socket::Socket, transport_cause::root_cause};

/// A connection that is closed, and counted as open no more, when it is dropped.
pub(super) struct Wire {
    /// Boxed, since TLS makes it large, and a connection goes from hand to hand.
    stream: Box<TokioIo<Stream>>,
    open: Gauge,
}

impl Wire {
    /// `open` counts it.
    pub(super) fn new(stream: Stream, open: &Gauge) -> Self {
        open.inc();
        Self { stream: Box::new(TokioIo::new(stream)), open: open.clone() }
    }

    pub(super) fn stream(&mut self) -> &mut TokioIo<Stream> {
        &mut self.stream
    }

    /// Why the connection can carry no request, if it cannot: the gateway has closed it, or has sent something that nobody
    /// asked for. What belongs to TLS alone, such as tickets after its handshake, does not matter. The kernel is asked if
    /// `is_exact`; otherwise this is only what tokio has noticed.
    pub(super) fn unusable(&mut self, is_exact: bool) -> Option<String> {
        self.socket().ask_kernel(is_exact);
        let mut byte = [0];
        let mut into = ReadBuf::new(&mut byte);
        // Nobody waits here for what may come later.
        let mut context = Context::from_waker(Waker::noop());
        let read = Pin::new(self.stream()).poll_read(&mut context, &mut into);
        self.socket().ask_kernel(false);
        match read {
            Poll::Pending => None,
            Poll::Ready(Ok(())) if into.filled().is_empty() => Some("connection closed".into()),
            Poll::Ready(Ok(())) => Some("received unexpected message from connection".into()),
            Poll::Ready(Err(error)) => Some(root_cause(&error)),
        }
    }

    /// Closes the connection once its peer has taken what is still to be written.
    pub(super) async fn close(mut self) {
        let _closed = self.stream.shutdown().await;
    }

    /// The TCP connection below TLS.
    fn socket(&mut self) -> &mut Socket {
        match self.stream.inner_mut() {
            MaybeHttpsStream::Http(tcp) => tcp.inner_mut(),
            MaybeHttpsStream::Https(tls) => tls.inner_mut().get_mut().0.inner_mut().inner_mut(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // TLS is ended in order, if the kernel takes a few bytes at once.
        let mut context = Context::from_waker(Waker::noop());
        let _ended: Poll<io::Result<()>> = Pin::new(self.stream()).poll_shutdown(&mut context);
        self.open.dec();
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
