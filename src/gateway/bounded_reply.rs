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
