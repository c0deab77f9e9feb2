//! A simulated CC-Gateway: its agent interface over HTTPS. It behaves as documented; where the
//! documentation leaves something open, there is a setting.
//!
//! It is for tests, for the demo, and, as the program `ccgateway-sim`, for integrators who have no
//! gateway. Facts name their source: a page id of the product documentation such as `cec_07_1211`,
//! `client` for public client code, `inferred` for a conclusion from the two.
//!
//! In reading order: [`Options`] and [`Interface`] define what can be configured and called.
//! `state_machine` has the agent's states, `session` the Guids, and `record` everything that is kept
//! about one agent. `gateway` answers requests, `fault` makes them fail, and `journal` records them.
//! `test_control` has the changes that do not come from the agent. `listener` and `wire` do the I/O.
//! [`program`] and `control` belong to the program `ccgateway-sim`.

mod agent;
mod call;
mod control;
mod fault;
mod gateway;
mod identity;
mod interface;
mod journal;
mod listener;
mod monitor;
mod options;
mod previous_session;
pub mod program;
mod push_client;
mod record;
mod recovery;
mod reply;
mod retcode;
mod route;
mod session;
mod settings;
mod sign_in;
mod state_machine;
mod test_control;
mod view;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::{net::TcpListener, sync::Mutex};
use tokio_rustls::TlsAcceptor;

pub use self::{
    agent::AgentState,
    control::Control,
    fault::{Fault, Misbehaviour},
    identity::{CertificateKind, ServerIdentity},
    interface::Interface,
    journal::{Answer, Entry},
    options::{
        AgentStatus, Announce, AuthMode, Codes, Edition, IdOutside, Options, Polls, PushForm,
    },
    recovery::Recovery,
    retcode::Retcode,
    view::AgentView,
};
use self::{gateway::Gateway, listener::Listener};

/// A handle to a running gateway; clones are handles to the same one. It runs until
/// [`Simulator::stop`] or the end of the runtime.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Gateway>,
    addr: SocketAddr,
    identity: ServerIdentity,
    listener: Mutex<Option<Listener>>,
}

// === impl Simulator ===

impl Simulator {
    /// Starts a gateway.
    ///
    /// # Errors
    ///
    /// If the address is in use, if certificate and key do not match, or if `client_ca` or `push_ca` has
    /// no certificate.
    pub async fn start(options: Options) -> io::Result<Self> {
        let identity = match &options.tls {
            Some(identity) => identity.clone(),
            None => ServerIdentity::generate(CertificateKind::Signed)?,
        };
        let socket = TcpListener::bind(options.listen).await?;
        let inner = Inner {
            addr: socket.local_addr()?,
            gateway: Arc::new(Gateway::new(options)?),
            identity,
            listener: Mutex::default(),
        };
        let listener = inner.listen(socket)?;
        *inner.listener.lock().await = Some(listener);
        Ok(Self(Arc::new(inner)))
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The URL before an interface's path, such as `https://localhost:8043/agentgateway/resource`.
    pub fn base_url(&self) -> String {
        let scheme = if self.0.gateway.options.plaintext { "http" } else { "https" };
        let (addr, path) = (self.0.addr, route::BASE_PATH);
        if addr.ip().is_loopback() {
            return format!("{scheme}://localhost:{}{path}", addr.port());
        }
        format!("{scheme}://{addr}{path}")
    }

    /// The certificate that a client has to trust.
    pub fn certificate_pem(&self) -> &str {
        self.0.identity.trust_pem()
    }

    /// SHA-256 of the leaf certificate.
    pub fn leaf_sha256(&self) -> [u8; 32] {
        self.0.identity.leaf_sha256()
    }

    /// SHA-256 of the leaf certificate in hexadecimal digits, as a client's configuration takes it.
    pub fn leaf_pin(&self) -> String {
        control::hex(&self.leaf_sha256())
    }

    /// The latest requests, in the order of their arrival.
    pub fn journal(&self) -> Vec<Entry> {
        self.0.gateway.journal.entries()
    }

    /// Empties the journal.
    pub fn clear_journal(&self) {
        self.0.gateway.journal.clear();
    }

    /// Adds a rule; if several match a request, the latest wins.
    pub fn misbehave(&self, rule: Misbehaviour) {
        self.0.gateway.rules.add(rule);
    }

    /// Removes all rules.
    pub fn behave(&self) {
        self.0.gateway.rules.clear();
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.0.gateway.connections.load(Ordering::Relaxed)
    }

    /// Calls that came while a conflicting call of the same agent was open, as text.
    pub fn violations(&self) -> Vec<String> {
        self.0.gateway.violations()
    }

    /// Freezes the gateway: requests are read and recorded in the journal, and then wait. If the client
    /// disconnects in the meantime, the request is never carried out.
    pub fn freeze(&self) {
        self.0.gateway.freeze(true);
    }

    /// Ends [`Self::freeze`]; the waiting requests go on.
    pub fn thaw(&self) {
        self.0.gateway.freeze(false);
    }

    /// Stops listening and closes every connection; agents and journal are kept.
    pub async fn stop(&self) {
        if let Some(listener) = self.0.listener.lock().await.take() {
            listener.stop().await;
        }
    }

    /// Stops, unless it is stopped already, and listens again on the same port.
    ///
    /// # Errors
    ///
    /// If another process has taken the port in the meantime.
    pub async fn restart(&self, forget_sessions: bool) -> io::Result<()> {
        let mut listener = self.0.listener.lock().await;
        if let Some(running) = listener.take() {
            running.stop().await;
        }
        if forget_sessions {
            self.0.gateway.forget_sessions();
        }
        *listener = Some(self.0.listen(TcpListener::bind(self.0.addr).await?)?);
        Ok(())
    }
}

// === impl Inner ===

impl Inner {
    fn listen(&self, socket: TcpListener) -> io::Result<Listener> {
        let tls = if self.gateway.options.plaintext {
            None
        } else {
            let client_ca = self.gateway.options.client_ca.as_deref();
            Some(TlsAcceptor::from(Arc::new(self.identity.server_config(client_ca)?)))
        };
        Ok(Listener::start(socket, self.gateway.clone(), tls))
    }
}
