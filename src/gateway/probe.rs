//! A request to a gateway for the doctor. It uses the same TLS, connections and requests as calls,
//! so its result is what calls would get.

use http::Uri;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ClientConfig;

use super::{
    BuildError, Command, Reply, Request,
    address::Address,
    connection::{Connection, Sent},
    connector::Connector,
    interface::{AGENT_STATUS, POLL},
    resolver::Resolver,
};
use crate::{
    call::{Stage, Untouched},
    config::{ClientTls, Tenant},
    id::AgentId,
    telemetry::trace::Trace,
    tls,
};

/// The TLS configuration that calls use.
///
/// # Errors
///
/// [`BuildError`] if TLS cannot be set up as the configuration says.
pub fn tls_config(tls: &ClientTls) -> Result<ClientConfig, BuildError> {
    tls::client_config(tls).map_err(BuildError)
}

/// Asks one address for an agent's status without a Guid, or for its events if the gateway's
/// edition has no status. That changes nothing, and every gateway refuses it. Opens a connection of
/// its own. Must be called within a tokio runtime.
///
/// # Errors
///
/// A text, if no connection can be made or no complete answer comes in time.
pub async fn ask(tenant: &Tenant, base_url: &Uri, agent: AgentId) -> Result<Reply, String> {
    let timeouts = &tenant.timeouts;
    let tls = tls_config(&tenant.tls).map_err(|error| error.to_string())?;
    let connector = Connector::new(tls, timeouts.connect, &tenant.tls.trust, Resolver::default());
    let Some(address) = Address::new(base_url) else {
        return Err(format!("{base_url} has no host"));
    };
    let interface = if AGENT_STATUS.is_in(tenant.edition) { &AGENT_STATUS } else { &POLL };
    let command = Command::plain(interface);
    let (stage, trace) = (Stage::Answer, Trace::default());
    let request = Request { command: &command, agent, session: None, body: None, stage, trace };
    let http = request.to_http(&address).map_err(|error| error.to_string())?;

    let connection = Connection::open(connector, &address, &Gauge::default()).await?;
    match connection.send(http, timeouts.request, Untouched::at_the_start()).await {
        Sent::Answered(reply, _connection) => Ok(reply),
        Sent::Unwritten(_, cause) | Sent::Unanswered(cause) | Sent::Late(cause, _) => Err(cause),
    }
}
