//! A TCP connection to a gateway, which is read to its last byte before it is used again.

use std::{
    io::{self, Read as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection below TLS and HTTP.
///
/// tokio looks at sockets only now and then. A gateway or proxy that closes an idle connection, maybe
/// after an answer (408) that nobody asked for, may have done so before the request is written without
/// tokio knowing yet. So the kernel itself is asked before a connection is used again. If hyper finds
/// anything to read then, it gives the request back unwritten: it reads before it takes a request to
/// write. What belongs to TLS alone, such as tickets after its handshake, hyper never sees.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    upcoming: Arc<Upcoming>,
}

/// Whether a request is about to be written. The connection's owner says so, and the socket and the wire,
/// which hyper owns, ask.
#[derive(Debug, Default)]
pub(super) struct Upcoming(AtomicU8);

/// No request is about to be written.
const NONE: u8 = 0;
/// The first of a connection is.
const FIRST: u8 = 1;
/// One is, on a connection that has been idle.
const AFTER_REST: u8 = 2;
/// How many bytes are read at once from the kernel, in bytes. As a rule there are none, and the whole buffer
/// would be overwritten with zeros for that.
const PART: usize = 128;

impl Upcoming {
    /// Announces a request. `rested` tells whether the connection has been idle.
    pub(super) fn announce(&self, rested: bool) {
        self.0.store(if rested { AFTER_REST } else { FIRST }, Ordering::Relaxed);
    }

    /// Whether one is announced, and now begins to be written.
    pub(super) fn begins(&self) -> bool {
        let announced = self.0.load(Ordering::Relaxed) != NONE;
        if announced {
            self.0.store(NONE, Ordering::Relaxed);
        }
        announced
    }

    fn comes_after_rest(&self) -> bool {
        self.0.load(Ordering::Relaxed) == AFTER_REST
    }
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, upcoming: Arc::default() }
    }

    /// Tells the socket which requests are coming.
    pub(super) fn upcoming(&self) -> &Arc<Upcoming> {
        &self.upcoming
    }

    fn tcp(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.tcp)
    }

    /// Reads what the kernel has and tokio does not know of.
    fn read_from_kernel(&self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let part = into.remaining().min(PART);
        match (&*SockRef::from(&self.tcp)).read(into.initialize_unfilled_to(part)) {
            Ok(read) => {
                into.advance(read);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.tcp().poll_read(context, into) {
            Poll::Pending if self.upcoming.comes_after_rest() => self.read_from_kernel(into),
            read => read,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tcp().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp().poll_write_vectored(context, buffers)
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream as Peer},
        time::Duration,
    };

    use futures_util::FutureExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A connection, and its other end.
    async fn connected() -> (Socket, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let tcp = TcpStream::connect(addr).await.expect("connected");
        let (peer, _) = listener.accept().expect("accepted");
        (Socket::new(tcp), peer)
    }

    /// What can be read now. A test's runtime has one thread, which does not look at sockets between what the peer does
    /// and this.
    fn read_now(socket: &mut Socket) -> Option<io::Result<usize>> {
        socket.read(&mut [0; 8]).now_or_never()
    }

    #[tokio::test]
    async fn the_kernel_is_asked_only_before_a_request_that_comes_after_a_rest() {
        for (announced, is_asked) in [(None, false), (Some(false), false), (Some(true), true)] {
            let (mut socket, mut peer) = connected().await;
            if let Some(rested) = announced {
                socket.upcoming().announce(rested);
            }
            assert!(read_now(&mut socket).is_none(), "nothing has come");
            peer.write_all(b"x").expect("written");
            let read = read_now(&mut socket).map(|read| read.expect("read"));
            assert_eq!(read, is_asked.then_some(1), "{announced:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_while_it_was_idle_fails_before_the_request() {
        let (mut socket, peer) = connected().await;
        socket.upcoming().announce(true);
        // It is reset where the peer does not linger.
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("set");
        drop(peer);
        assert!(read_now(&mut socket).is_some_and(|read| read.is_err()));
    }

    #[test]
    fn a_request_begins_once_each_time_it_is_announced() {
        let upcoming = Upcoming::default();
        for rested in [false, true] {
            assert!(!upcoming.begins() && !upcoming.comes_after_rest(), "none is announced");
            upcoming.announce(rested);
            assert_eq!(upcoming.comes_after_rest(), rested);
            assert!(upcoming.begins());
        }
        assert!(!upcoming.begins() && !upcoming.comes_after_rest(), "all have begun");
    }
}
