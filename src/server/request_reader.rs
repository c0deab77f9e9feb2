//! Reads each request's message to its end before anything else is done with the request.

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::poll;
use http::{HeaderMap, Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::body::Body;

use crate::{
    call::{CallError, Obstacle, Share, Unreadable, Wait},
    config,
    rpc::Unhandled,
    tenant::{PeerPlace, PeerPlaces, Resource, Usage},
};

/// Reads request messages, and bounds how many may be incomplete at once.
///
/// Most requests come complete with their HEADERS and wait for nothing. Each other one takes a
/// place, for as long as its caller's deadline allows and no longer than [`READ_LIMIT`]. When there
/// is no place left, the address with the most places loses its oldest one. So incomplete messages
/// take a bounded part of the memory, and they do not keep out callers who send complete ones.
#[derive(Debug)]
pub(super) struct RequestReader {
    places: Arc<PeerPlaces>,
    limit: Limit,
}

/// The longest message in bytes, which also bounds the body.
#[derive(Clone, Copy, Debug)]
struct Limit(usize);

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
    /// Read by the service as it comes.
    Stream(StreamingBody),
}

/// The body of a request that is a stream. It holds a place until it has ended.
pub(super) struct StreamingBody {
    body: Incoming,
    /// Created when the sender has to be waited for.
    idle: Option<Pin<Box<Sleep>>>,
    place: Option<(PeerPlace, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

/// Why a request is not read to its end.
enum Unfinished {
    Refused(CallError),
    /// Its caller has gone.
    Gone,
}

/// How a path's requests are read.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// One message.
    One,
    /// A stream of messages.
    Many,
    /// Not at all, since no such service exists.
    None,
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long a message of some kilobytes may take, whatever the deadline.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a streamed request may pause between two pieces.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Requests that may be incomplete at once. Fewer if the configuration allows large messages.
const PLACES_MAX: usize = 1024;
/// Bytes that incomplete requests may take together.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// The bytes before each message: a compression flag, and the length in four bytes.
const MESSAGE_HEAD: usize = 5;

// === impl RequestReader ===

impl RequestReader {
    /// A reader with the limits of this server.
    pub(super) fn new(server: &config::Server) -> Self {
        let message = server.limits.message_size;
        let places = PLACES_MAX.min(server.limits.calls.get()).min(BYTES_MAX / message.max(1));
        Self { places: PeerPlaces::new(places), limit: Limit(message) }
    }

    /// How many requests wait for the rest of their message.
    pub(super) fn usage(&self) -> Usage {
        self.places.usage(Resource::Share(Share::ServerReading))
    }

    /// Reads a request's body.
    ///
    /// # Errors
    ///
    /// The answer to send, if the request is not read to its end.
    pub(super) async fn read(
        &self,
        head: &Parts,
        sender: Sender,
        body: Incoming,
        unhandled: &Unhandled,
    ) -> Result<RequestBody, Response<Body>> {
        match kind(head.uri.path()) {
            Kind::One => {
                let read = self.whole(&head.headers, sender, body, unhandled).await;
                read.map(RequestBody::Whole).map_err(|unfinished| match unfinished {
                    Unfinished::Refused(error) => unhandled.refuse(head, &error),
                    Unfinished::Gone => {
                        let broken_off = Obstacle::Unreadable(Unreadable::BrokenOff);
                        unhandled.refuse(head, &CallError::unasked(broken_off))
                    }
                })
            }
            Kind::Many => {
                Ok(RequestBody::Stream(StreamingBody::new(body, self.places.enter(sender.peer))))
            }
            Kind::None => Ok(RequestBody::Whole(Bytes::new())),
        }
    }

    async fn whole(
        &self,
        headers: &HeaderMap,
        sender: Sender,
        body: Incoming,
        unhandled: &Unhandled,
    ) -> Result<Bytes, Unfinished> {
        let mut reading = pin!(self.limit.read(body));
        // Nearly always the body is complete already, and neither a place nor a timer is needed.
        if let Poll::Ready(read) = poll!(reading.as_mut()) {
            return read.map_err(|_| Unfinished::Gone);
        }
        let place = self.places.enter(sender.peer);
        let end = unhandled.answer_by(headers, sender.arrived).min(sender.arrived + READ_LIMIT);
        tokio::select! {
            biased;
            read = reading => read.map_err(|_| Unfinished::Gone),
            () = place.lost() => {
                let (share, limit) = (Share::ServerReading, self.places.limit());
                Err(Unfinished::refused(Obstacle::Overloaded { share, limit }))
            }
            () = sleep_until(end) => {
                Err(Unfinished::refused(Obstacle::Deadline(Wait::Request)))
            }
        }
    }
}

impl Unfinished {
    fn refused(obstacle: Obstacle) -> Self {
        Self::Refused(CallError::unasked(obstacle))
    }
}

impl Limit {
    /// Reads a body with one message. Stops when the message is known to be too long.
    async fn read(self, mut body: Incoming) -> Result<Bytes, hyper::Error> {
        let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
        if body.is_end_stream() {
            return Ok(first);
        }
        // Copied, since a piece of a few bytes would keep the whole buffer alive that it was read
        // into.
        let mut whole = BytesMut::new();
        self.add(&mut whole, &first);
        drop(first);
        while !self.is_enough(&whole) {
            match next(&mut body).await? {
                Some(piece) => self.add(&mut whole, &piece),
                None => break,
            }
        }
        Ok(whole.freeze())
    }

    fn add(self, whole: &mut BytesMut, piece: &[u8]) {
        let room = (MESSAGE_HEAD + self.0).saturating_sub(whole.len());
        whole.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    /// Whether reading more would change nothing, since the message is longer than allowed.
    fn is_enough(self, read: &[u8]) -> bool {
        let Some([_, length @ ..]) = read.first_chunk::<MESSAGE_HEAD>() else { return false };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        length > self.0 || read.len() >= MESSAGE_HEAD + self.0 && length < self.0
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

fn kind(path: &str) -> Kind {
    if path.starts_with("/ccgateway.agent.v1.") || path.starts_with("/grpc.health.v1.") {
        Kind::One
    } else if path.starts_with("/grpc.reflection.") {
        Kind::Many
    } else {
        Kind::None
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
            Self::Stream(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX)),
            Self::Stream(streaming) => streaming.body.size_hint(),
        }
    }
}

// === impl StreamingBody ===

impl StreamingBody {
    fn new(body: Incoming, place: PeerPlace) -> Self {
        let lost = Box::pin(place.lost_owned());
        Self { body, idle: None, place: Some((place, lost)) }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let lost = self.place.as_mut().map(|(_, lost)| lost.as_mut().poll(context));
        if lost.is_some_and(|lost| lost.is_ready()) {
            return Poll::Ready(Some(Err(
                "the stream was ended to make room for a newer one".into()
            )));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.idle = None;
            if frame.is_none() {
                self.place = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_LIMIT)));
        match idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(
                "the caller sent nothing more of its request for 60 s".into(),
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_far_as_it_may_be_one() {
        let limit = Limit(4);
        for (read, enough) in [
            (&[0, 0, 0, 0][..], false),
            (&[0, 0, 0, 0, 4], false),
            (&[0, 0, 0, 0, 4, 1, 2, 3, 4], false),
            (&[0, 0, 0, 0, 5], true),
            (&[0, 0xff, 0xff, 0xff, 0xff], true),
            // The message is followed by more than itself.
            (&[0, 0, 0, 0, 2, 1, 2, 3, 4], true),
        ] {
            assert_eq!(limit.is_enough(read), enough, "{read:?}");
        }
        let mut whole = BytesMut::new();
        limit.add(&mut whole, &[1; 6]);
        limit.add(&mut whole, &[2; 6]);
        assert_eq!(&whole[..], [1, 1, 1, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn services_that_are_not_there_are_not_read() {
        assert_eq!(kind("/ccgateway.agent.v1.AgentState/SetBusy"), Kind::One);
        assert_eq!(kind("/grpc.health.v1.Health/Watch"), Kind::One);
        assert_eq!(kind("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Kind::Many);
        assert_eq!(kind("/other.Service/Method"), Kind::None);
    }
}
