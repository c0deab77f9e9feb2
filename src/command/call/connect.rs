use std::{fs, net::IpAddr, sync::Arc};

use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{Mistake, Options};
use crate::{
    client::{self, SecureChannel},
    rpc::proto::{
        agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient,
    },
};

/// The clients of one bridge's services.
pub(super) struct Clients {
    pub(super) states: AgentStateClient<SecureChannel>,
    pub(super) sessions: AgentSessionClient<SecureChannel>,
    pub(super) events: AgentEventsClient<SecureChannel>,
}

impl Clients {
    /// Makes the clients; the connection itself is opened by the first call.
    pub(super) fn connect(options: &Options) -> Result<Self, Mistake> {
        let addr = &options.addr;
        let unusable =
            || Mistake(format!("--addr {addr}: give host and port, such as bridge:50051"));
        let authority: http::uri::Authority = addr.parse().map_err(|_| unusable())?;
        authority.port_u16().ok_or_else(unusable)?;

        let plaintext = options.ca.is_none()
            && (options.insecure_plaintext || is_this_machine(authority.host()));
        let scheme = if plaintext { "http" } else { "https" };
        let origin: Uri = format!("{scheme}://{authority}").parse().map_err(|_| unusable())?;
        let roots = if plaintext { RootCertStore::empty() } else { roots(options)? };
        let tls = tls(roots).map_err(|error| Mistake(error.to_string()))?;
        let channel = client::secure_channel(tls);
        Ok(Self {
            states: AgentStateClient::with_origin(channel.clone(), origin.clone()),
            sessions: AgentSessionClient::with_origin(channel.clone(), origin.clone()),
            events: AgentEventsClient::with_origin(channel, origin),
        })
    }
}

/// Whether `host` is this machine: nobody can read what goes there on the network, so that it needs
/// no TLS.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn roots(options: &Options) -> Result<RootCertStore, Mistake> {
    let mut store = RootCertStore::empty();
    let certificates = match &options.ca {
        Some(file) => {
            let unusable = |why: String| Mistake(format!("--ca {}: {why}", file.display()));
            let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let read = read.map_err(|_| unusable("not valid PEM".to_owned()))?;
            if read.is_empty() {
                return Err(unusable("has no certificate".to_owned()));
            }
            read
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        let mistake = "this machine has no root certificates; give --ca FILE, or \
                       --insecure-plaintext if nobody can read the network's traffic";
        return Err(Mistake(mistake.to_owned()));
    }
    store.add_parsable_certificates(certificates);
    Ok(store)
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
