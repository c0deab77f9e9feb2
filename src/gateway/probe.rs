//! A request to a gateway for the doctor. It uses the same TLS, connections and requests as calls,
//! so its result is what calls would get.

use http::{StatusCode, Uri};
use prometheus_client::metrics::gauge::Gauge;
use rustls::ClientConfig;

use super::{
    BuildError, Command, Reply, Request,
    address::Address,
    connection::Connection,
    connector::Connector,
    interface::{AGENT_STATUS, Interface, POLL},
    transport_failure::Failure,
};
use crate::{
    call::{Stage, Untouched},
    config::{AuthMode, ClientTls, Tenant},
    id::AgentId,
    resolver::Resolver,
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
    let connection = Connection::open(connector, &address, &Gauge::default()).await?;
    let http = request.to_http(&address, connection.version());
    let begun = connection.begin(http, Untouched::at_the_start());
    let mut exchange = begun.map_err(|(_, cause)| cause)?;
    let end = exchange.run_for(timeouts.request).await;
    exchange.finish(end).map(|(reply, _closed)| reply).map_err(Failure::into_cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources, load};

    /// A tenant whose gateway treats Guids in this way, and is of this edition.
    fn tenant(auth_mode: &str, edition: &str) -> Tenant {
        let lines =
            [("base_urls", "http://127.0.0.1:1"), ("auth_mode", auth_mode), ("edition", edition)];
        let sources = lines.into_iter().fold(Sources::default(), |sources, (key, value)| {
            sources.with_flag("--test", &format!("tenants.acme.{key}"), value)
        });
        let config = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let Config { mut tenants, .. } = config;
        tenants.pop_first().expect("a tenant").1
    }

    #[test]
    fn a_gateway_is_asked_for_a_status_unless_that_is_unknown_to_it_and_a_poll_is_refused() {
        for (auth_mode, edition, asked, is_unknown) in [
            ("dynamic", "2025-11", &AGENT_STATUS, false),
            ("dynamic", "2023-09", &AGENT_STATUS, false),
            ("dynamic", "2014", &POLL, false),
            ("static", "2014", &POLL, false),
            ("none", "2023-09", &AGENT_STATUS, false),
            ("none", "2014", &AGENT_STATUS, true),
        ] {
            let (tenant, case) = (tenant(auth_mode, edition), format!("{auth_mode} {edition}"));
            assert_eq!(interface_of(&tenant).log_name, asked.log_name, "{case}");
            assert_eq!(is_unknown_there(&tenant), is_unknown, "{case}");
        }
    }
}
