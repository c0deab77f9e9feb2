//! Requests read to the end of their message before anything else is done with them.

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
    rpc::Unread,
    tenant::{PeerPlace, PeerPlaces, Usage},
};

/// Where requests wait for the rest of their message.
///
/// Most come with their head and wait for nothing. The others hold a place each, for as long as
/// their caller's deadline allows and no longer than [`READ_LIMIT`]. Where there are too many, the
/// address that has most of them loses the one that has waited longest: so half messages take a
/// bounded part of the memory, and nobody who sends a whole one is kept out by those who do not.
#[derive(Debug)]
pub(super) struct Intake {
    places: Arc<PeerPlaces>,
    limit: Limit,
}

/// Bytes of a message, and with them of a body.
#[derive(Clone, Copy, Debug)]
struct Limit(usize);

/// Who sends a request, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// The address of its connection's peer.
    pub(super) peer: IpAddr,
    /// When its head had been read.
    pub(super) arrived: Instant,
}

/// A request's body, as the services see it.
pub(super) enum Taken {
    /// All of it, or so much that it is known to be too long.
    Whole(Bytes),
    /// To be read while it comes.
    Open(Flowing),
}

/// The body of a request that is a stream. It holds a place until it has ended.
pub(super) struct Flowing {
    body: Incoming,
    /// Made when the sender is waited for the first time.
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
    /// Not at all: there is no such service.
    None,
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// For a message of some kilobytes, whatever the deadline.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Between two pieces of a request that is a stream.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Requests that wait for the rest of their message at once; fewer where messages may be large.
const PLACES_MAX: usize = 1024;
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Before each message: whether it is compressed, and its length in four bytes.
const MESSAGE_HEAD: usize = 5;

// === impl Intake ===

impl Intake {
    /// For a server with these limits.
    pub(super) fn new(server: &config::Server) -> Self {
        let message = server.limits.message_size;
        let places = PLACES_MAX.min(server.limits.calls.get()).min(BYTES_MAX / message.max(1));
        Self { places: PeerPlaces::new(places), limit: Limit(message) }
    }

    /// How many requests wait for the rest of their message.
    pub(super) fn usage(&self) -> Usage {
        self.places.usage(Share::ServerReading.as_str())
    }

    /// Reads a request's body.
    ///
    /// # Errors
    ///
    /// The answer, if the request is not read to its end.
    pub(super) async fn take(
        &self,
        head: &Parts,
        sender: Sender,
        body: Incoming,
        unread: &Unread,
    ) -> Result<Taken, Response<Body>> {
        match kind(head.uri.path()) {
            Kind::One => {
                let read = self.whole(&head.headers, sender, body, unread).await;
                read.map(Taken::Whole).map_err(|unfinished| match unfinished {
                    Unfinished::Refused(error) => unread.refuse(head, &error),
                    Unfinished::Gone => {
                        let broken_off = Obstacle::Unreadable(Unreadable::BrokenOff);
                        unread.refuse(head, &CallError::unasked(broken_off))
                    }
                })
            }
            Kind::Many => Ok(Taken::Open(Flowing::new(body, self.places.enter(sender.peer)))),
            Kind::None => Ok(Taken::Whole(Bytes::new())),
        }
    }

    async fn whole(
        &self,
        headers: &HeaderMap,
        sender: Sender,
        body: Incoming,
        unread: &Unread,
    ) -> Result<Bytes, Unfinished> {
        let mut reading = pin!(self.limit.read(body));
        // Nearly always all of it is there, and neither a place nor a timer is needed.
        if let Poll::Ready(read) = poll!(reading.as_mut()) {
            return read.map_err(|_| Unfinished::Gone);
        }
        let place = self.places.enter(sender.peer);
        let end = unread.answer_by(headers, sender.arrived).min(sender.arrived + READ_LIMIT);
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
    /// A body with one message. One that is too long is not read further than that is known.
    async fn read(self, mut body: Incoming) -> Result<Bytes, hyper::Error> {
        let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
        if body.is_end_stream() {
            return Ok(first);
        }
        // Copied: a piece of a few bytes holds the whole buffer that it was read into.
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

    /// Whether more would change nothing: the message is longer than it may be.
    fn is_enough(self, read: &[u8]) -> bool {
        let Some([_, length @ ..]) = read.first_chunk::<MESSAGE_HEAD>() else { return false };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        length > self.0 || read.len() >= MESSAGE_HEAD + self.0 && length < self.0
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = body.frame().await {
        // Trailers mean nothing in a request.
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

// === impl Taken ===

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Open(flowing) => flowing.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Open(flowing) => flowing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX)),
            Self::Open(flowing) => flowing.body.size_hint(),
        }
    }
}

// === impl Flowing ===

impl Flowing {
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
            return Poll::Ready(Some(Err("the stream was ended for a newer one".into())));
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
            Poll::Ready(()) => Poll::Ready(Some(Err("the request stopped in the middle".into()))),
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
            // More than its one message follows.
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
