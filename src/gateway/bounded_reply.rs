//! An answer while it is being read.

use bytes::Bytes;
use http::response::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{envelope::Unreadable, reply::Reply, transport_cause::root_cause};

/// An answer of which at least the headers have come. It has no `Debug`, since headers and body may have a
/// Guid.
pub(super) struct BoundedReply {
    head: Parts,
    body: Body,
}

/// How the reading of a body ended.
#[derive(Debug)]
pub(super) enum End {
    /// With the end of the body.
    Whole,
    /// The body is longer than [`MAX_BODY_BYTES`].
    TooLong,
    /// The connection ended before the body did. Has the cause as a text.
    Cut(String),
    /// The time limit passed.
    Late,
}

/// What has come of a body. Most come in one piece, which is not copied.
#[derive(Default)]
struct Body {
    first: Bytes,
    /// All that has come, once there is more than one piece.
    pieces: Vec<u8>,
}

/// The longest body in bytes, also after its content encoding has been undone. Answers of the used
/// interfaces have less than a tenth of it.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

impl BoundedReply {
    pub(super) fn new(head: Parts) -> Self {
        Self { head, body: Body::default() }
    }

    /// Reads the body to its end. What has come is not lost if this is dropped before.
    pub(super) async fn read(&mut self, mut body: Incoming) -> End {
        while let Some(frame) = body.frame().await {
            let piece = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return End::Cut(root_cause(&error)),
            };
            if self.body.bytes().len() + piece.len() > MAX_BODY_BYTES {
                return End::TooLong;
            }
            self.body.add(piece);
        }
        End::Whole
    }

    /// The answer. `None` if it was cut.
    ///
    /// A complete JSON object with a retcode is an answer even if its end was not marked: some servers
    /// close TLS without `close_notify`, leave out the last chunk, or promise more bytes than they send.
    pub(super) fn into_reply(self, end: &End) -> Option<Reply> {
        let Self { head, body } = self;
        let (body, is_whole) = match end {
            End::TooLong => (Err(Unreadable::TooLong { limit: MAX_BODY_BYTES }), false),
            _ => (Ok(body.bytes()), matches!(end, End::Whole)),
        };
        let reply = Reply::new(head, body, is_whole);
        let is_cut = matches!(end, End::Cut(_) | End::Late) && reply.envelope.is_err();
        (!is_cut).then_some(reply)
    }
}

impl End {
    /// Why there is no complete answer, as a text.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Cut(cause) => format!("the answer was cut: {cause}"),
            _ => "the answer was cut".into(),
        }
    }
}

impl Body {
    fn add(&mut self, piece: Bytes) {
        if self.bytes().is_empty() {
            self.first = piece;
            return;
        }
        if self.pieces.is_empty() {
            self.pieces.extend_from_slice(&self.first);
        }
        self.pieces.extend_from_slice(&piece);
    }

    fn bytes(&self) -> &[u8] {
        if self.pieces.is_empty() { &self.first } else { &self.pieces }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ACCEPTED: &str = "{\"retcode\":\"0\"}";

    /// What is read of a gateway that sends this for an answer, and closes the connection.
    async fn read(answer: String) -> (BoundedReply, End) {
        let (near, mut far) = tokio::io::duplex(4096);
        let connection = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(near)).await;
        let (mut sender, driver) = connection.expect("a connection");
        tokio::spawn(driver);
        tokio::spawn(async move {
            let asked = far.read(&mut [0; 1024]).await.expect("readable");
            assert!(asked > 0, "there is a request");
            // The bridge does not read all of an answer that is too long.
            let _sent = far.write_all(answer.as_bytes()).await;
        });
        let request = Request::new(Empty::new());
        let (head, body) = sender.send_request(request).await.expect("a head").into_parts();
        let mut begun = BoundedReply::new(head);
        let end = begun.read(body).await;
        (begun, end)
    }

    /// A body in pieces of this many bytes.
    fn in_pieces(body: &str, length: usize) -> String {
        let pieces = body.as_bytes().chunks(length).map(String::from_utf8_lossy);
        let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        answer.extend(pieces.map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())));
        answer + "0\r\n\r\n"
    }

    #[tokio::test]
    async fn the_longest_body_is_read_in_however_many_pieces_it_comes_and_a_longer_one_is_not() {
        for (length, is_read) in [(MAX_BODY_BYTES, true), (MAX_BODY_BYTES + 1, false)] {
            let message = "x".repeat(length - "{'retcode':'0','message':''}".len());
            let body = format!("{{\"retcode\":\"0\",\"message\":\"{message}\"}}");
            assert_eq!(body.len(), length);
            let at_once = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            for answer in [at_once, in_pieces(&body, 1000)] {
                let (begun, end) = read(answer).await;
                assert_eq!(matches!(end, End::Whole), is_read, "{end:?}");
                assert_eq!(matches!(end, End::TooLong), !is_read, "{end:?}");
                let reply = begun.into_reply(&end).expect("it is an answer");
                assert_eq!(reply.is_whole, is_read);
                let too_long = Unreadable::TooLong { limit: MAX_BODY_BYTES };
                let expected = is_read.then(|| message.clone()).ok_or(too_long);
                assert!(reply.envelope.map(|envelope| envelope.message) == expected, "{end:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_too_early_is_cut_for_a_reason() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{ACCEPTED}");
        let (begun, end) = read(answer).await;
        assert!(matches!(end, End::Cut(_)), "{end:?}");
        assert_eq!(end.cause(), "the answer was cut: the gateway closed the connection");
        assert!(begun.into_reply(&end).is_some(), "it is complete, whatever its length");
        assert_eq!(End::Late.cause(), "the answer was cut");
    }

    #[test]
    fn a_cut_body_is_an_answer_only_if_it_is_complete() {
        let cut = || End::Cut("reset".into());
        for (end, body, is_answer) in [
            (End::Whole, ACCEPTED, true),
            (End::Whole, "<html>", true),
            (End::Whole, "", true),
            (cut(), ACCEPTED, true),
            (cut(), "{\"retcode\":\"0\"", false),
            (cut(), "", false),
            (End::Late, ACCEPTED, true),
            (End::Late, "<html>", false),
            (End::TooLong, ACCEPTED, true),
        ] {
            let mut begun = BoundedReply::new(http::Response::new(()).into_parts().0);
            begun.body.add(Bytes::from_static(body.as_bytes()));
            assert_eq!(begun.into_reply(&end).is_some(), is_answer, "{end:?} {body}");
        }
    }
}
