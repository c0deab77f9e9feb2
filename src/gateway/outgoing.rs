//! A request as it is written.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use secrecy::zeroize::Zeroize as _;
use tokio::io::AsyncWrite;

use super::interface::BODY_LIMIT;

/// The bytes of a request, and how many of them have been written. The head is overwritten when it has left, or is dropped.
/// There is no `Debug`, since a request may have a Guid and a password.
pub(super) struct Outgoing {
    head: Vec<u8>,
    body: Bytes,
    written: usize,
    is_flushed: bool,
    /// Why the rest cannot be written, if it cannot.
    failed: Option<io::ErrorKind>,
    /// The longest body of the answer in bytes.
    answer_limit: usize,
}

impl Outgoing {
    pub(super) fn new(head: Vec<u8>, body: Bytes) -> Self {
        Self { head, body, written: 0, is_flushed: false, failed: None, answer_limit: BODY_LIMIT }
    }

    /// The same, with an answer of so many bytes at most.
    pub(super) fn answered_within(mut self, answer_limit: usize) -> Self {
        self.answer_limit = answer_limit;
        self
    }

    /// The longest body of the answer in bytes.
    pub(super) fn answer_limit(&self) -> usize {
        self.answer_limit
    }

    /// Writes what the stream takes. Ready when it has taken everything, or has failed. Then nothing more is written: TLS
    /// may have taken bytes without saying so, and a server would get them twice.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let written = self.poll_rest(stream, context);
        if let Poll::Ready(Err(error)) = &written {
            self.failed = Some(error.kind());
        }
        written
    }

    fn poll_rest(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let [head, body] = self.rest();
            if head.is_empty() && body.is_empty() {
                break;
            }
            let stream = Pin::new(&mut *stream);
            let written = if body.is_empty() {
                stream.poll_write(context, head)
            } else {
                // Together, so that they fit into one packet.
                stream.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(body)])
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if !self.is_flushed {
            ready!(Pin::new(stream).poll_flush(context))?;
            // A poll waits long for its answer, and needs no memory for this meanwhile.
            self.wipe();
            (self.head, self.body, self.is_flushed) = (Vec::new(), Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything has left.
    pub(super) fn is_done(&self) -> bool {
        self.is_flushed
    }

    /// What has not been written of the head, and of the body.
    fn rest(&self) -> [&[u8]; 2] {
        let of_body = self.written.saturating_sub(self.head.len());
        let parts = [(&*self.head, self.written.min(self.head.len())), (&*self.body, of_body)];
        parts.map(|(part, written)| part.get(written..).unwrap_or_default())
    }

    /// Overwrites the Guid and the cookies. It is done as a slice: a vector is overwritten byte by byte, which takes longer.
    fn wipe(&mut self) {
        self.head.as_mut_slice().zeroize();
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What arrives of a request whose peer takes so many bytes at once.
    async fn written(head: &str, body: &'static str, room: usize) -> String {
        let (mut near, mut far) = tokio::io::duplex(room);
        let mut outgoing = Outgoing::new(head.into(), Bytes::from_static(body.as_bytes()));
        let reading = async {
            let mut read = vec![0; head.len() + body.len()];
            far.read_exact(&mut read).await.expect("read");
            String::from_utf8(read).expect("text")
        };
        assert!(!outgoing.is_done());
        let writing = std::future::poll_fn(|context| outgoing.poll_write(&mut near, context));
        let (result, read) = tokio::join!(writing, reading);
        result.expect("written");
        assert!(outgoing.is_done());
        read
    }

    #[tokio::test]
    async fn a_request_is_written_in_as_many_pieces_as_its_peer_takes() {
        for (head, body) in [("GET / HTTP/1.1\r\n\r\n", ""), ("PUT", "{}"), ("", "{}"), ("", "")] {
            for room in [1, 2, 3, 4, 1000] {
                assert_eq!(written(head, body, room).await, [head, body].concat(), "{room}");
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_more_is_an_error() {
        let (mut near, far) = tokio::io::duplex(1);
        drop(far);
        let mut outgoing = Outgoing::new(b"GET".to_vec(), Bytes::new());
        let writing = std::future::poll_fn(|context| outgoing.poll_write(&mut near, context));
        assert!(writing.await.is_err());
        assert!(!outgoing.is_done());
    }

    #[test]
    fn a_head_is_overwritten_as_a_whole() {
        let mut outgoing = Outgoing::new(b"Guid: a.N1\r\n\r\n".to_vec(), Bytes::new());
        outgoing.wipe();
        assert_eq!(outgoing.head, [0_u8; 14]);
    }

    /// Fails once, and takes everything then.
    #[derive(Default)]
    struct FailsOnce {
        has_failed: bool,
        taken: usize,
    }

    impl AsyncWrite for FailsOnce {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if !self.has_failed {
                self.has_failed = true;
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            self.taken += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn nothing_is_written_after_a_failure() {
        let mut stream = FailsOnce::default();
        let mut outgoing = Outgoing::new(b"GET".to_vec(), Bytes::new());
        for _ in 0..2 {
            let writing = std::future::poll_fn(|context| outgoing.poll_write(&mut stream, context));
            let failed = writing.await.map_err(|error| error.kind());
            assert_eq!(failed, Err(io::ErrorKind::OutOfMemory));
        }
        assert_eq!(stream.taken, 0);
        assert!(!outgoing.is_done());
    }
}
