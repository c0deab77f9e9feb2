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
    house::{Guest, OpenCall},
    reflection::{Reflection, ReflectionPlace},
};
use crate::{
    call::Obstacle,
    config,
    rpc::StreamOver,
    tenant::{PeerPlace, PeerPlaces, Usage},
};

/// Bounds on streams whose callers may hold them for as long as they like. Those of `WatchEvents` are
/// bounded by their tenants.
#[derive(Debug)]
pub(super) struct Streams {
    /// One for each connection, which is what callers need that check the health of each. A newer
    /// one takes the place of an old one.
    health: Arc<PeerPlaces>,
    reflection: Arc<Reflection>,
}

/// What a path's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    /// One message.
    Once,
    /// Events, which are read at the pace of whoever acts on them.
    Events,
    /// The health of a service, whenever it changes.
    Health,
    /// Descriptions of services.
    Reflection,
}

/// A place among the streams of a kind.
#[derive(Debug)]
pub(super) enum StreamPlace {
    Events,
    Health(PeerPlace),
    Reflection { _place: ReflectionPlace },
}

/// What ends a stream, if neither side does.
pub(super) struct Ends {
    pub(super) place: StreamPlace,
    pub(super) deadline: Option<Instant>,
    /// What its own service would end it for.
    pub(super) over: Option<StreamOver>,
    pub(super) guest: Arc<Guest>,
    /// The stream's, if its connection is in use while it lasts.
    pub(super) call: Option<OpenCall>,
}

/// The body of a stream. Its end comes in time also while nobody asks for it, as hyper does not while
/// the peer takes nothing.
#[derive(Debug)]
pub(super) struct StreamBody {
    shared: Arc<Mutex<Shared>>,
    /// Tells whoever watches over the stream that it has gone.
    _gone: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    /// Of the task that sends the stream.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Open(Body),
    /// Being ended: what is left to send is not known yet.
    Ending,
    /// What is left to send, if anything is.
    Over(Option<HeaderMap>),
}

/// How long the events' own service may take for the end of a stream, which it explains better.
const OWN_END: Duration = Duration::from_secs(1);
/// How long a peer may take to read the end of a stream, where it makes no other call.
const END_READ: Duration = Duration::from_secs(5);

// === impl Streams ===

impl Streams {
    pub(super) fn new(limits: &config::Connections) -> Self {
        Self { health: PeerPlaces::new(limits.max.get()), reflection: Arc::default() }
    }

    /// A place for a stream of `peer`; none for what is not a stream.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if there are as many as there may be, or as may be of this address.
    pub(super) fn enter(
        &self,
        answering: Answering,
        peer: IpAddr,
    ) -> Result<Option<StreamPlace>, Obstacle> {
        Ok(match answering {
            Answering::Once => None,
            Answering::Events => Some(StreamPlace::Events),
            Answering::Health => Some(StreamPlace::Health(self.health.enter(peer))),
            Answering::Reflection => {
                Some(StreamPlace::Reflection { _place: self.reflection.enter(peer)? })
            }
        })
    }

    /// How many places are taken.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [self.health.usage("health_watches"), self.reflection.usage()]
    }
}

// === impl Answering ===

impl Answering {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/ccgateway.agent.v1.AgentEvents/WatchEvents" => Self::Events,
            "/grpc.health.v1.Health/Watch" => Self::Health,
            _ if path.starts_with("/grpc.reflection.") => Self::Reflection,
            _ => Self::Once,
        }
    }

    /// Whether its connection is in use while it lasts. Callers hold health watches for as long as
    /// their connections, whether they use them or not.
    pub(super) fn is_use(self) -> bool {
        matches!(self, Self::Once | Self::Events)
    }
}

// === impl Ends ===

impl Ends {
    /// The same stream, with an end.
    pub(super) fn put_to(self, body: Body) -> StreamBody {
        let shared = Shared { state: State::Open(body), waker: None };
        let shared = Arc::new(Mutex::new(shared));
        let (gone_sender, gone) = oneshot::channel();
        tokio::spawn(self.see_to(shared.clone(), gone));
        StreamBody { shared, _gone: gone_sender }
    }

    /// Ends the stream when it is time, gives its place back, and closes the connection of a peer
    /// that does not read the end. Not while other calls are made on that connection, as by the
    /// siblings of a watcher that pauses: they would be cut with it.
    async fn see_to(self, shared: Arc<Mutex<Shared>>, mut gone: oneshot::Receiver<()>) {
        let end = tokio::select! {
            biased;
            _gone = &mut gone => return,
            end = self.came() => end,
        };
        if matches!(self.place, StreamPlace::Events) && timeout(OWN_END, &mut gone).await.is_ok() {
            return;
        }
        over(&shared, &end, self.over.as_ref());
        let Self { place, guest, call, .. } = self;
        // The stream's own call too: from here on only others make the connection busy.
        drop((place, call));
        while timeout(END_READ, &mut gone).await.is_err() {
            if guest.idle_since().is_some() {
                return guest.buffer.cut_late();
            }
        }
    }

    /// Waits for the end; gives what the caller is told then, unless the stream's own service knows
    /// better.
    async fn came(&self) -> Status {
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
                Some(over) => over.token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = deadline => Status::deadline_exceeded("the stream's deadline has passed"),
            () = displaced => Status::unavailable("there are too many such streams; this one made room"),
            () = over => Status::unavailable("the stream is over"),
            // Nothing has failed: those who watch health or use reflection open another stream. Those
            // who watch events hear from its service why theirs is over.
            () = self.guest.leaving.cancelled() => Status::ok(""),
        }
    }
}

/// Ends a stream that has not ended by itself, as its own service would, else with `end`.
fn over(shared: &Mutex<Shared>, end: &Status, own: Option<&StreamOver>) {
    let before = match &mut lock(shared).state {
        state @ State::Open(_) => std::mem::replace(state, State::Ending),
        State::Ending | State::Over(_) => return,
    };
    // With the places that it holds. Its service says now what the caller is told.
    drop(before);
    let end = own.and_then(StreamOver::status).unwrap_or(end);
    let mut trailers = HeaderMap::new();
    // The server's own words are short and plain text, and so is what the table makes.
    let _fits = end.add_header(&mut trailers);
    let mut shared = lock(shared);
    shared.state = State::Over(Some(trailers));
    let waker = shared.waker.take();
    drop(shared);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl StreamBody ===

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
        polled
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

    use super::{super::house::Stay, *};

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_not_read_cuts_no_call_of_its_connection() {
        let stay = Stay::alone();
        let guest = &stay.guest;
        let ends = Ends {
            place: StreamPlace::Events,
            deadline: Some(Instant::now()),
            over: None,
            guest: guest.clone(),
            call: Some(guest.begin()),
        };
        // Nobody polls it, as if its peer had no window.
        let _unread = ends.put_to(Body::empty());
        let other = guest.begin();
        sleep(10 * END_READ).await;
        assert!(guest.buffer.cut().now_or_never().is_none(), "a call is being made");
        drop(other);
        timeout(2 * END_READ, guest.buffer.cut()).await.expect("cut when nothing else goes on");
    }
}
