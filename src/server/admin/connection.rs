//! The connections of the admin port: one request each, and places for them that nobody can keep.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{accept_errors::AcceptErrors, listener::next},
    HEAD_LIMIT,
};
use crate::tenant::{PeerPlace, PeerPlaces};

/// The places of the connections of the port.
///
/// A connection that sends nothing, or reads nothing, keeps its place until newer ones want it: then
/// the address with the most places loses its oldest one. So probes always find a place, and it is
/// theirs for longer than they need ([`Admission`]).
#[derive(Debug)]
pub(super) struct Connections {
    all: Arc<PeerPlaces>,
    /// Those whose answer is large. They leave their place among `all`.
    large: Arc<PeerPlaces>,
}

/// The place of a connection whose answer is large; set when it has been asked for.
type LargePlace = Mutex<Option<oneshot::Sender<PeerPlace>>>;

/// What the service of one connection needs of it.
#[derive(Debug)]
pub(super) struct Connection {
    peer: SocketAddr,
    large: Arc<PeerPlaces>,
    moved: LargePlace,
}

/// How many connections there may be, apart from those with a large answer.
const MAX: usize = 512;
/// How many may have a large answer at once. Metrics of 100 tenants have some megabytes, which are in
/// memory for as long as a peer does not read them.
const LARGE_MAX: usize = 8;
/// The least time in which `MAX` connections are accepted, so that none loses its place sooner than it
/// can send a request and read a short answer. Others wait in the kernel for their turn, and a
/// thousand of them take less than half a second.
const TURNOVER: Duration = Duration::from_millis(200);
/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(60);
/// Bytes of a request's head, and of what follows it, that are held. Browsers send the cookies of
/// everything at `localhost` along.
const BUFFER: usize = 32 * 1024;

// === impl Connections ===

impl Connections {
    pub(super) fn new() -> Self {
        Self { all: PeerPlaces::new(MAX), large: PeerPlaces::new(LARGE_MAX) }
    }

    /// Accepts connections for ever, and lets `serve` answer the request of each. They end when the
    /// bridge closes.
    pub(super) async fn accept<S, F>(
        &self,
        listener: TcpListener,
        close: CancellationToken,
        serve: S,
    ) where
        S: Fn(Request<Incoming>, Arc<Connection>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let mut admission = Admission::default();
        let mut errors = AcceptErrors::at("the admin port");
        loop {
            let (stream, peer) = match next(&listener).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    errors.pause_after(&error).await;
                    continue;
                }
            };
            let place = self.all.enter(peer.ip());
            let (moved, large_place) = oneshot::channel();
            let moved = Mutex::new(Some(moved));
            let connection = Arc::new(Connection { peer, large: self.large.clone(), moved });
            let (close, serving) = (close.clone(), serve_one(stream, connection, serve.clone()));
            tokio::spawn(async move {
                tokio::select! {
                    _end = timeout(LIFETIME, serving) => {}
                    () = displaced(place, large_place) => {}
                    () = close.cancelled() => {}
                }
            });
            admission.next().await;
        }
    }
}

/// Bounds how fast connections are accepted.
#[derive(Debug, Default)]
struct Admission {
    /// When the last ones were accepted, at most [`MAX`].
    accepted: VecDeque<Instant>,
}

impl Admission {
    /// Notes that one was accepted, and waits until the next one may be.
    async fn next(&mut self) {
        self.accepted.push_back(Instant::now());
        if self.accepted.len() == MAX
            && let Some(oldest) = self.accepted.pop_front()
        {
            sleep_until(oldest + TURNOVER).await;
        }
    }
}

/// Waits until newer connections have taken the place of this one.
async fn displaced(place: PeerPlace, large_place: oneshot::Receiver<PeerPlace>) {
    let large_place = tokio::select! {
        biased;
        moved = large_place => moved,
        () = place.lost() => return,
    };
    if let Ok(large_place) = large_place {
        drop(place);
        large_place.lost().await;
    } else {
        place.lost().await;
    }
}

async fn serve_one<S, F>(stream: TcpStream, connection: Arc<Connection>, serve: S)
where
    S: Fn(Request<Incoming>, Arc<Connection>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|request| {
        let answer = serve(request, connection.clone());
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        // A connection that is kept would only be idle until somebody needs its place.
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

// === impl Connection ===

impl Connection {
    /// Moves the connection to the places of those whose answer is large. Another one may lose its
    /// place for that, and is closed.
    pub(super) fn answers_at_length(&self) {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(moved) = moved {
            let _ended = moved.send(self.large.enter(self.peer.ip()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_place_is_lost_sooner_than_a_probe_needs_it() {
        let (places, mut admission) = (PeerPlaces::new(MAX), Admission::default());
        let peer = [127, 0, 0, 1].into();
        let begun = Instant::now();
        let mut held = VecDeque::<(Instant, PeerPlace)>::new();
        for _ in 0..10 * MAX {
            held.push_back((Instant::now(), places.enter(peer)));
            while held.front().is_some_and(|(_, place)| place.is_lost()) {
                let (accepted, _lost) = held.pop_front().unwrap();
                assert!(accepted.elapsed() >= TURNOVER, "{:?}", accepted.elapsed());
            }
            admission.next().await;
        }
        assert_eq!(begun.elapsed(), 10 * TURNOVER, "and connections are accepted all the time");
    }
}
