//! A simulated CC-Gateway: its agent interface over HTTPS, with the behaviour that is documented and
//! settings for what is not.
//!
//! For tests, for the demo, and as the program `ccgateway-sim` for integrators who have no gateway.
//! Facts name their source: a page id of the product documentation such as `cec_07_1211`, `client`
//! for public client code, `inferred` for a conclusion from the two.
//!
//! In reading order: [`options`](Options) and [`Interface`] say what there is, `state_machine` is the
//! state machine, `session` the Guids, `record` all that is kept of one agent; `gateway` answers
//! requests, with `fault` in its way and `journal` taking notes; `test_control` is what else happens to
//! agents; `listener` and `wire` carry the bytes.
//! [`program`] and `control` are what `ccgateway-sim` adds.

mod agent;
mod control;
mod fault;
mod gateway;
mod identity;
mod interface;
mod journal;
mod listener;
mod options;
mod previous_session;
pub mod program;
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
    options::{Announce, AuthMode, Codes, Edition, IdOutside, Options, Polls},
    recovery::Recovery,
    retcode::Retcode,
    view::AgentView,
};
use self::{gateway::Gateway, listener::Listener};

/// A running gateway, or a handle to it: clones are the same gateway. It runs until
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
    /// When the address is taken, the certificate and key do not fit or there is nothing to check
    /// clients by.
    pub async fn start(options: Options) -> io::Result<Self> {
        let identity = match &options.tls {
            Some(identity) => identity.clone(),
            None => ServerIdentity::generate(CertificateKind::Signed)?,
        };
        let socket = TcpListener::bind(options.listen).await?;
        let inner = Inner {
            addr: socket.local_addr()?,
            gateway: Arc::new(Gateway::new(options)),
            identity,
            listener: Mutex::default(),
        };
        let listener = inner.listen(socket)?;
        *inner.listener.lock().await = Some(listener);
        Ok(Self(Arc::new(inner)))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// What a client puts before an interface's address, such as
    /// `https://localhost:8043/agentgateway/resource`.
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

    /// SHA-256 of the server's own certificate.
    pub fn leaf_sha256(&self) -> [u8; 32] {
        self.0.identity.leaf_sha256()
    }

    /// The same in hexadecimal digits, as a client's configuration takes it.
    pub fn leaf_pin(&self) -> String {
        control::hex(&self.leaf_sha256())
    }

    /// The requests in the order of their arrival.
    pub fn journal(&self) -> Vec<Entry> {
        self.0.gateway.journal.entries()
    }

    /// Empties the journal.
    pub fn clear_journal(&self) {
        self.0.gateway.journal.clear();
    }

    /// Adds a rule; the latest one that matches a request wins.
    pub fn misbehave(&self, rule: Misbehaviour) {
        self.0.gateway.rules.add(rule);
    }

    /// Drops all rules.
    pub fn behave(&self) {
        self.0.gateway.rules.clear();
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.0.gateway.connections.load(Ordering::Relaxed)
    }

    /// Calls that came while another one of the same agent was open, in words.
    pub fn violations(&self) -> Vec<String> {
        self.0.gateway.violations()
    }

    /// Stops doing anything: requests are read and noted in the journal, and wait. One whose client
    /// leaves meanwhile is never carried out.
    pub fn freeze(&self) {
        self.0.gateway.freeze(true);
    }

    /// Goes on where [`Self::freeze`] has stopped.
    pub fn thaw(&self) {
        self.0.gateway.freeze(false);
    }

    /// Stops listening and cuts every connection; agents and journal are kept.
    pub async fn stop(&self) {
        if let Some(listener) = self.0.listener.lock().await.take() {
            listener.stop().await;
        }
    }

    /// Stops, if it has not yet, and listens again on the same port.
    ///
    /// # Errors
    ///
    /// When the port has been taken meanwhile.
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
