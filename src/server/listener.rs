use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    accept_errors::{AcceptErrors, is_of_peer},
    connection,
    listener_context::ListenerContext,
};

/// Bytes that the kernel may hold of what is written to one connection. Linux doubles the number
/// for its own bookkeeping. The default lets a connection grow to 4 MiB. Peers that do not read
/// could take that memory. Also, a slow reader frees space in such a large buffer only about every
/// ten seconds, and seems not to read in between.
const SEND_BUFFER: usize = 128 * 1024;
/// Connections that may wait to be accepted: as many as the kernel allows (net.core.somaxconn).
const BACKLOG: i32 = i32::MAX;
/// How many of them are accepted when no more are to come: more than wait, unless net.core.somaxconn is
/// larger than anybody needs. Others may connect meanwhile, as fast as they are accepted.
const LAST_MAX: usize = 4096;

/// Listens on `addr`. `[::]` takes IPv4 connections, too, and is `0.0.0.0` on a machine without IPv6.
/// Accepted connections inherit the send buffer size from the listening socket.
///
/// # Errors
///
/// If the address is taken, is not one of this machine, or cannot be bound for another reason.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    match bind_exactly(addr) {
        Err(error) if addr.ip().is_unspecified() && is_without_ipv6(&error) => {
            bind_exactly((Ipv4Addr::UNSPECIFIED, addr.port()).into())
        }
        bound => bound,
    }
}

fn bind_exactly(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Whether this is the default depends on the machine (net.ipv6.bindv6only).
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    // A restart then need not wait for connections of the previous process.
    socket.set_reuse_address(cfg!(unix))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether the machine has no IPv6: the kernel knows no such sockets, or has no such addresses.
fn is_without_ipv6(error: &io::Error) -> bool {
    /// EAFNOSUPPORT of Linux, which the standard library has no kind for.
    const NO_SUCH_FAMILY: i32 = 97;
    error.raw_os_error() == Some(NO_SUCH_FAMILY) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Accepts a connection. IPv4 addresses are always given as such, although `[::]` has them in IPv6.
///
/// # Errors
///
/// Those of the kernel. Most concern only one connection.
pub(super) async fn next(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    Ok((stream, canonical(peer)))
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
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
        let mut errors = AcceptErrors::at("a listener");
        loop {
            match next(&listener).await {
                Ok(accepted) => serve(accepted),
                Err(error) => errors.pause_after(&error).await,
            }
        }
    };
    goaway.run_until_cancelled(accepting).await;
    // These connections are established already. The kernel would reset them with the listener.
    if let Err(error) = accept_last(listener, serve) {
        warn!(%error, "cannot accept the last connections; those that wait are reset");
    }
}

/// Accepts the connections that wait, and closes the listening socket. The kernel is asked itself: tokio does not
/// ask it until epoll has reported a connection, and stops after 128 of them.
fn accept_last(listener: TcpListener, serve: impl Fn((TcpStream, SocketAddr))) -> io::Result<()> {
    let listener = listener.into_std()?;
    for _ in 0..LAST_MAX {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream =
                    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    serve((stream, canonical(peer)));
                }
            }
            Err(error) if is_of_peer(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::Ipv6Addr, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
    };

    use super::*;

    /// In the type that tokio takes.
    const RECEIVE_BUFFER: u32 = 128 * 1024;

    #[tokio::test]
    async fn the_kernel_holds_little_of_what_a_peer_does_not_read() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let peer = TcpSocket::new_v4().unwrap();
        peer.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
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
        let limit = 4 * SEND_BUFFER;
        assert!((1..=limit).contains(&taken), "{taken} bytes");
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = bind((Ipv6Addr::UNSPECIFIED, 0).into()).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let ipv6 = has_ipv6.then(|| Ipv6Addr::LOCALHOST.into());
        for ip in [Some(Ipv4Addr::LOCALHOST.into()), ipv6].into_iter().flatten() {
            let client = TcpStream::connect(SocketAddr::new(ip, port)).await.expect("connected");
            let (_stream, peer) = next(&listener).await.expect("accepted");
            assert_eq!(peer, client.local_addr().expect("an address"));
        }
    }

    #[tokio::test]
    async fn all_connections_that_wait_are_accepted_at_the_end() {
        let listener = bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let addr = listener.local_addr().expect("an address");
        // Without an await, so that tokio hears of none.
        let connect = |_| std::net::TcpStream::connect(addr).expect("connected");
        let waiting: Vec<_> = (0..50).map(connect).collect();
        let accepted = RefCell::new(Vec::new());
        accept_last(listener, |(_stream, peer)| accepted.borrow_mut().push(peer)).expect("all");
        let waiting: Vec<_> =
            waiting.iter().map(|stream| stream.local_addr().expect("an address")).collect();
        assert_eq!(accepted.into_inner(), waiting);
    }

    #[test]
    fn only_a_machine_without_ipv6_is_one() {
        for (error, expected) in [(97, true), (99, true), (98, false), (13, false)] {
            assert_eq!(is_without_ipv6(&io::Error::from_raw_os_error(error)), expected, "{error}");
        }
    }
}
