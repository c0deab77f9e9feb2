//! A TCP proxy whose connections can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Carries connections to a server as long as it is whole.
pub(crate) struct Wire {
    addr: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, port, state.clone()));
            }
        });
        Self { addr, whole }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Ends every connection, and carries none until [`Self::mend`].
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut from: TcpStream, port: u16, mut whole: watch::Receiver<bool>) {
    let carrying = async {
        if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
            let _ended = copy_bidirectional(&mut from, &mut to).await;
        }
    };
    tokio::select! {
        biased;
        _cut = whole.wait_for(|whole| !whole) => {}
        () = carrying => {}
    }
}
