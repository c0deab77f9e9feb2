//! The ports that are listened on.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{StartError, listener::bind, status::ListenerStatus, tls};
use crate::config::{Config, Http2, Listener, ListenerName};

/// The ports that are listened on, with what they are.
pub(super) struct Ports {
    /// Where callers connect; at least one.
    pub(super) listeners: Vec<Port>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
}

/// A port where callers connect.
pub(super) struct Port {
    pub(super) name: ListenerName,
    pub(super) socket: TcpListener,
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) http2: Http2,
}

impl Ports {
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let listeners = config.listeners.iter().map(|(name, listener)| Port::open(name, listener));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        if listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let admin = config.admin.address.map(|addr| listen(addr, "admin.address".to_owned()));
        Ok(Self { listeners, admin: admin.transpose()? })
    }

    /// Where callers connect, by listener.
    pub(super) fn addresses(&self) -> Vec<(ListenerName, SocketAddr)> {
        self.listeners.iter().map(|port| (port.name.clone(), port.addr)).collect()
    }

    /// What the status page says of them.
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
