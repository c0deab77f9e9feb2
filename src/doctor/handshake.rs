//! Checks TLS with the tenant's settings, and finds the cause if it fails.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, ProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    AddressCheck, Reached, Stop,
    certificate_requests::CertificateRequests,
    hello::{self, Spoken, TLS_1_0, TLS_1_1, TLS_1_2, Version},
    network::within,
    verdict::{described, ends_soon},
};
use crate::{
    config::{ClientTls, Identity, Trust},
    gateway::probe::tls_config,
};

type Chain = Vec<CertificateDer<'static>>;

/// Advice for a gateway that has only versions or cipher suites of TLS that rustls does not support.
const SIDECAR: &str = "switch TLS 1.2 with ECDHE and AES-GCM on at the gateway, or put a \
                       TLS-terminating sidecar (HAProxy, stunnel, nginx) beside the bridge that \
                       speaks the old TLS, with base_urls = \"http://127.0.0.1:<its port>/…\"";

impl AddressCheck<'_> {
    /// Does a TLS handshake. Returns whether the gateway asked for a client certificate: in TLS 1.3 the
    /// gateway refuses a missing or wrong one only after the handshake, so the caller has to know.
    pub(super) async fn tls(&mut self, reached: &Reached) -> Result<bool, Stop> {
        if self.url.scheme_str() == Some("http") {
            self.no_tls(reached);
            return Ok(false);
        }
        let mut config = match tls_config(&self.tenant.tls) {
            Ok(config) => config,
            Err(error) => {
                let remedy = format!("set {} or {}", self.ca_file(), self.pin());
                return Err(self.problem("tls", error.to_string(), remedy));
            }
        };
        let requests = Arc::new(CertificateRequests::of(&config));
        config.client_auth_cert_resolver = requests.clone();
        let error = match self.handshake(config, reached).await {
            Ok(stream) => {
                self.good(&stream);
                return Ok(requests.seen());
            }
            Err(error) => error,
        };
        let tls = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
        if let Some(Error::InvalidCertificate(why)) = tls {
            return Err(self.rejected(why, reached).await);
        }
        let words = tls.map_or_else(|| error.to_string(), ToString::to_string);
        if requests.seen() {
            return Err(self.asked_for_certificate(&words));
        }
        Err(self.no_handshake(&words, reached).await)
    }

    fn no_tls(&mut self, reached: &Reached) {
        let found = "no TLS: the address begins with http://";
        if reached.addr.ip().to_canonical().is_loopback() {
            return self.ok("tls", found);
        }
        let remedy = "Guids and passwords go over the network in plain text; give https://";
        self.warning("tls", found.to_owned(), remedy);
    }

    async fn handshake(
        &self,
        config: ClientConfig,
        reached: &Reached,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(reached.host.clone()).map_err(io::Error::other)?;
        let limit = self.tenant.timeouts.connect;
        let connected = async {
            let stream = TcpStream::connect(reached.addr).await?;
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        };
        within(limit, connected).await
    }

    fn good(&mut self, stream: &TlsStream<TcpStream>) {
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let suite = connection.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str()).unwrap_or("a suite");
        let chain = connection.peer_certificates().unwrap_or_default();
        let trusted = match &self.tenant.tls.trust {
            Trust::SystemRoots => "trusted by the system's roots",
            Trust::Roots(_) => "trusted by ca_file",
            Trust::Pinned(_) => "as pinned",
            Trust::Anything => "NOT CHECKED (insecure_skip_verify)",
        };
        let found = format!("{version} with {suite}; {}; {trusted}", described(chain));
        match ends_soon(chain) {
            // With a pin, dates are not checked.
            Some(ends) if matches!(self.tenant.tls.trust, Trust::SystemRoots | Trust::Roots(_)) => {
                self.warning("tls", format!("{found}; {ends}"), "have it renewed before then");
            }
            _ => self.ok("tls", found),
        }
    }

    /// The certificate was rejected. Connects again without checking it, to show which one it is.
    async fn rejected(&mut self, why: &CertificateError, reached: &Reached) -> Stop {
        let own = &self.tenant.tls;
        let client = own.client.as_ref().map(|client| Identity {
            chain: client.chain.clone(),
            key: client.key.clone_key().into(),
        });
        let anything = ClientTls { trust: Trust::Anything, client };
        let chain = match tls_config(&anything) {
            Ok(config) => match self.handshake(config, reached).await {
                Ok(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec(),
                Err(_) => Chain::new(),
            },
            Err(_) => Chain::new(),
        };
        let (found, remedy) = self.verdict(why, &chain, &reached.host);
        // Empty if this handshake failed, too.
        let sent = match chain.as_slice() {
            [] => String::new(),
            chain => format!("; the gateway sent {}", described(chain)),
        };
        self.problem("tls", found + &sent, remedy)
    }

    /// The handshake failed before a certificate was checked. Finds out what the peer speaks.
    async fn no_handshake(&mut self, words: &str, reached: &Reached) -> Stop {
        let spoken = hello::probe(reached.addr, &reached.host, &self.tenant.timeouts).await;
        let addr = reached.addr;
        match spoken {
            Spoken::Tls { version: version @ (TLS_1_0 | TLS_1_1), .. } => {
                let found = format!(
                    "the gateway speaks only {} or older, the bridge TLS 1.2 and 1.3",
                    version_name(version)
                );
                self.problem("tls", found, SIDECAR)
            }
            Spoken::Tls { version: TLS_1_2, suite } if !hello::has_suite(suite) => {
                let found = format!(
                    "the gateway speaks TLS 1.2, but no cipher suite with forward secrecy that the \
                     bridge takes (it chose 0x{suite:04x}): {words}"
                );
                self.problem("tls", found, SIDECAR)
            }
            Spoken::Alert(70) => {
                let found = "the gateway speaks only TLS 1.0 or older (it refuses all versions \
                             with alert protocol_version), the bridge TLS 1.2 and 1.3";
                self.problem("tls", found.to_owned(), SIDECAR)
            }
            Spoken::OtherCurve => {
                let found = "the gateway needs the curve P-521, which the bridge does not have, to \
                             exchange keys or for its certificate";
                let remedy = "switch X25519, P-256 or P-384 on at the gateway, or put a TLS-terminating \
                              sidecar beside the bridge";
                self.problem("tls", found.to_owned(), remedy)
            }
            Spoken::Http => {
                let found = format!("{addr} speaks plain HTTP, not TLS");
                let remedy = format!(
                    "write the gateway's TLS port in {} (8043 as a rule); http:// is for a proxy \
                     on this machine alone",
                    self.key("base_urls")
                );
                self.problem("tls", found, remedy)
            }
            Spoken::Other => {
                let remedy = format!("check host and port in {}", self.key("base_urls"));
                self.problem("tls", format!("{addr} speaks neither TLS nor HTTP"), remedy)
            }
            Spoken::Alert(_) | Spoken::Nothing | Spoken::Tls { .. } => {
                let remedy = format!(
                    "check host and port in {}, ask the gateway's operator what its log says, and \
                     whether it accepts connections only from listed addresses",
                    self.key("base_urls")
                );
                self.problem("tls", format!("the handshake failed: {words}"), remedy)
            }
        }
    }

    /// Reports that the connection failed after the gateway asked for a client certificate.
    pub(super) fn asked_for_certificate(&mut self, words: &str) -> Stop {
        let (certificate, key) =
            (self.key("tls.client_certificate_file"), self.key("tls.client_key_file"));
        let (found, remedy) = match self.tenant.tls.client {
            None => (
                format!("the gateway asked for a client certificate and got none: {words}"),
                format!("get one from the gateway's operator; set {certificate} and {key}"),
            ),
            Some(_) => (
                format!(
                    "the gateway asked for the bridge's client certificate and got it, but then \
                     the connection failed: {words}"
                ),
                format!("have {certificate} signed by an authority that the gateway trusts"),
            ),
        };
        self.problem("tls", found, remedy)
    }
}

fn version_name(version: Version) -> &'static str {
    if version == TLS_1_0 { "TLS 1.0" } else { "TLS 1.1" }
}
