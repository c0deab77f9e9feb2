//! Waits for the peer at the end of a connection that the bridge closes.
//!
//! A socket is reset if it is closed while received bytes are unread, or if more bytes come
//! afterwards. TCP then drops what the peer has not taken yet. That may be the end of an answer
//! that is read slowly, or the GOAWAY that tells which calls were processed. Therefore the bridge
//! shuts down only its sending side first, and reads on until the peer has closed its side.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::oneshot,
};

/// A stream that is handed back when its user drops it.
#[derive(Debug)]
pub(super) struct Lent<S> {
    /// None once it has been handed back.
    stream: Option<S>,
    owner: Option<oneshot::Sender<S>>,
}

/// How long a peer may take to read what it has been sent, from the last answer on. The kernel
/// holds up to 256 KiB for the peer, and the bridge cannot see whether the peer has read them.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(10);
/// How many bytes are read from a peer after the bridge has sent everything. A correct peer sends
/// only what it began before it read the GOAWAY. By default, the windows of its calls allow 128 KiB
/// of that.
const READ_MAX: usize = 1024 * 1024;
/// How many bytes are read at once.
const PIECE: usize = 4 * 1024;

// === impl Lent ===

impl<S> Lent<S> {
    /// The stream to use, and a receiver that gets the stream when the first is dropped.
    pub(super) fn new(stream: S) -> (Self, oneshot::Receiver<S>) {
        let (owner, back) = oneshot::channel();
        (Self { stream: Some(stream), owner: Some(owner) }, back)
    }

    fn stream<T>(
        &mut self,
        with: impl FnOnce(&mut S) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => with(stream),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(owner)) = (self.stream.take(), self.owner.take()) {
            // If nobody wants it back, dropping it closes it.
            drop(owner.send(stream));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(|stream| Pin::new(stream).poll_read(context, into))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(|stream| Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(|stream| Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(|stream| Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream(|stream| Pin::new(stream).poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

/// Shuts down the sending side (over TLS with a close_notify), then reads and discards what comes
/// until the peer closes or has sent too much. The caller bounds the time.
pub(super) async fn linger<S: AsyncRead + AsyncWrite>(stream: S) {
    let (read, mut write) = tokio::io::split(stream);
    // Concurrently: the shutdown over TLS may have to wait for a peer that itself waits until its
    // bytes are read.
    let (_gone, ()) = tokio::join!(write.shutdown(), throw_away(read));
}

async fn throw_away(mut stream: impl AsyncRead + Unpin) {
    let (mut piece, mut read) = (vec![0; PIECE], 0);
    while read < READ_MAX {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_comes_back_when_its_user_is_dropped() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let (mut lent, back) = Lent::new(stream);
        lent.write_all(b"one ").await.unwrap();
        drop(lent);
        let mut stream = back.await.unwrap();
        stream.write_all(b"two").await.unwrap();
        drop(stream);
        let mut read = String::new();
        peer.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "one two");
    }

    #[tokio::test]
    async fn what_a_peer_goes_on_to_send_is_read_until_it_is_too_much() {
        let (mut peer, stream) = tokio::io::duplex(PIECE);
        let sending = async {
            let mut sent = 0;
            while peer.write_all(&[0; PIECE]).await.is_ok() {
                sent += PIECE;
            }
            sent
        };
        let (sent, ()) = tokio::join!(sending, linger(stream));
        assert!((READ_MAX..=READ_MAX + 2 * PIECE).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn a_peer_that_waits_until_its_words_are_read_hears_the_end() {
        let (mut peer, stream) = tokio::io::duplex(16);
        let saying = async {
            peer.write_all(&[0; 1000]).await.unwrap();
            let mut read = Vec::new();
            peer.read_to_end(&mut read).await.unwrap();
            drop(peer);
            read
        };
        let (read, ()) = tokio::join!(saying, linger(stream));
        assert_eq!(read, b"");
    }
}
