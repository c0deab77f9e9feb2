//! One caller's connection, from its first byte until it has a slot.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::debug;

use super::{
    connection_slots::Slot,
    listener_context::ListenerContext,
    preface::{AfterPreface, PrefaceError, PrefaceReader},
    service::Peer,
    serving::serve_http2,
    socket::Socket,
};
use crate::{access::ConnectionIdentity, tenant::PeerPlace};

/// A connection until its peer has shown that it speaks HTTP/2 and has got a slot.
struct Handshake<'a> {
    place: PeerPlace,
    end: Instant,
    peer: SocketAddr,
    context: &'a ListenerContext,
}

/// How long a peer may take to read why it is not served, and to finish a handshake once the bridge
/// begins to stop.
const REJECTION_TIME: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, or until its age or the bridge ends it. `place` is its place
/// among the handshakes.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: PeerPlace,
    context: &ListenerContext,
) {
    // Answers are small and complete. Nagle's algorithm would only delay them.
    let _unsupported = stream.set_nodelay(true);
    let stream = Socket::new(stream, context.keepalive_timeout);
    let end = Instant::now() + context.shared.limits.handshake_timeout;
    let handshake = Handshake { place, end, peer, context };
    // Before the acceptor, which is replaced first.
    let seen = context.policy.generation();
    let done = match context.acceptor() {
        None => handshake.read_preface_and_serve(stream, (seen, <_>::default())).await,
        Some(acceptor) => match handshake.bounded(acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                // gRPC over TLS names its protocol. A peer that does not may have meant another server.
                if session.alpn_protocol() != Some(b"h2") {
                    debug!(%peer, "a caller's TLS does not name HTTP/2 (ALPN)");
                    return;
                }
                let chain = session.peer_certificates().unwrap_or_default().to_vec();
                // Boxed, since it is large and is moved from step to step.
                handshake.read_preface_and_serve(Box::new(stream), (seen, chain)).await
            }
            Ok(Err(error)) => Err(format!("TLS: {error}")),
            Err(cut) => Err(cut.into()),
        },
    };
    if let Err(error) = done {
        debug!(%peer, error, "a caller's connection ended");
    }
}

impl Handshake<'_> {
    /// Reads the preface, waits for a slot and serves the connection to its end, over TLS or not.
    async fn read_preface_and_serve<S>(
        self,
        stream: S,
        (seen, chain): (u64, Vec<CertificateDer<'static>>),
    ) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut reader = PrefaceReader::new(stream);
        match self.bounded(reader.read_preface()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if matches!(error, PrefaceError::OtherProtocol { http_1: true }) {
                    // Before the answer, so that it does not matter what the peer does after it.
                    self.context.shared.services.unhandled.note_http_1(self.peer);
                    self.turn_away(reader).await;
                }
                return Err(error.to_string());
            }
            Err(cut) => {
                self.turn_away(reader).await;
                return Err(cut.into());
            }
        }
        match self.take_slot().await {
            Ok(slot) => {
                let Self { place, peer, context, .. } = self;
                drop(place);
                let identity = ConnectionIdentity::new(context.policy.clone(), seen, chain);
                let peer = Peer { address: Arc::new(peer.into()), identity };
                // Boxed, so that the future of a handshake is not as large as that of a connection.
                Box::pin(serve_http2(AfterPreface::from(reader), peer, slot, context)).await
            }
            Err(why) => {
                self.turn_away(reader).await;
                Err(why)
            }
        }
    }

    /// Waits for a slot. Does not use `bounded`: this has its own time limit, and a wait that ends
    /// without a slot is not a late handshake of the peer.
    async fn take_slot(&self) -> Result<Slot, String> {
        tokio::select! {
            biased;
            acquired = self.context.shared.connection_limits.slots.acquire(self.peer.ip(), self.end) => {
                acquired.map_err(|full| format!("no slot was free for it: {full:?}"))
            }
            () = self.place.lost() => Err("given up to make room for a newer connection".into()),
            () = self.context.shared.stages.goaway.cancelled() => Err("the bridge is stopping".into()),
        }
    }

    /// Tells the peer why it is not served. This has places of its own, so that the number of peers
    /// that do not read it is bounded.
    async fn turn_away<S>(self, reader: PrefaceReader<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = self.context.shared.connection_limits.rejections.enter(self.peer.ip());
        drop(self.place);
        tokio::select! {
            // First, so that the message is sent in any case.
            biased;
            _told = timeout(REJECTION_TIME, reader.turn_away()) => {}
            () = place.lost() => {}
        }
    }

    /// Runs a step of the handshake until its end, the time limit, the stop or the loss of the
    /// place.
    async fn bounded<T>(&self, step: impl Future<Output = T>) -> Result<T, &'static str> {
        let stopped = async {
            self.context.shared.stages.goaway.cancelled().await;
            sleep(REJECTION_TIME).await;
        };
        tokio::select! {
            // First, so that bytes that have come are read. A peer that has sent its preface can
            // then be told.
            biased;
            done = timeout_at(self.end, step) => done.map_err(|_| {
                self.context.shared.connection_limits.note_late_handshake();
                "the handshake was not complete within server.connections.handshake_timeout"
            }),
            () = stopped => Err("the bridge is stopping"),
            () = self.place.lost() => Err("the handshake was given up to make room for a newer connection"),
        }
    }
}
