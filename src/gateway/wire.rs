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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream as Peer},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";

    /// A connection without TLS on which a request is about to be written, and its other end.
    async fn connected() -> (Wire, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let tcp = TcpStream::connect(addr).await.expect("connected");
        let (peer, _) = listener.accept().expect("accepted");
        let wire = Wire::new(MaybeHttpsStream::Http(TokioIo::new(Socket::new(tcp))));
        wire.upcoming().announce(false);
        (wire, peer)
    }

    /// What hyper gets of this answer and the end after it, if it reads so many bytes at once.
    async fn passed((mut wire, mut peer): (Wire, Peer), answer: &str, room: usize) -> String {
        peer.write_all(answer.as_bytes()).expect("written");
        peer.shutdown(Shutdown::Write).expect("shut down");
        let (mut passed, mut buffer) = (Vec::new(), vec![0; room]);
        while let read @ 1.. = wire.read(&mut buffer).await.expect("read") {
            passed.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(passed).expect("text")
    }

    #[tokio::test]
    async fn an_interim_answer_that_comes_alone_does_not_look_like_the_end() {
        let answer = "HTTP/1.1 200 OK\r\nX: y\r\n\r\n{}";
        for room in [INTERIM.len(), 1024] {
            let (mut wire, peer) = connected().await;
            wire.write_all(b"GET").await.expect("written");
            let got = passed((wire, peer), &format!("{INTERIM}{answer}"), room).await;
            assert_eq!(got, answer, "{room} bytes at once");
        }
    }

    #[tokio::test]
    async fn a_head_that_is_cut_off_is_passed_on_with_the_end_after_it() {
        for cut in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\nT"] {
            let (mut wire, peer) = connected().await;
            wire.write_all(b"GET").await.expect("written");
            assert_eq!(passed((wire, peer), cut, 1024).await, cut);
        }
    }

    #[tokio::test]
    async fn a_request_may_be_written_from_several_buffers_at_once() {
        let (mut wire, mut peer) = connected().await;
        assert!(wire.is_write_vectored());
        let buffers = [io::IoSlice::new(b"GET"), io::IoSlice::new(b" /")];
        assert_eq!(wire.write_vectored(&buffers).await.expect("written"), 5);
        let mut request = [0; 5];
        peer.read_exact(&mut request).expect("read");
        assert_eq!(&request, b"GET /");
        assert_eq!(passed((wire, peer), INTERIM, 1024).await, "", "an answer is expected");
    }
}
