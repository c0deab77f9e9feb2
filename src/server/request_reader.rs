//! Reads each request's message to its end before anything else is done with the request.

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, poll};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    message_frame::{FRAME_HEAD, Framing},
    request_stream::{StreamRefusal, StreamingBody},
};
use crate::{
    call::{Obstacle, Share, Unreadable, Wait},
    config,
    rpc::Encoding,
    tenant::{PeerPlaces, Resource, Usage},
};

/// Reads request messages, and bounds how many may be incomplete at once.
///
/// Most requests come complete with their HEADERS and wait for nothing. Each other one takes a
/// place, and so does one whose token waits for its issuer's keys, for as long as its caller's deadline allows
/// and no longer than [`READ_LIMIT`]. When there is no place left, the address with the most places loses its oldest one. So incomplete messages
/// take a bounded part of the memory, and they do not keep out callers who send complete ones.
#[derive(Debug)]
pub(super) struct RequestReader {
    places: Arc<PeerPlaces>,
    /// Requests that were refused, and whose rest is still to come. Apart from the others, since a
    /// request that is refused for having lost its place must not take that of another one.
    refused: Arc<PeerPlaces>,
    /// The longest message in bytes, which also bounds the body.
    limit: usize,
}

/// Who sent a request, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// The address of the connection's peer.
    pub(super) peer: IpAddr,
    /// When the request's headers had been read.
    pub(super) arrived: Instant,
}

/// A request's body, as the services see it.
pub(super) enum RequestBody {
    /// All of it, or as much as it takes to know that it is too long.
    Whole(Bytes),
    /// Read by the service as it comes, message by message.
    Stream(Box<StreamingBody>),
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long a message of some kilobytes may take, whatever the deadline.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long the rest of a refused request is read. Its caller has sent it already, unless the network
/// loses something, or it means to send a stream and takes its time.
const DISCARD_LIMIT: Duration = Duration::from_secs(1);
/// Requests that may be incomplete at once. Fewer if the configuration allows large messages.
const PLACES_MAX: usize = 1024;
/// Bytes that incomplete requests may take together.
const BYTES_MAX: usize = 32 * 1024 * 1024;

// === impl RequestReader ===

impl RequestReader {
    /// A reader with the limits of this server.
    pub(super) fn new(server: &config::Server) -> Self {
        let message = server.limits.message_size;
        let places = PLACES_MAX.min(server.limits.calls.get()).min(BYTES_MAX / message.max(1));
        // Nothing is kept of what comes of refused ones.
        let [places, refused] = [places, PLACES_MAX].map(PeerPlaces::new);
        Self { places, refused, limit: message }
    }

    /// How many requests wait for the rest of their message.
    pub(super) fn usage(&self) -> Usage {
        self.places.usage(Resource::Share(Share::ServerReading))
    }

    /// Reads a request that is one message, until `answer_by` at the longest. The message comes back
    /// in its frame, without compression.
    ///
    /// # Errors
    ///
    /// Why the request is not read to its end, or what is wrong with it.
    pub(super) async fn read_message(
        &self,
        encoding: Encoding,
        sender: Sender,
        mut body: Incoming,
        answer_by: impl Fn() -> Instant,
    ) -> Result<RequestBody, Obstacle> {
        let framing = Framing { limit: self.limit, encoding };
        let whole = self.whole(framing, sender, &mut body, answer_by).await;
        let message = whole.and_then(|whole| Ok(framing.only_message(whole)?));
        if message.is_err() {
            self.discard(sender.peer, body);
        }
        message.map(RequestBody::Whole)
    }

    /// The body of a request that is a stream. What is wrong with it goes to `refusal`.
    pub(super) fn read_stream(
        &self,
        encoding: Encoding,
        peer: IpAddr,
        body: Incoming,
        refusal: StreamRefusal,
    ) -> RequestBody {
        let framing = Framing { limit: self.limit, encoding };
        let place = self.places.enter(peer);
        let displaced = self.displaced();
        RequestBody::Stream(Box::new(StreamingBody::new(body, framing, place, displaced, refusal)))
    }

    /// Reads what is still to come of a request of `peer` that is answered already, and throws it away:
    /// as much as one message may have, for [`DISCARD_LIMIT`] at the longest.
    ///
    /// A body that is dropped before its end resets its stream. What comes of it nevertheless counts in
    /// h2 against limits for the whole life of the connection: small DATA that nobody reads, and DATA
    /// of streams whose reset it has forgotten, which it does after a second or 50 others. The message of most
    /// libraries comes a moment after the head, so some hundred refusals would end the connection, and
    /// all calls on it.
    pub(super) fn discard(&self, peer: IpAddr, body: Incoming) {
        let mut rest = Box::pin(read_away(body, FRAME_HEAD + self.limit));
        // Often it is all there, and neither a place nor a task is needed.
        if rest.as_mut().now_or_never().is_some() {
            return;
        }
        let place = self.refused.enter(peer);
        tokio::spawn(async move {
            tokio::select! {
                _read = timeout(DISCARD_LIMIT, rest) => {}
                () = place.lost() => {}
            }
        });
    }

    /// Why a request that has lost its place to a newer one is not read further.
    fn displaced(&self) -> Obstacle {
        Obstacle::Overloaded { share: Share::ServerReading, limit: self.places.limit() }
    }

    async fn whole(
        &self,
        framing: Framing,
        sender: Sender,
        body: &mut Incoming,
        answer_by: impl Fn() -> Instant,
    ) -> Result<Bytes, Obstacle> {
        match self.in_place(sender, framing.read(body), answer_by).await? {
            Some(read) => read.map_err(|_gone| Unreadable::BrokenOff.into()),
            None => Err(Obstacle::Deadline(Wait::Request)),
        }
    }

    /// Waits until `answer_by`, and no longer than [`READ_LIMIT`], for what a request needs before its method is
    /// called. `None`: it has not come by then.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if it has lost its place to a newer request.
    pub(super) async fn in_place<T>(
        &self,
        sender: Sender,
        waiting: impl Future<Output = T>,
        answer_by: impl FnOnce() -> Instant,
    ) -> Result<Option<T>, Obstacle> {
        let mut waiting = pin!(waiting);
        // Nearly always it is there already, and neither a place nor a timer is needed.
        if let Poll::Ready(at_once) = poll!(waiting.as_mut()) {
            return Ok(Some(at_once));
        }
        let place = self.places.enter(sender.peer);
        let end = answer_by().min(sender.arrived + READ_LIMIT);
        tokio::select! {
            biased;
            late = waiting => Ok(Some(late)),
            () = place.lost() => Err(self.displaced()),
            () = sleep_until(end) => Ok(None),
        }
    }
}

// === impl Framing ===

impl Framing {
    /// Reads a body with one message. Stops when it is known to be something else.
    async fn read(self, body: &mut Incoming) -> Result<Bytes, hyper::Error> {
        let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
        if body.is_end_stream() {
            return Ok(first);
        }
        // Copied, since a piece of a few bytes would keep the whole buffer alive that it was read
        // into.
        let mut whole = BytesMut::new();
        self.add(&mut whole, &first);
        drop(first);
        while !self.is_enough(&whole) {
            match next(body).await? {
                Some(piece) => self.add(&mut whole, &piece),
                None => break,
            }
        }
        Ok(whole.freeze())
    }

    fn add(self, whole: &mut BytesMut, piece: &[u8]) {
        // One byte more than the longest message, which shows that it is not the only one.
        let room = (FRAME_HEAD + self.limit + 1).saturating_sub(whole.len());
        whole.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    /// Whether reading more would change nothing, since the message is longer than allowed, or more
    /// follows it.
    fn is_enough(self, read: &[u8]) -> bool {
        match self.length(read) {
            Ok(length) => length.is_some_and(|length| read.len() > length),
            Err(_too_long) => true,
        }
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = body.frame().await {
        // Trailers of a request mean nothing.
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads a body to its end, or until it has more than `limit` bytes.
async fn read_away(mut body: Incoming, limit: usize) {
    let mut left = limit;
    while let Ok(Some(piece)) = next(&mut body).await {
        let Some(rest) = left.checked_sub(piece.len()) else { return };
        left = rest;
    }
}

// === impl RequestBody ===

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(streaming) => streaming.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(streaming) => streaming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_far_as_it_may_be_one() {
        let limit = Framing { limit: 4, encoding: Encoding::Identity };
        for (read, enough) in [
            (&[0, 0, 0, 0][..], false),
            (&[0, 0, 0, 0, 4], false),
            (&[0, 0, 0, 0, 4, 1, 2, 3, 4], false),
            (&[0, 0, 0, 0, 5], true),
            (&[0, 0xff, 0xff, 0xff, 0xff], true),
            (&[0, 0, 0, 0, 4, 1, 2, 3, 4, 5], true),
            // The message is followed by more than itself.
            (&[0, 0, 0, 0, 2, 1, 2, 3, 4], true),
        ] {
            assert_eq!(limit.is_enough(read), enough, "{read:?}");
        }
        let mut whole = BytesMut::new();
        limit.add(&mut whole, &[1; 6]);
        limit.add(&mut whole, &[2; 6]);
        assert_eq!(&whole[..], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
    }
}
