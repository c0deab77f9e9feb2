//! The first bytes of an HTTP/2 connection, which are read before it gets a slot.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::rpc::WHAT_IS_SPOKEN;

/// A stream from which the client's preface and first SETTINGS frame are being read.
#[derive(Debug)]
pub(super) struct PrefaceReader<S> {
    stream: S,
    read: BytesMut,
}

/// A stream whose preface has been read. Reading it starts again from the first byte.
#[derive(Debug)]
pub(super) struct AfterPreface<S> {
    /// The bytes that were read already.
    first: Bytes,
    stream: S,
}

/// Why a stream is not an HTTP/2 connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrefaceError {
    /// The peer closed it too early.
    #[error("the peer hung up before its first settings")]
    Ended,
    /// The first bytes are of another protocol. `http_1`: they may be HTTP/1.
    #[error("the peer does not speak HTTP/2")]
    OtherProtocol { http_1: bool },
    /// Reading failed.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// What the bytes read so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The preface and all of the first settings.
    Whole,
    /// A part of them.
    Unfinished,
    /// Not HTTP/2.
    Other {
        /// Whether they may be HTTP/1.
        http_1: bool,
    },
}

/// The first bytes of every HTTP/2 client (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
/// The longest frame that a peer may send before it has seen our settings (RFC 9113, section 4.2).
const FRAME_MAX: usize = 16_384;
/// Most clients start with about a hundred bytes and send their first call along.
const READ_SIZE: usize = 1024;

/// An empty SETTINGS frame, and a GOAWAY that says that no stream was processed (RFC 9113, section
/// 6.8).
const NO_PLACE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x21\x07\0\0\0\0\0\0\0\0\0\0\0\0\0no place for another conn";

// === impl PrefaceReader ===

impl<S> PrefaceReader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PrefaceReader<S> {
    /// Reads the preface and the client's first SETTINGS frame. The caller bounds the time.
    /// Dropping the future loses nothing that was read.
    ///
    /// # Errors
    ///
    /// [`PrefaceError`].
    pub(super) async fn read_preface(&mut self) -> Result<(), PrefaceError> {
        let Self { stream, read } = self;
        loop {
            match beginning(read) {
                Beginning::Whole => return Ok(()),
                Beginning::Unfinished => {}
                Beginning::Other { http_1 } => return Err(PrefaceError::OtherProtocol { http_1 }),
            }
            read.reserve(READ_SIZE);
            if stream.read_buf(read).await? == 0 {
                return Err(PrefaceError::Ended);
            }
        }
    }

    /// Tells the peer that no slot is free and that nothing was processed, so that its gRPC library
    /// tries elsewhere. Tells a peer that speaks HTTP/1 what is spoken here. Sends nothing if neither
    /// is known from what has come. The caller bounds the time.
    pub(super) async fn turn_away(mut self) {
        let told = match beginning(&self.read) {
            Beginning::Other { http_1: true } => Bytes::from(http_1_answer()),
            Beginning::Other { http_1: false } => return,
            _ if self.read.starts_with(PREFACE) => Bytes::from_static(NO_PLACE),
            _ => return,
        };
        let _gone = send_and_close(&mut self.stream, &told).await;
    }
}

/// The same answer to any request. Clients of gRPC-Web and Connect speak HTTP/1 where there is no
/// TLS.
fn http_1_answer() -> String {
    format!(
        "HTTP/1.1 415 Unsupported Media Type\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{WHAT_IS_SPOKEN}",
        WHAT_IS_SPOKEN.len()
    )
}

/// Classifies the bytes read so far.
pub fn beginning(read: &[u8]) -> Beginning {
    let compared = read.len().min(PREFACE.len());
    let (said, rest) = read.split_at(compared);
    if !PREFACE.starts_with(said) {
        return Beginning::Other { http_1: said.first().is_some_and(u8::is_ascii_uppercase) };
    }
    let Some(head) = rest.first_chunk::<FRAME_HEADER>() else { return Beginning::Unfinished };
    let [a, b, c, kind, flags, stream @ ..] = *head;
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    // The first bit of a stream number is reserved and means nothing.
    let of_connection = u32::from_be_bytes(stream) << 1 == 0;
    if kind != SETTINGS || flags & ACK != 0 || !of_connection || length > FRAME_MAX {
        return Beginning::Other { http_1: false };
    }
    if rest.len() < FRAME_HEADER + length { Beginning::Unfinished } else { Beginning::Whole }
}

/// Sends the last bytes and waits for the peer to close. If the socket were closed while the peer
/// is still sending, TCP would reset it and drop what was sent.
async fn send_and_close<S>(stream: &mut S, words: &[u8]) -> io::Result<()>
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

// === impl AfterPreface ===

impl<S> From<PrefaceReader<S>> for AfterPreface<S> {
    fn from(PrefaceReader { stream, read }: PrefaceReader<S>) -> Self {
        Self { first: read.freeze(), stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AfterPreface<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for AfterPreface<S> {
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

    fn preface(settings: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = settings.len().to_be_bytes();
        [PREFACE, &[a, b, c, SETTINGS, 0, 0, 0, 0, 0], settings].concat()
    }

    #[test]
    fn only_a_complete_preface_is_accepted() {
        let whole = preface(&[0; 12]);
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
        let mut ping = preface(&[]);
        ping[PREFACE.len() + 3] = 6;
        let mut answer = preface(&[]);
        answer[PREFACE.len() + 4] = ACK;
        let mut of_a_stream = preface(&[]);
        of_a_stream[PREFACE.len() + 8] = 1;
        for said in [ping, answer, of_a_stream, preface(&vec![0; FRAME_MAX + 1])] {
            assert_eq!(beginning(&said), Beginning::Other { http_1: false });
        }
    }

    #[test]
    fn what_is_written_by_hand_has_the_lengths_that_it_says() {
        let (head, body) = NO_PLACE.split_at(2 * FRAME_HEADER);
        assert_eq!(usize::from(head[FRAME_HEADER + 2]), body.len());
    }

    proptest! {
        #[test]
        fn what_was_read_first_is_read_again(
            settings in proptest::collection::vec(any::<u8>(), 0..200),
            more in proptest::collection::vec(any::<u8>(), 0..3000),
            pieces in 1..400_usize,
        ) {
            let said = [preface(&settings), more].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let heard = runtime.block_on(async {
                let (mut client, server) = tokio::io::duplex(pieces);
                let saying = async { client.write_all(&said).await.unwrap(); drop(client); };
                let hearing = async {
                    let mut reader = PrefaceReader::new(server);
                    reader.read_preface().await.unwrap();
                    let mut opened = AfterPreface::from(reader);
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
