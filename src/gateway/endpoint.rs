use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::{
    HeaderValue, Uri,
    uri::{Authority, InvalidUri, PathAndQuery},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Command, Interface,
    connection::{Connection, Sent},
    connector::Connector,
    failure::Failure,
    health::Health,
    reply::Reply,
    request::Request,
};
use crate::{
    call::{Loss, Patience, Untouched, Wait},
    id::AgentId,
};

/// One address of a gateway, with the connections to it that have nothing to do.
///
/// There are never more connections than requests and polls at once, for a new one is opened only
/// while none is idle. A library's pool that opens one while another is about to become idle, or
/// drops one half opened because its caller has left, has no such bound.
#[derive(Debug)]
pub(super) struct Endpoint {
    uri: Uri,
    host: HeaderValue,
    /// The path before the interfaces' own, such as `/agentgateway/resource`.
    prefix: String,
    connector: Connector,
    idle: Arc<Idle>,
    /// Closes idle connections, as long as there is the endpoint.
    _closing: AbortOnDropHandle<()>,
    /// Connections that are open.
    open: Gauge,
    health: Health,
}

#[derive(Debug)]
struct Idle {
    /// The one used last is used next, so that those not needed grow old.
    connections: Mutex<Vec<Connection>>,
    timeout: Duration,
}

/// Why there is no connection.
enum Unconnected {
    /// None can be made; the cause in words.
    Failed(String),
    /// Nobody waits for it any more.
    Lost(Loss),
}

impl Endpoint {
    /// `None` for a URL without a host, which the configuration does not let through.
    pub(super) fn new(base_url: &Uri, connector: Connector, timeout: Duration) -> Option<Self> {
        let host = base_url.authority().map(Authority::as_str)?;
        let idle = Arc::new(Idle { connections: Mutex::default(), timeout });
        let closing = AbortOnDropHandle::new(tokio::spawn(close_old(Arc::downgrade(&idle))));
        Some(Self {
            host: HeaderValue::from_str(host).ok()?,
            prefix: base_url.path().trim_end_matches('/').to_owned(),
            uri: base_url.clone(),
            connector,
            idle,
            _closing: closing,
            open: Gauge::default(),
            health: Health::default(),
        })
    }

    /// The same with its connections counted here.
    pub(super) fn counted(self, open: Gauge) -> Self {
        Self { open, ..self }
    }

    /// How it is doing.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Where open connections are counted.
    pub(super) fn open(&self) -> &Gauge {
        &self.open
    }

    /// Where to connect to.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The value of the `Host` header.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The target of a request.
    pub(super) fn target(
        &self,
        command: &Command,
        agent: AgentId,
    ) -> Result<PathAndQuery, InvalidUri> {
        let (prefix, arguments) = (&self.prefix, &command.arguments);
        let Interface { family, tail, .. } = command.interface;
        let target = format!("{prefix}/{family}/{agent}{tail}{arguments}");
        PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))
    }

    /// Sends a request on an idle connection, else on a new one.
    pub(super) async fn exchange(
        &self,
        request: &Request<'_>,
        limit: Duration,
        patience: &mut Patience,
        mut untouched: Untouched,
    ) -> Result<Reply, Failure> {
        loop {
            let connection = match self.connection(patience, &untouched).await {
                Ok(connection) => connection,
                Err(Unconnected::Failed(cause)) => return Err(Failure::NotSent(untouched, cause)),
                Err(Unconnected::Lost(loss)) => {
                    return Err(Failure::Kept(untouched.because(loss.before(Wait::Connection))));
                }
            };
            if let Err(late) = patience.may_start() {
                self.idle.keep(Some(connection));
                return Err(Failure::Kept(untouched.because(late)));
            }
            let used = connection.used;
            let http = match request.to_http(self) {
                Ok(http) => http,
                Err(error) => return Err(Failure::NotSent(untouched, error.to_string())),
            };
            let mut sending = std::pin::pin!(connection.send(http, limit, untouched));
            let sent = tokio::select! {
                biased;
                sent = &mut sending => sent,
                loss = patience.lost() => {
                    patience.answer(loss.after_sending(request.stage));
                    sending.await
                }
            };
            match sent {
                Sent::Answered(reply, connection) => {
                    self.idle.keep(connection);
                    return Ok(reply);
                }
                // A gateway may close what has been idle just as it is used again. Not a byte was
                // written, so the next connection gets the request; a new one ends this.
                Sent::Unwritten(still, _) if used => untouched = still,
                Sent::Unwritten(still, cause) => return Err(Failure::NotSent(still, cause)),
                Sent::Unanswered(cause) => return Err(Failure::Sent(cause)),
                Sent::Late(cause, closing) => return Err(Failure::Late(cause, closing)),
            }
        }
    }

    /// A connection that can be used at once. If nobody waits any more while one is being opened,
    /// that goes on, for the next call to find it.
    async fn connection(
        &self,
        patience: &mut Patience,
        untouched: &Untouched,
    ) -> Result<Connection, Unconnected> {
        while let Some(connection) = self.idle.take() {
            if let Some(ready) = connection.ready().await {
                return Ok(ready);
            }
        }
        let mut opening = std::pin::pin!(Connection::open(self.connector.clone(), self));
        tokio::select! {
            biased;
            opened = &mut opening => opened.map_err(Unconnected::Failed),
            loss = patience.lost() => {
                if patience.goes_on(loss, Wait::Connection, untouched) {
                    return opening.await.map_err(Unconnected::Failed);
                }
                patience.answer(untouched.because(loss.before(Wait::Connection)));
                self.idle.keep(opening.await.ok());
                Err(Unconnected::Lost(loss))
            }
        }
    }
}

impl Idle {
    fn take(&self) -> Option<Connection> {
        let mut connections = self.connections();
        while let Some(connection) = connections.pop() {
            if !connection.is_closed() && !self.is_old(&connection) {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Option<Connection>) {
        self.connections().extend(connection);
    }

    fn is_old(&self, connection: &Connection) -> bool {
        connection.idle_since.elapsed() >= self.timeout
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections in time also while no calls come, until the endpoint is gone.
async fn close_old(idle: Weak<Idle>) {
    while let Some(timeout) = idle.upgrade().map(|idle| idle.timeout) {
        sleep(timeout / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        idle.connections().retain(|known| !known.is_closed() && !idle.is_old(known));
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ClientTls, Trust},
        gateway::{FORCE_SIGN_OUT, POLL, SIGN_IN, say_busy},
        id::DEFAULT_AGENT_IDS,
        tls,
    };

    #[track_caller]
    fn check(base_url: &'static str, command: &Command, expected: &str) {
        let trust = ClientTls { trust: Trust::Anything, client: None };
        let connector = Connector::new(tls::client_config(&trust).unwrap(), Duration::ZERO);
        let endpoint = Endpoint::new(&Uri::from_static(base_url), connector, Duration::MAX);
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        assert_eq!(endpoint.unwrap().target(command, agent).unwrap(), expected);
    }

    #[tokio::test]
    async fn targets_are_as_the_gateway_documents_them() {
        const BASE: &str = "https://ccg:8043/agentgateway/resource";
        let agent = "/agentgateway/resource/onlineagent/1001";
        check(BASE, &Command::plain(&SIGN_IN), agent);
        check(BASE, &Command::plain(&FORCE_SIGN_OUT), &format!("{agent}/forcelogout"));
        for (reason, prolong, query) in [
            (None, None, ""),
            (Some(200), None, "?reason=200"),
            (Some(0), None, "?reason=0"),
            (None, Some(false), "?prolong=false"),
            (Some(250), Some(true), "?reason=250&prolong=true"),
        ] {
            check(BASE, &say_busy(reason, prolong), &format!("{agent}/saybusy{query}"));
        }
        check(BASE, &Command::plain(&POLL), "/agentgateway/resource/agentevent/1001");
        check("http://127.0.0.1/", &say_busy(None, None), "/onlineagent/1001/saybusy");
    }
}
