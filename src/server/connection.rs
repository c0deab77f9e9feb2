//! One caller's connection, from its first byte to its end.

use std::{net::SocketAddr, pin::pin, time::Duration};

use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{listener::Callers, service::Calls};

/// Large enough to wait for a first byte in; reads of a connection are larger and go past it.
const FIRST_BYTE_BUFFER: usize = 64;

/// Serves a connection until it ends, its age or the bridge ends it.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, callers: &Callers) {
    // Answers are small and go out whole; waiting for more to send only delays them.
    let _unsupported = stream.set_nodelay(true);
    let done = match &callers.tls {
        None => serve_http2(stream, peer, callers).await,
        Some(acceptor) => {
            let handshake = timeout(callers.limits.handshake_timeout, acceptor.accept(stream));
            let handshake = callers.stages.goaway.run_until_cancelled(handshake).await;
            match handshake {
                Some(Ok(Ok(stream))) => serve_http2(stream, peer, callers).await,
                Some(Ok(Err(error))) => Err(format!("TLS: {error}")),
                Some(Err(_)) => Err("no TLS handshake in time".into()),
                None => Ok(()),
            }
        }
    };
    if let Err(error) = done {
        debug!(%peer, error, "a caller's connection ended");
    }
}

async fn serve_http2<S>(stream: S, peer: SocketAddr, callers: &Callers) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Callers { limits, stages, .. } = callers;
    // hyper would wait for ever for a peer that connects and says nothing, and it cannot be asked
    // to stop before the peer has spoken.
    let mut stream = BufReader::with_capacity(FIRST_BYTE_BUFFER, stream);
    let spoken = timeout(limits.handshake_timeout, stream.fill_buf());
    match stages.goaway.run_until_cancelled(spoken).await {
        Some(Ok(Ok(first))) if !first.is_empty() => {}
        Some(Err(_)) => return Err("nothing was said in time".into()),
        _ => return Ok(()),
    }

    let leaving = CancellationToken::new();
    let calls = Calls::new(callers.routes.clone(), peer, leaving.clone());
    let mut connection = pin!(callers.http2.serve_connection(TokioIo::new(stream), calls));
    let grace = tokio::select! {
        ended = &mut connection => return ended.map_err(|e| e.to_string()),
        () = sleep(jittered(limits.max_age)) => Some(limits.max_age_grace),
        () = stages.goaway.cancelled() => None,
    };
    // GOAWAY; the connection then ends by itself after its last call. Streams would go on.
    leaving.cancel();
    connection.as_mut().graceful_shutdown();
    let over = async {
        match grace {
            Some(grace) => sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = connection => ended.map_err(|e| e.to_string()),
        () = over => Err("calls went on past the connection's age".into()),
        () = stages.close.cancelled() => Err("the bridge stopped".into()),
    }
}

/// Within a tenth of `age`, so that connections made together do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::rng().random_range(0.9..=1.1))
}
