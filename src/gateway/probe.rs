//! A look at a gateway for the doctor, through the TLS, the connections and the requests that calls
//! go through: what it finds is what they would meet.

use http::{Uri, response::Parts};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    BuildError, Command, Reply, Request,
    connection::Connection,
    connector::Connector,
    endpoint::Endpoint,
    failure::words,
    interface::{AGENT_STATUS, POLL},
};
use crate::{
    call::Stage,
    config::{ClientTls, Tenant},
    id::AgentId,
    tls,
    trace::Trace,
};

/// An answer with its head, of which calls read only a part.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: Parts,
    /// What calls read.
    pub reply: Reply,
}

/// A client's TLS as calls use it.
///
/// # Errors
///
/// [`BuildError`] if TLS cannot be set up with what the configuration names.
pub fn tls_config(tls: &ClientTls) -> Result<ClientConfig, BuildError> {
    tls::client_config(tls).map_err(BuildError)
}

/// Asks one address for an agent's status without a Guid, or for its events where the gateway's edition
/// has no status: it changes nothing, and every gateway refuses it. Opens a connection of its own; must be called within a runtime.
///
/// # Errors
///
/// In words, if no connection can be made, or no whole answer comes over it in time.
pub async fn ask(tenant: &Tenant, base_url: &Uri, agent: AgentId) -> Result<Answer, String> {
    let timeouts = &tenant.timeouts;
    let tls = tls_config(&tenant.tls).map_err(|error| error.to_string())?;
    let connector = Connector::new(tls, timeouts.connect);
    let Some(endpoint) = Endpoint::new(base_url, connector.clone(), timeouts.idle) else {
        return Err(format!("{base_url} has no host"));
    };
    let interface = if AGENT_STATUS.is_in(tenant.edition) { &AGENT_STATUS } else { &POLL };
    let command = Command::plain(interface);
    let (stage, trace) = (Stage::Answer, Trace::default());
    let request = Request { command: &command, agent, session: None, body: None, stage, trace };
    let http = request.to_http(&endpoint).map_err(|error| error.to_string())?;

    let mut connection = Connection::open(connector, &endpoint).await?;
    let answer = async {
        let response = connection.request(http).await.map_err(|error| words(&error))?;
        let (head, body) = response.into_parts();
        let response = http::Response::from_parts(head.clone(), body);
        let reply = Reply::read(response).await?;
        Ok(Answer { head, reply })
    };
    let limit = humantime::format_duration(timeouts.request);
    let late = |_| Err(format!("no answer within {limit}"));
    timeout(timeouts.request, answer).await.unwrap_or_else(late)
}
