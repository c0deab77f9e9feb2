//! Accepts connections, reads requests from them and writes answers.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    gateway::{Delivery, Gateway, Outcome},
    reply::Reply,
    wire::{Request, Wire},
};

/// A listener with the connections it has accepted.
#[derive(Debug)]
pub(super) struct Listener {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What a task needs to serve a connection.
#[derive(Clone)]
struct Service {
    gateway: Arc<Gateway>,
    tls: Option<TlsAcceptor>,
}

/// How long, in real time, a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after an error, such as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A TLS record: fatal alert, handshake failure.
const HANDSHAKE_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

// === impl Listener ===

impl Listener {
    /// Starts to serve `gateway` on `socket`.
    pub(super) fn start(
        socket: TcpListener,
        gateway: Arc<Gateway>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let service = Service { gateway, tls };
        let accepting = accept(socket, service, (stop.clone(), tasks.clone()));
        let ended = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = accepting => {}
            }
        });
        Self { stop, tasks }
    }

    /// Stops listening and closes every connection.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(
    socket: TcpListener,
    service: Service,
    (stop, tasks): (CancellationToken, TaskTracker),
) {
    loop {
        let Ok((stream, peer)) = socket.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let number = service.gateway.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = service.connection(stream, number) => log(peer, ended),
            }
        });
    }
}

fn log(peer: SocketAddr, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

// === impl Service ===

impl Service {
    async fn connection(self, mut stream: TcpStream, number: u64) -> io::Result<()> {
        // Answers are written in one piece; Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        if self.gateway.rules.breaks_handshake() {
            return break_handshake(&mut stream).await;
        }
        let Some(tls) = &self.tls else {
            return serve(self.gateway, stream, number).await;
        };
        let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
        serve(self.gateway, stream, number).await
    }
}

/// Answers the handshake with an alert. The client's first bytes are read before: closing a connection
/// with unread bytes would reset it, and the alert could be lost.
async fn break_handshake(stream: &mut TcpStream) -> io::Result<()> {
    let mut hello = [0; 4096];
    let _ = timeout(HANDSHAKE_TIMEOUT, stream.read(&mut hello)).await?;
    stream.write_all(&HANDSHAKE_ALERT).await?;
    stream.shutdown().await
}

async fn serve<S>(gateway: Arc<Gateway>, stream: S, number: u64) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(stream);
    loop {
        let request = match wire.read_request().await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let reply = Reply::page(400, "Bad Request");
                wire.write(&reply.to_bytes(true).0).await?;
                wire.close().await;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let keep_alive = request.keep_alive;
        let Some(outcome) = answer(&gateway, &mut wire, (number, request)).await else {
            return Ok(());
        };
        if !deliver(&mut wire, outcome, keep_alive).await? {
            return Ok(());
        }
    }
}

/// The outcome of a request; `None` if the client disconnects first.
async fn answer<S>(
    gateway: &Arc<Gateway>,
    wire: &mut Wire<S>,
    (number, request): (u64, Request),
) -> Option<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        outcome = gateway.exchange(number, request) => Some(outcome),
        () = wire.closed() => None,
    }
}

/// Writes an answer as its delivery says. Returns whether the connection stays open.
async fn deliver<S>(wire: &mut Wire<S>, outcome: Outcome, keep_alive: bool) -> io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Outcome { reply, delivery, mut call } = outcome;
    if delivery == Delivery::Never {
        wire.closed().await;
        return Ok(false);
    }
    if let Some(call) = &mut call {
        call.close();
    }
    let (bytes, head) = reply.to_bytes(!keep_alive);
    match delivery {
        Delivery::Half => {
            let half = head + (bytes.len() - head) / 2;
            wire.write(bytes.get(..half).unwrap_or_default()).await?;
        }
        Delivery::Cut | Delivery::Never => {}
        Delivery::Whole | Delivery::WholeThenClose => wire.write(&bytes).await?,
    }
    let whole = matches!(delivery, Delivery::Whole | Delivery::WholeThenClose);
    let go_on = keep_alive && delivery == Delivery::Whole;
    if whole && !go_on {
        wire.close().await;
    }
    Ok(go_on)
}
