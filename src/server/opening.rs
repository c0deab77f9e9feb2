//! The beginning of an HTTP/2 connection, read before a place is given to it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// A stream whose peer is about to open a connection.
#[derive(Debug)]
pub(super) struct Opening<S> {
    stream: S,
    read: BytesMut,
}

/// A stream whose peer has said all that opens a connection; it is read from the beginning.
#[derive(Debug)]
pub(super) struct Opened<S> {
    /// What was read already.
    first: Bytes,
    stream: S,
}

/// Why a stream is no HTTP/2 connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpened {
    /// The peer hung up first.
    #[error("the peer hung up before its first settings")]
    Ended,
    /// It speaks another protocol.
    #[error("the peer does not speak HTTP/2")]
    Stranger,
    /// Its connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// What the beginning of a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Beginning {
    Whole,
    Unfinished,
    /// No HTTP/2; whether it may be HTTP/1.
    Other {
        http_1: bool,
    },
}

/// What a client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
/// Of a frame, before our settings have allowed more (RFC 9113, section 4.2).
const FRAME_MAX: usize = 16_384;
/// Most clients open with a hundred bytes and send the first call along.
const READ_SIZE: usize = 1024;

const HTTP_1_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\nConnection: close\r\n\r\n\
    This port speaks gRPC, which is HTTP/2 from its first byte.\n";

/// Settings of ours, and a GOAWAY that says that nothing was done (RFC 9113, section 6.8).
const NO_PLACE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x21\x07\0\0\0\0\0\0\0\0\0\0\0\0\0no place for another conn";

// === impl Opening ===

impl<S> Opening<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Opening<S> {
    /// Reads the preface and the client's first settings, whole. The caller bounds the time for it;
    /// dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`NotOpened`]. A client that speaks HTTP/1 has been told then what is spoken here.
    pub(super) async fn finish(&mut self) -> Result<(), NotOpened> {
        let Self { stream, read } = self;
        loop {
            match beginning(read) {
                Beginning::Whole => return Ok(()),
                Beginning::Unfinished => {}
                Beginning::Other { http_1 } => {
                    if http_1 {
                        farewell(stream, HTTP_1_ANSWER).await?;
                    }
                    return Err(NotOpened::Stranger);
                }
            }
            read.reserve(READ_SIZE);
            if stream.read_buf(read).await? == 0 {
                return Err(NotOpened::Ended);
            }
        }
    }

    /// Tells the peer that there is no place for its connection and that nothing was done, so that
    /// its library tries elsewhere. Nothing is said to a peer that has not said its preface. The
    /// caller bounds the time for it.
    pub(super) async fn turn_away(mut self) {
        if self.read.starts_with(PREFACE) {
            let _gone = farewell(&mut self.stream, NO_PLACE).await;
        }
    }
}

/// What has been read of a connection's beginning.
fn beginning(read: &[u8]) -> Beginning {
    let compared = read.len().min(PREFACE.len());
    let (said, rest) = read.split_at(compared);
    if !PREFACE.starts_with(said) {
        return Beginning::Other { http_1: said.first().is_some_and(u8::is_ascii_uppercase) };
    }
    let Some(head) = rest.first_chunk::<FRAME_HEAD>() else { return Beginning::Unfinished };
    let [a, b, c, kind, flags, stream @ ..] = *head;
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    // The first bit of a stream's number means nothing.
    let of_connection = u32::from_be_bytes(stream) << 1 == 0;
    if kind != SETTINGS || flags & ACK != 0 || !of_connection || length > FRAME_MAX {
        return Beginning::Other { http_1: false };
    }
    if rest.len() < FRAME_HEAD + length { Beginning::Unfinished } else { Beginning::Whole }
}

/// Says the last words and waits for the peer's end: closing before it has sent all of its
/// request would have TCP throw the answer away.
async fn farewell<S>(stream: &mut S, words: &[u8]) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(words).await?;
    stream.shutdown().await?;
    let mut unread = BytesMut::with_capacity(READ_SIZE);
    while stream.read_buf(&mut unread).await? > 0 {
        unread.clear();
    }
    Ok(())
}

// === impl Opened ===

impl<S> From<Opening<S>> for Opened<S> {
    fn from(Opening { stream, read }: Opening<S>) -> Self {
        Self { first: read.freeze(), stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let length = self.first.len().min(into.remaining());
        into.put_slice(self.first.get(..length).unwrap_or_default());
        self.first.advance(length);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opening(settings: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = settings.len().to_be_bytes();
        [PREFACE, &[a, b, c, SETTINGS, 0, 0, 0, 0, 0], settings].concat()
    }

    #[test]
    fn only_a_whole_opening_is_one() {
        let whole = opening(&[0; 12]);
        for length in 0..whole.len() {
            assert_eq!(beginning(&whole[..length]), Beginning::Unfinished, "{length}");
        }
        assert_eq!(beginning(&whole), Beginning::Whole);
        assert_eq!(beginning(&[&whole[..], b"more"].concat()), Beginning::Whole);
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for (said, http_1) in [
            (&b"GET"[..], true),
            (b"PO", true),
            (b"PRI * HTTP/1", true),
            (b"\x16\x03", false),
            (b"\0", false),
        ] {
            assert_eq!(beginning(said), Beginning::Other { http_1 }, "{said:?}");
        }
        let mut ping = opening(&[]);
        ping[PREFACE.len() + 3] = 6;
        let mut answer = opening(&[]);
        answer[PREFACE.len() + 4] = ACK;
        let mut of_a_stream = opening(&[]);
        of_a_stream[PREFACE.len() + 8] = 1;
        for said in [ping, answer, of_a_stream, opening(&vec![0; FRAME_MAX + 1])] {
            assert_eq!(beginning(&said), Beginning::Other { http_1: false });
        }
    }

    #[test]
    fn what_is_written_by_hand_has_the_lengths_that_it_says() {
        let (head, body) = NO_PLACE.split_at(2 * FRAME_HEAD);
        assert_eq!(usize::from(head[FRAME_HEAD + 2]), body.len());
        let answer = str::from_utf8(HTTP_1_ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }

    proptest! {
        #[test]
        fn what_was_read_first_is_read_again(
            settings in proptest::collection::vec(any::<u8>(), 0..200),
            more in proptest::collection::vec(any::<u8>(), 0..3000),
            pieces in 1..400_usize,
        ) {
            let said = [opening(&settings), more].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let heard = runtime.block_on(async {
                let (mut client, server) = tokio::io::duplex(pieces);
                let saying = async { client.write_all(&said).await.unwrap(); drop(client); };
                let hearing = async {
                    let mut opening = Opening::new(server);
                    opening.finish().await.unwrap();
                    let mut opened = Opened::from(opening);
                    let mut heard = Vec::new();
                    opened.read_to_end(&mut heard).await.unwrap();
                    heard
                };
                tokio::join!(saying, hearing).1
            });
            prop_assert_eq!(heard, said);
        }
    }
}
