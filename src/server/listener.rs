use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{callers::Callers, connection};

/// What the kernel may hold of what is written to one connection; Linux doubles it for its own
/// bookkeeping. By itself it lets a connection have 4 MiB. That is memory which peers that do not read
/// can take, and a slow reader makes room in such a buffer only every ten seconds or so, between which
/// it seems not to read.
const SEND_BUFFER: u32 = 128 * 1024;
/// Connections that wait to be accepted; the kernel has a lower limit.
const BACKLOG: u32 = 4096;
/// After an error that another attempt would meet at once, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `addr`. Connections inherit the bound on their send buffer from the listening socket.
///
/// # Errors
///
/// If the address is taken, not of this machine, or not to be had.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart does not wait for connections of the process before.
    socket.set_reuseaddr(cfg!(unix))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the bridge stops; each is served in a task of its own. None waits in
/// the kernel's backlog, where nobody could see whether its peer goes on.
pub(super) async fn accept(listener: TcpListener, callers: Arc<Callers>, tasks: TaskTracker) {
    let goaway = callers.common.stages.goaway.clone();
    let serve = |(stream, peer): (TcpStream, SocketAddr)| {
        let callers = callers.clone();
        let place = callers.common.entrance.handshakes.enter(peer.ip());
        tasks.spawn(async move {
            connection::serve(stream, peer, place, &callers).await;
        });
    };
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok(accepted) => serve(accepted),
                Err(error) => after(&error).await,
            }
        }
    };
    goaway.run_until_cancelled(accepting).await;
    // These are connected already; the kernel would cut them with the listener.
    while let Some(Ok(accepted)) = listener.accept().now_or_never() {
        serve(accepted);
    }
}

async fn after(error: &io::Error) {
    // These speak of the one connection that was to be accepted; the next may be fine.
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_the_peer {
        warn!(%error, "cannot accept connections; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_kernel_holds_little_of_what_a_peer_does_not_read() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(SEND_BUFFER).unwrap();
        let connected = peer.connect(listener.local_addr().unwrap());
        let (peer, accepted) = tokio::join!(connected, listener.accept());
        let (mut peer, (mut stream, _)) = (peer.unwrap(), accepted.unwrap());
        // It reads for a while, so that the kernel would give the connection a larger buffer.
        let (mut read, piece) = (vec![0; 512 * 16 * 1024], [0; 16 * 1024]);
        let written = async {
            for _ in 0..512 {
                stream.write_all(&piece).await.unwrap();
            }
        };
        let reading = async {
            peer.read_exact(&mut read).await.unwrap();
        };
        tokio::join!(written, reading);
        let (mut taken, wait) = (0, Duration::from_millis(300));
        while let Ok(written) = tokio::time::timeout(wait, stream.write(&piece)).await {
            taken += written.unwrap();
        }
        // Both ends, of which the kernel doubles each.
        let limit = 4 * SEND_BUFFER as usize;
        assert!((1..=limit).contains(&taken), "{taken} bytes");
    }
}
