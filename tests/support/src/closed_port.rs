//! A port at which nothing listens for as long as the test holds it.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that is bound but not listened on. The kernel refuses connections to it and gives the port to
/// nobody else; a port that is merely free could be taken by another test at any time.
#[derive(Debug)]
pub struct ClosedPort {
    /// The address.
    pub addr: SocketAddr,
    _bound: TcpSocket,
}

impl ClosedPort {
    /// A port that the kernel chooses.
    #[expect(clippy::new_without_default, reason = "each call gives another port")]
    pub fn new() -> Self {
        let bound = TcpSocket::new_v4().expect("a socket");
        bound.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        Self { addr: bound.local_addr().expect("bound"), _bound: bound }
    }
}
