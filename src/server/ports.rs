//! The listening sockets of the bridge.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{StartError, listener::bind, status::ListenerStatus, tls};
use crate::config::{Config, Http2, Listener, ListenerName};

/// All listening sockets, with their settings.
pub(super) struct Ports {
    /// For callers. There is at least one.
    pub(super) listeners: Vec<Port>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
}

/// A listening socket for callers.
pub(super) struct Port {
    pub(super) name: ListenerName,
    pub(super) socket: TcpListener,
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) http2: Http2,
}

impl Ports {
    /// Binds every address of the configuration.
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let listeners = config.listeners.iter().map(|(name, listener)| Port::open(name, listener));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        if listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let admin = config.admin.address.map(|addr| listen(addr, "admin.address".to_owned()));
        Ok(Self { listeners, admin: admin.transpose()? })
    }

    /// The bound addresses, by listener.
    pub(super) fn addresses(&self) -> Vec<(ListenerName, SocketAddr)> {
        self.listeners.iter().map(|port| (port.name.clone(), port.addr)).collect()
    }

    /// The listeners, for the status page.
    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status = self.listeners.iter().map(|port| ListenerStatus {
            listener: port.name.to_string(),
            address: port.addr,
            tls: port.tls.is_some(),
        });
        status.collect()
    }
}

impl Port {
    fn open(name: &ListenerName, listener: &Listener) -> Result<Self, StartError> {
        let tls = listener.tls.as_ref().map(tls::acceptor).transpose();
        let tls = tls.map_err(|error| StartError::Tls(name.clone(), error))?;
        let (socket, addr) = listen(listener.address, format!("listeners.{name}.address"))?;
        Ok(Self { name: name.clone(), socket, addr, tls, http2: listener.http2.clone() })
    }
}

fn listen(addr: SocketAddr, key: String) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = bind(addr).and_then(|socket| {
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    });
    bound.map_err(|source| StartError::Listen { addr, key, source })
}
