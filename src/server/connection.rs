//! One caller's connection, from its first byte to its place in the house.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::debug;

use super::{
    callers::Callers,
    house::Stay,
    opening::{Opened, Opening},
    serving::serve_http2,
    socket::Socket,
};
use crate::tenant::PeerPlace;

/// What a peer is given the time for until it has shown that it speaks HTTP/2.
struct Handshake<'a> {
    place: PeerPlace,
    end: Instant,
    peer: SocketAddr,
    callers: &'a Callers,
}

/// Time for a peer to take in that there is no place for it, and to finish a handshake when the
/// bridge begins to stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, its age or the bridge ends it. `place` is one among the
/// handshakes.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: PeerPlace,
    callers: &Callers,
) {
    // Answers are small and go out whole; waiting for more to send only delays them.
    let _unsupported = stream.set_nodelay(true);
    let stream = Socket::new(stream, callers.keepalive_timeout);
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
        let mut opening = Opening::new(stream);
        match self.hurry(opening.finish()).await {
            Ok(done) => done.map_err(|error| error.to_string())?,
            Err(cut) => {
                self.turn_away(opening).await;
                return Err(cut.into());
            }
        }
        match self.enter().await {
            Ok(stay) => {
                let Self { place, peer, callers, .. } = self;
                drop(place);
                // In a box, so that a handshake is not as large as a connection.
                Box::pin(serve_http2(Opened::from(opening), peer, stay, callers)).await
            }
            Err(why) => {
                self.turn_away(opening).await;
                Err(why)
            }
        }
    }

    /// Waits for a place in the house. Not by `hurry`: this ends by itself, and its end is no fault
    /// of the peer's.
    async fn enter(&self) -> Result<Stay, String> {
        tokio::select! {
            biased;
            entered = self.callers.entrance.house.enter(self.peer.ip(), self.end) => {
                entered.map_err(|full| format!("there was no place for it: {full:?}"))
            }
            () = self.place.lost() => Err("given up for a newer one".into()),
            () = self.callers.stages.goaway.cancelled() => Err("the bridge stops".into()),
        }
    }

    /// Tells the peer that there is no place for its connection. Those who are told have places of
    /// their own, so that those who do not listen are not many.
    async fn turn_away<S>(self, opening: Opening<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = self.callers.entrance.farewells.enter(self.peer.ip());
        drop(self.place);
        tokio::select! {
            // First, so that the words are sent in any case.
            biased;
            _told = timeout(FAREWELL, opening.turn_away()) => {}
            () = place.lost() => {}
        }
    }

    /// A step of the handshake, unless something ends it.
    async fn hurry<T>(&self, step: impl Future<Output = T>) -> Result<T, &'static str> {
        let stopped = async {
            self.callers.stages.goaway.cancelled().await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            // What has come is read first, so that a peer is told whose words are there.
            biased;
            done = timeout_at(self.end, step) => done.map_err(|_| {
                self.callers.entrance.note_late();
                "no whole handshake in time"
            }),
            () = stopped => Err("the bridge stops"),
            () = self.place.lost() => Err("the handshake was given up for a newer one"),
        }
    }
}
