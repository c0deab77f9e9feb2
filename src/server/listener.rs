use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{connection, listener_context::ListenerContext};

/// Bytes that the kernel may hold of what is written to one connection. Linux doubles the number
/// for its own bookkeeping. The default lets a connection grow to 4 MiB. Peers that do not read
/// could take that memory. Also, a slow reader frees space in such a large buffer only about every
/// ten seconds, and seems not to read in between.
const SEND_BUFFER: u32 = 128 * 1024;
/// Connections that may wait to be accepted. The kernel has a lower limit.
const BACKLOG: u32 = 4096;
/// Pause after an error that the next attempt would meet too, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `addr`. Accepted connections inherit the send buffer size from the listening socket.
///
/// # Errors
///
/// If the address is taken, is not one of this machine, or cannot be bound for another reason.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart then need not wait for connections of the previous process.
    socket.set_reuseaddr(cfg!(unix))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the bridge stops. Each is served in a task of its own. Connections are
/// accepted at once, since nobody could see in the kernel's backlog whether a peer makes progress.
pub(super) async fn accept(
    listener: TcpListener,
    context: Arc<ListenerContext>,
    tasks: TaskTracker,
) {
    let goaway = context.shared.stages.goaway.clone();
    let serve = |(stream, peer): (TcpStream, SocketAddr)| {
        let context = context.clone();
        let place = context.shared.connection_limits.handshakes.enter(peer.ip());
        tasks.spawn(async move {
            connection::serve(stream, peer, place, &context).await;
        });
    };
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok(accepted) => serve(accepted),
                Err(error) => pause_after(&error).await,
            }
        }
    };
    goaway.run_until_cancelled(accepting).await;
    // These connections are established already. The kernel would reset them with the listener.
    while let Some(Ok(accepted)) = listener.accept().now_or_never() {
        serve(accepted);
    }
}

async fn pause_after(error: &io::Error) {
    // These errors concern only the connection that was to be accepted. The next one may work.
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
        // Read for a while first. Without the limit, the kernel would then enlarge the buffer.
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
        // The buffers of both ends, each doubled by the kernel.
        let limit = 4 * SEND_BUFFER as usize;
        assert!((1..=limit).contains(&taken), "{taken} bytes");
    }
}
