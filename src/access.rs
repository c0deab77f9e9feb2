//! Who a caller is, and what it may do.
//!
//! A caller shows who it is by its certificate, by a token, or by both. Each of them makes it a
//! [`Principal`]. The [`Rules`] of the configuration say what principals may do at which tenants, and the
//! result is an [`Access`]. It is computed once for each connection and each token, and again after each
//! change of the configuration; a call only looks into it.

mod caller_access;
mod certificate;
mod current_policy;
mod identity;
mod pattern;
mod principal;
mod right;
mod rules;
pub mod tokens;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::time::Instant;

pub use self::{
    caller_access::Access,
    certificate::CertificateIdentity,
    current_policy::CurrentPolicy,
    identity::{ConnectionIdentity, FullPolicy, Identified, ListenerPolicy},
    pattern::{InvalidPattern, PrincipalPattern},
    principal::Principal,
    right::{Right, Rights},
    rules::{Reach, Rule, Rules},
};

/// The caller of a request, and when the request came. The server attaches it to every request, and a
/// request without it is refused.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The peer of the connection.
    pub peer: Arc<PeerAddress>,
    /// When the request's headers were read.
    pub arrived: Instant,
    /// What the caller may do.
    pub access: Arc<Access>,
}

/// The remote address of a connection.
#[derive(Debug)]
pub struct PeerAddress {
    /// The address.
    pub addr: SocketAddr,
    /// The same as text, which the line of each call has.
    pub shown: Box<str>,
}

impl PeerAddress {
    /// The address without its port.
    pub fn ip(&self) -> IpAddr {
        self.addr.ip()
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, shown: addr.to_string().into() }
    }
}
