//! A TCP connection to a gateway, which is read to its last byte before it is used again.

use std::{
    io::{self, Read as _},
    pin::Pin,
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
/// tokio knowing yet. So the kernel itself is asked before a connection is used again. That is done below TLS: what
/// belongs to TLS alone, such as tickets after its handshake, is no answer.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    asks_kernel: bool,
}

/// How many bytes are read at once from the kernel, in bytes. As a rule there are none, and the whole buffer
/// would be overwritten with zeros for that.
const PART: usize = 128;

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, asks_kernel: false }
    }

    /// Sets whether the kernel is asked where tokio knows of nothing to read.
    pub(super) fn ask_kernel(&mut self, asks_kernel: bool) {
        self.asks_kernel = asks_kernel;
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
            Poll::Pending if self.asks_kernel => self.read_from_kernel(into),
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
    async fn the_kernel_is_asked_only_where_that_is_wanted() {
        for asks_kernel in [false, true] {
            let (mut socket, mut peer) = connected().await;
            socket.ask_kernel(asks_kernel);
            assert!(read_now(&mut socket).is_none(), "nothing has come");
            peer.write_all(b"x").expect("written");
            let read = read_now(&mut socket).map(|read| read.expect("read"));
            assert_eq!(read, asks_kernel.then_some(1));
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_while_it_was_idle_fails_before_the_request() {
        let (mut socket, peer) = connected().await;
        socket.ask_kernel(true);
        // It is reset where the peer does not linger.
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("set");
        drop(peer);
        assert!(read_now(&mut socket).is_some_and(|read| read.is_err()));
    }
}
