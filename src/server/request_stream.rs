//! The body of a request that is a stream of messages.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::Message as _;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic_reflection::pb::v1::ServerReflectionRequest;

use super::message_frame::{FRAME_HEAD, Framing};
use crate::{
    call::{CallError, Obstacle, Unreadable},
    rpc::{Method, Unhandled},
    tenant::PeerPlace,
};

/// The body of a request that is a stream. It holds a place until it has ended.
pub(super) struct StreamingBody {
    body: Incoming,
    framing: Framing,
    /// The beginning of the next message.
    unfinished: BytesMut,
    refusal: StreamRefusal,
    /// Created when the sender has to be waited for.
    idle: Option<Pin<Box<Sleep>>>,
    place: Option<(PeerPlace, Pin<Box<WaitForCancellationFutureOwned>>)>,
    /// Why the stream ends if it loses its place.
    displaced: Obstacle,
}

/// Refuses a request that is a stream, in the middle of its answer.
///
/// The service of reflection ends its answer with OK if it gets no further request, for whatever
/// reason. The server puts the status of the refusal in the place of that.
pub(super) struct StreamRefusal {
    unhandled: Unhandled,
    head: Parts,
    method: Method,
    status: RefusedStatus,
}

/// The status of a request that was refused in the middle of its answer.
pub(super) type RefusedStatus = Arc<OnceLock<Status>>;

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long a streamed request may pause between two pieces.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

// === impl StreamRefusal ===

impl StreamRefusal {
    /// For the request of `method` with this head.
    pub(super) fn new(unhandled: Unhandled, head: &Parts, method: Method) -> Self {
        Self { unhandled, head: head.clone(), method, status: RefusedStatus::default() }
    }

    /// Where the status will be.
    pub(super) fn status(&self) -> RefusedStatus {
        self.status.clone()
    }

    fn refuse(&self, why: Obstacle) {
        let Self { unhandled, head, method, status } = self;
        let refused = CallError::unasked(why);
        status.get_or_init(|| unhandled.refuse_stream(head, Some(*method), &refused));
    }
}

// === impl StreamingBody ===

impl StreamingBody {
    pub(super) fn new(
        body: Incoming,
        framing: Framing,
        place: PeerPlace,
        displaced: Obstacle,
        refusal: StreamRefusal,
    ) -> Self {
        let lost = Box::pin(place.lost_owned());
        let (unfinished, place) = (BytesMut::new(), Some((place, lost)));
        Self { body, framing, unfinished, refusal, idle: None, place, displaced }
    }

    /// Whether everything has been read.
    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.unfinished.is_empty()
    }

    /// The next message, whole, in its frame and without compression.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let lost = self.place.as_mut().map(|(_, lost)| lost.as_mut().poll(context));
        if lost.is_some_and(|lost| lost.is_ready()) {
            return self.refused(self.displaced.clone());
        }
        loop {
            match self.take_message() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Err(why) => return self.refused(why.into()),
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                return self.wait(context);
            };
            self.idle = None;
            match frame {
                // Trailers of a request mean nothing.
                Some(Ok(frame)) => self.unfinished.extend(frame.into_data().ok()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None if self.unfinished.is_empty() => {
                    self.place = None;
                    return Poll::Ready(None);
                }
                None => {
                    let cut = "it ends before its message is complete".into();
                    return self.refused(Unreadable::Malformed(cut).into());
                }
            }
        }
    }

    fn refused(&self, why: Obstacle) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.refusal.refuse(why);
        Poll::Ready(Some(Err("the request was not read to its end".into())))
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Unreadable> {
        let length = self.framing.length(&self.unfinished)?;
        let Some(length) = length.filter(|length| *length <= self.unfinished.len()) else {
            return Ok(None);
        };
        let message = self.framing.plain(self.unfinished.split_to(length).freeze())?;
        // Both versions of reflection have the same messages.
        ServerReflectionRequest::decode(message.get(FRAME_HEAD..).unwrap_or_default())
            .map_err(|error| Unreadable::Malformed(error.to_string()))?;
        Ok(Some(message))
    }

    /// Waits for more of the request, though not for ever.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE_LIMIT)));
        match idle.as_mut().poll(context) {
            Poll::Ready(()) => self.refused(Obstacle::StreamIdle(IDLE_LIMIT)),
            Poll::Pending => Poll::Pending,
        }
    }
}
