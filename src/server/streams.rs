//! Answers that are streams: how many there may be, and how they end.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Status, body::Body};

use super::{
    connection_slots::{OpenCall, ServedConnection},
    reflection::{Reflection, ReflectionPlace},
    request_stream::RefusedStatus,
};
use crate::{
    call::Obstacle,
    config,
    rpc::{Method, StreamEnd},
    tenant::{PeerPlace, PeerPlaces, Resource, Usage},
};

/// Limits on streams that callers may hold as long as they like. Those of `WatchEvents` are limited
/// by their tenants.
#[derive(Debug)]
pub(super) struct Streams {
    /// As many as there are connections, since callers check health on each connection. A new watch
    /// takes the place of an old one.
    health: Arc<PeerPlaces>,
    reflection: Arc<Reflection>,
}

/// What a method's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// One message.
    Once,
    /// A stream of events, which callers read as fast as they act on them.
    Events,
    /// A stream of a service's health, at each change.
    Health,
    /// A stream of descriptions of services.
    Reflection,
}

/// A place among the streams of a kind.
#[derive(Debug)]
pub(super) enum StreamPlace {
    Events,
    Health(PeerPlace),
    Reflection { _place: ReflectionPlace },
}

/// What ends a stream, if neither its service nor its peer does.
pub(super) struct EndConditions {
    pub(super) place: StreamPlace,
    pub(super) deadline: Option<Instant>,
    /// What its own service ends it for.
    pub(super) over: Option<StreamEnd>,
    pub(super) served: Arc<ServedConnection>,
    /// Set if the request, which is a stream too, is refused while it is being answered.
    pub(super) refused: RefusedStatus,
    /// The stream's call, if the connection counts as busy while the stream lasts.
    pub(super) call: Option<OpenCall>,
}

/// The body of a stream. It can be ended even while hyper does not poll it, because the peer takes
/// nothing.
#[derive(Debug)]
pub(super) struct StreamBody {
    shared: Arc<Mutex<Shared>>,
    refused: RefusedStatus,
    /// Dropped with the body, which tells the task that watches over the stream.
    _gone: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    /// Wakes the task that sends the stream.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Open(Body),
    /// Being ended. The trailers are not known yet.
    Ending,
    /// Ended. Has the trailers until they are sent.
    Over(Option<HeaderMap>),
}

/// How long the service of events may take to end a stream by itself, since it gives a better
/// reason.
const OWN_END: Duration = Duration::from_secs(1);
/// How long a peer may take to read the end of a stream while it makes no other call.
const END_READ: Duration = Duration::from_secs(5);

// === impl Streams ===

impl Streams {
    pub(super) fn new(limits: &config::Connections) -> Self {
        Self { health: PeerPlaces::new(limits.max.get()), reflection: Arc::default() }
    }

    /// Takes a place for a stream of `peer`. `None` if the answer is not a stream.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if the limit is reached, in all or for this address.
    pub(super) fn enter(
        &self,
        kind: AnswerKind,
        peer: IpAddr,
    ) -> Result<Option<StreamPlace>, Obstacle> {
        Ok(match kind {
            AnswerKind::Once => None,
            AnswerKind::Events => Some(StreamPlace::Events),
            AnswerKind::Health => Some(StreamPlace::Health(self.health.enter(peer))),
            AnswerKind::Reflection => {
                Some(StreamPlace::Reflection { _place: self.reflection.enter(peer)? })
            }
        })
    }

    /// How many places are taken.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [self.health.usage(Resource::HealthWatches), self.reflection.usage()]
    }
}

// === impl AnswerKind ===

impl AnswerKind {
    /// What the answer of `method` is.
    pub(super) fn of(method: Method) -> Self {
        match method {
            Method::WatchEvents => Self::Events,
            Method::WatchHealth => Self::Health,
            Method::Reflect | Method::ReflectAlpha => Self::Reflection,
            _ => Self::Once,
        }
    }

    /// Whether its connection counts as busy while the answer lasts. Callers hold health watches as
    /// long as their connections, whether they make calls or not.
    pub(super) fn keeps_busy(self) -> bool {
        matches!(self, Self::Once | Self::Events)
    }
}

// === impl EndConditions ===

impl EndConditions {
    /// The body with an end: it ends when one of these conditions is met.
    pub(super) fn wrap(self, body: Body) -> StreamBody {
        let shared = Shared { state: State::Open(body), waker: None };
        let shared = Arc::new(Mutex::new(shared));
        let (gone_sender, gone) = oneshot::channel();
        let refused = self.refused.clone();
        tokio::spawn(self.enforce(shared.clone(), gone));
        StreamBody { shared, refused, _gone: gone_sender }
    }

    /// Ends the stream when it is time, frees its place, and closes the connection if its peer does
    /// not read the end. The connection stays open while other calls are made on it, since they
    /// would be cut too. A watcher may pause while its neighbours on the connection are busy.
    async fn enforce(self, shared: Arc<Mutex<Shared>>, mut gone: oneshot::Receiver<()>) {
        let end = tokio::select! {
            biased;
            _gone = &mut gone => return,
            end = self.reached() => end,
        };
        if matches!(self.place, StreamPlace::Events) && timeout(OWN_END, &mut gone).await.is_ok() {
            return;
        }
        over(&shared, &end, self.over.as_ref());
        let Self { place, served, call, over, .. } = self;
        // The stream's own call is dropped too. From here on, only other calls make the connection
        // busy.
        drop((place, call, over));
        while timeout(END_READ, &mut gone).await.is_err() {
            if served.idle_since().is_some() {
                return served.buffer.cut_late();
            }
        }
    }

    /// Waits for the end. Returns what the caller is told, unless the stream's own service has a
    /// better reason.
    async fn reached(&self) -> Status {
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let displaced = async {
            match &self.place {
                StreamPlace::Health(place) => place.lost().await,
                _ => std::future::pending().await,
            }
        };
        let over = async {
            match &self.over {
                // The service knows what to tell the caller of that.
                Some(over) => drop(over.reached().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = deadline => Status::deadline_exceeded("the stream's deadline has passed"),
            () = displaced => Status::unavailable("there are too many such streams; this one made room"),
            () = over => Status::unavailable("the stream is over"),
            // Nothing has failed. Callers that watch health or use reflection open another stream.
            // The service of events tells its callers itself why their stream is over.
            () = self.served.goaway.cancelled() => Status::ok(""),
        }
    }
}

/// Ends a stream that has not ended by itself, with the status of its own service or else with
/// `end`.
fn over(shared: &Mutex<Shared>, end: &Status, own: Option<&StreamEnd>) {
    let before = match &mut lock(shared).state {
        state @ State::Open(_) => std::mem::replace(state, State::Ending),
        State::Ending | State::Over(_) => return,
    };
    // Frees the places that the body holds. After that, the service knows what to tell the caller.
    drop(before);
    let end = own.and_then(StreamEnd::status).unwrap_or(end);
    let mut shared = lock(shared);
    shared.state = State::Over(Some(trailers(end)));
    let waker = shared.waker.take();
    drop(shared);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn trailers(end: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Both the texts here and those of the services are short and plain, so they fit into trailers.
    let _fits = end.add_header(&mut trailers);
    trailers
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl StreamBody ===

impl StreamBody {
    /// The end of the service's answer says nothing of a request that was refused.
    fn refused_instead(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match self.refused.get().filter(|_| frame.is_trailers()) {
            Some(refused) => Frame::trailers(trailers(refused)),
            None => frame,
        }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut shared = lock(&self.shared);
        let polled = match &mut shared.state {
            State::Open(body) => Pin::new(body).poll_frame(context),
            State::Ending => Poll::Pending,
            State::Over(left) => Poll::Ready(left.take().map(|left| Ok(Frame::trailers(left)))),
        };
        match &polled {
            Poll::Pending => shared.waker = Some(context.waker().clone()),
            Poll::Ready(None) => shared.state = State::Over(None),
            Poll::Ready(Some(_)) => {}
        }
        drop(shared);
        polled.map_ok(|frame| self.refused_instead(frame))
    }

    fn is_end_stream(&self) -> bool {
        match &lock(&self.shared).state {
            State::Open(body) => body.is_end_stream(),
            State::Ending => false,
            State::Over(left) => left.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::sleep;

    use super::{super::connection_slots::Slot, *};

    #[test]
    fn every_stream_has_a_place_and_no_other_answer_has() {
        for method in Method::ALL {
            assert_eq!(AnswerKind::of(method) != AnswerKind::Once, method.streams(), "{method:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_not_read_cuts_no_call_of_its_connection() {
        let slot = Slot::alone();
        let served = &slot.served;
        let ends = EndConditions {
            place: StreamPlace::Events,
            deadline: Some(Instant::now()),
            over: None,
            refused: RefusedStatus::default(),
            served: served.clone(),
            call: Some(served.begin()),
        };
        // Nobody polls it, as if its peer had no window.
        let _unread = ends.wrap(Body::empty());
        let other = served.begin();
        sleep(10 * END_READ).await;
        assert!(served.buffer.cut().now_or_never().is_none(), "a call is being made");
        drop(other);
        timeout(2 * END_READ, served.buffer.cut()).await.expect("cut when nothing else goes on");
    }
}
