//! A caller's socket, below TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A socket whose write fails when it has been blocked for too long. Without that, answers that
/// nobody reads would stay in memory. It is below TLS, since only there it is visible whether the
/// peer takes any bytes.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    write_timeout: Duration,
    /// Set while a write is blocked.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// `write_timeout`: how long a write may be blocked.
    pub(super) fn new(stream: S, write_timeout: Duration) -> Self {
        Self { stream, write_timeout, stalled: None }
    }

    /// Passes a write's result on, or fails if the write has been blocked for too long.
    fn check_stall<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_stall(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Flushing a socket does nothing, so it does not show whether a write makes progress.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check_stall(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_ends_in_time() {
        let (_peer, stream) = tokio::io::duplex(64);
        let mut socket = Socket::new(stream, WRITE_TIMEOUT);
        socket.write_all(&[0; 60]).await.unwrap();
        let begun = Instant::now();
        let error = socket.write_all(&[0; 60]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, WRITE_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_at_a_time_gets_all_of_it() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut socket = Socket::new(stream, WRITE_TIMEOUT);
        let writing = async {
            // Flushed while the write is blocked, as TLS does.
            for _ in 0..10 {
                socket.write_all(&[0; 64]).await.unwrap();
                socket.flush().await.unwrap();
            }
        };
        let reading = async {
            for _ in 0..20 {
                sleep(WRITE_TIMEOUT * 9 / 10).await;
                peer.read_exact(&mut [0; 32]).await.unwrap();
            }
        };
        tokio::join!(writing, reading);
    }
}
