//! One caller's connection, from its first byte to its end.

use std::{net::SocketAddr, pin::pin, time::Duration};

use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    house::{Guest, Stay},
    listener::Callers,
    opening::{Opened, open},
    service::Calls,
};
use crate::tenant::Place;

/// What a peer is given the time for until it has shown that it speaks HTTP/2.
struct Handshake<'a> {
    place: Place,
    end: Instant,
    peer: SocketAddr,
    callers: &'a Callers,
}

/// Time for a peer to take in that there is no place for it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time for a connection that makes room to answer to its GOAWAY.
const ROOM_GRACE: Duration = Duration::from_millis(250);

/// Serves a connection until it ends, its age or the bridge ends it. `place` is one among the
/// handshakes.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, place: Place, callers: &Callers) {
    // Answers are small and go out whole; waiting for more to send only delays them.
    let _unsupported = stream.set_nodelay(true);
    let end = Instant::now() + callers.limits.handshake_timeout;
    let handshake = Handshake { place, end, peer, callers };
    let done = match &callers.tls {
        None => handshake.go_on(stream).await,
        Some(acceptor) => match handshake.hurry(acceptor.accept(stream)).await {
            // In a box, since it is large and moved from step to step.
            Ok(Ok(stream)) => handshake.go_on(Box::new(stream)).await,
            Ok(Err(error)) => Err(format!("TLS: {error}")),
            Err(cut) => Err(cut.into()),
        },
    };
    if let Err(error) = done {
        debug!(%peer, error, "a caller's connection ended");
    }
}

impl Handshake<'_> {
    /// From the first byte of HTTP/2, over TLS or not, to the connection's end.
    async fn go_on<S>(self, stream: S) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { end, peer, callers, .. } = self;
        let opened = self.hurry(open(stream, callers.keepalive_timeout)).await?;
        let opened = opened.map_err(|error| error.to_string())?;
        // Not `hurry`: this ends by itself, and its end is no fault of the peer's.
        let entering = tokio::select! {
            biased;
            entered = callers.entrance.house.enter(peer.ip(), end) => entered,
            () = self.place.lost() => return Err("given up for a newer one".into()),
            () = callers.stages.goaway.cancelled() => return Ok(()),
        };
        match entering {
            Ok(stay) => {
                drop(self.place);
                // In a box, so that a handshake is not as large as a connection.
                Box::pin(serve_http2(opened, peer, &stay, callers)).await
            }
            Err(full) => {
                let _told = timeout(FAREWELL, opened.turn_away()).await;
                Err(format!("there was no place for it: {full:?}"))
            }
        }
    }

    /// A step of the handshake, unless something ends it.
    async fn hurry<T>(&self, step: impl Future<Output = T>) -> Result<T, &'static str> {
        tokio::select! {
            biased;
            () = self.callers.stages.goaway.cancelled() => Err("the bridge stops"),
            () = self.place.lost() => Err("the handshake was given up for a newer one"),
            done = timeout_at(self.end, step) => done.map_err(|_| {
                self.callers.entrance.note_late();
                "no whole handshake in time"
            }),
        }
    }
}

async fn serve_http2<S>(
    stream: Opened<S>,
    peer: SocketAddr,
    stay: &Stay,
    callers: &Callers,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Callers { limits, stages, .. } = callers;
    let guest = &stay.guest;
    let calls = Calls::new(callers.services.clone(), peer, guest.clone());
    let mut connection = pin!(callers.http2.serve_connection(TokioIo::new(stream), calls));
    let ended = |ended: hyper::Result<()>| ended.map_err(|error| error.to_string());
    let grace = tokio::select! {
        end = &mut connection => return ended(end),
        () = sleep(jittered(limits.max_age)) => Some(limits.max_age_grace),
        () = guest.gives_way() => Some(limits.max_age_grace),
        () = stages.goaway.cancelled() => None,
    };
    // GOAWAY; the connection then ends by itself after its last call. Streams would go on.
    guest.leaving.cancel();
    connection.as_mut().graceful_shutdown();
    let connection = async { ended(connection.await) };
    last_calls(connection, guest, grace, &stages.close).await
}

/// Serves the calls of a connection that has got its GOAWAY: until it ends, for `grace` at most.
async fn last_calls(
    connection: impl Future<Output = Result<(), String>>,
    guest: &Guest,
    grace: Option<Duration>,
    close: &CancellationToken,
) -> Result<(), String> {
    let over = async {
        match grace {
            Some(grace) => sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // First, so that a call that has arrived is read before the connection counts as idle.
        biased;
        end = connection => end,
        () = over => Err("calls went on past the connection's end".into()),
        () = idle_and_in_the_way(guest) => Err("idle, and closed for a new one".into()),
        () = close.cancelled() => Err("the bridge stopped".into()),
    }
}

/// Waits until the connection has been idle for a whole [`ROOM_GRACE`] while its place is wanted. A
/// peer that does not answer to its GOAWAY must not keep the place; a call that it has sent
/// meanwhile is carried out, and its answer has the time to reach the peer.
async fn idle_and_in_the_way(guest: &Guest) {
    guest.gives_way().await;
    let mut before = None;
    loop {
        let idle_since = guest.idle_since();
        if idle_since.is_some() && idle_since == before {
            return;
        }
        before = idle_since;
        sleep(ROOM_GRACE).await;
    }
}

/// Within a tenth of `age`, so that connections made together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_arrived_when_the_idle_are_closed_is_carried_out() {
        // More than once: a race would be lost by chance.
        for _ in 0..50 {
            let stay = Stay::alone();
            let guest = &stay.guest;
            guest.make_way();
            // Reads a call from its socket at the moment at which it would be closed.
            let connection = async {
                sleep(ROOM_GRACE).await;
                let _open = guest.begin();
                sleep(10 * ROOM_GRACE).await;
                Ok(())
            };
            let grace = Some(100 * ROOM_GRACE);
            let ended = last_calls(connection, guest, grace, &CancellationToken::new()).await;
            assert_eq!(ended, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_after_it_has_been_idle_for_the_whole_grace() {
        let stay = Stay::alone();
        let guest = &stay.guest;
        guest.make_way();
        // When the call ends.
        let idle_from = Instant::now() + ROOM_GRACE * 4 / 5;
        let connection = async {
            sleep(ROOM_GRACE * 3 / 5).await;
            let open = guest.begin();
            sleep(ROOM_GRACE / 5).await;
            drop(open);
            std::future::pending().await
        };
        let grace = Some(100 * ROOM_GRACE);
        let ended = last_calls(connection, guest, grace, &CancellationToken::new()).await;
        assert_eq!(ended, Err("idle, and closed for a new one".into()));
        let idle = idle_from.elapsed();
        assert!((ROOM_GRACE..2 * ROOM_GRACE).contains(&idle), "{idle:?}");
    }
}
