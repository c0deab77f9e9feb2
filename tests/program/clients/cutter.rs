use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Notify, futures::OwnedNotified, watch},
};
use tokio_util::task::AbortOnDropHandle;

/// Stands between a client and the bridge, and cuts connections.
pub(super) struct Cutter {
    pub(super) addr: SocketAddr,
    cut: Arc<Notify>,
    /// Whether connections are let through.
    open: watch::Sender<bool>,
    _accepting: AbortOnDropHandle<()>,
}

impl Cutter {
    pub(super) async fn to(bridge: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let cut = Arc::new(Notify::new());
        let cutting = cut.clone();
        let (open, opening) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = cutting.clone().notified_owned();
                tokio::spawn(let_through(client, bridge, cut, opening.clone()));
            }
        });
        Self { addr, cut, open, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Cuts all connections that there are; later ones are let through.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Cuts all connections that there are; later ones wait.
    pub(super) fn close(&self) {
        self.open.send_replace(false);
        self.cut();
    }

    /// Lets connections through again.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn let_through(
    mut client: TcpStream,
    bridge: SocketAddr,
    cut: OwnedNotified,
    mut opening: watch::Receiver<bool>,
) {
    let is_over = opening.wait_for(|open| *open).await.is_err();
    if is_over {
        return;
    }
    let mut server = TcpStream::connect(bridge).await.expect("connected");
    tokio::select! {
        () = cut => {}
        _ended = copy_bidirectional(&mut client, &mut server) => {}
    }
}
