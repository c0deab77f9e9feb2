//! A request to a gateway for the doctor. It uses the same TLS, connections and requests as calls,
//! so its result is what calls would get.

use http::{StatusCode, Uri};
use prometheus_client::metrics::gauge::Gauge;
use rustls::ClientConfig;

use super::{
    BuildError, Command, Reply, Request,
    address::Address,
    connection::{Connection, Sent},
    connector::Connector,
    interface::{AGENT_STATUS, Interface, POLL},
    resolver::Resolver,
};
use crate::{
    call::{Stage, Untouched},
    config::{AuthMode, ClientTls, Tenant},
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

/// What shows whether a gateway of this tenant answers, and changes nothing, without a Guid: the question for an
/// agent's status. Where the gateway's edition does not have it, a poll is refused, unless there are no Guids. Then a
/// poll would be the agent's own and take an event away, so that the status is asked for all the same: the gateway
/// answers that it has no such interface.
pub(super) fn interface_of(tenant: &Tenant) -> &'static Interface {
    if is_unknown_there(tenant) || AGENT_STATUS.is_in(tenant.edition) {
        &AGENT_STATUS
    } else {
        &POLL
    }
}

/// Whether a gateway of this tenant is asked for what it does not have.
pub fn is_unknown_there(tenant: &Tenant) -> bool {
    tenant.auth_mode == AuthMode::None && !AGENT_STATUS.is_in(tenant.edition)
}

/// Whether an answer with this status says that there is no such interface.
pub fn says_unknown(status: StatusCode) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status)
}

/// Asks one address, without a Guid, what changes nothing. Opens a connection of its own. Must be called within a
/// tokio runtime.
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
    let command = Command::plain(interface_of(tenant));
    let (stage, trace) = (Stage::Answer, Trace::default());
    let request = Request { command: &command, agent, session: None, body: None, stage, trace };
    let http = request.to_http(&address).map_err(|error| error.to_string())?;

    let connection = Connection::open(connector, &address, &Gauge::default()).await?;
    match connection.send(http, timeouts.request, Untouched::at_the_start()).await {
        Sent::Answered(reply, _connection) => Ok(reply),
        Sent::Unwritten(_, cause) | Sent::Unanswered(cause) | Sent::Late(cause, _) => Err(cause),
    }
}
