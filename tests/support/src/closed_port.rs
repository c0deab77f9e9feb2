//! A port at which nothing listens as long as the test has it.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Bound without listening, so that the kernel refuses connections to it and gives the port to
/// nobody else. A port that is only free may be another test's a moment later.
#[derive(Debug)]
pub struct ClosedPort {
    /// Where it is.
    pub addr: SocketAddr,
    _bound: TcpSocket,
}

impl ClosedPort {
    /// One that the kernel chooses.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let bound = TcpSocket::new_v4().expect("a socket");
        bound.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        Self { addr: bound.local_addr().expect("bound"), _bound: bound }
    }
}
