//! A port at which nothing listens as long as the test has it.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Bound without listening, so that the kernel refuses connections to it and gives the port to
/// nobody else. A port that is only free may be another test's a moment later.
pub(crate) struct ClosedPort {
    pub(crate) addr: SocketAddr,
    _bound: TcpSocket,
}

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let bound = TcpSocket::new_v4().expect("a socket");
        bound.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        Self { addr: bound.local_addr().expect("bound"), _bound: bound }
    }
}
