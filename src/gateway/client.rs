use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use super::{
    connector::{self, TimedConnector},
    failure::Failure,
    reply::Reply,
    tls,
};
use crate::config;

/// The connections to one tenant's gateway. No other tenant shares them.
#[derive(Clone, Debug)]
pub(super) struct Client(legacy::Client<TimedConnector, Full<Bytes>>);

/// Why a tenant's client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS towards the gateway: {0}")]
pub struct BuildError(String);

/// An answer's head may take this many bytes; more is no answer of a gateway.
const MAX_HEAD_BYTES: usize = 64 * 1024;

impl Client {
    pub(super) fn new(tenant: &config::Tenant) -> Result<Self, BuildError> {
        let tls = tls::client_config(&tenant.tls).map_err(BuildError)?;
        let connector = connector::new(tls, tenant.timeouts.connect);
        let client = legacy::Client::builder(TokioExecutor::new())
            // Without timers idle connections are only closed when the next call comes.
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(tenant.timeouts.idle)
            .pool_max_idle_per_host(tenant.limits.in_flight.get())
            // Some gateways' clients compare header names by case; "Guid" is how it is documented.
            .http1_title_case_headers(true)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            // Repeats only what was never written to a connection that closed meanwhile.
            .retry_canceled_requests(true)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request and reads its answer to the last byte, all within `limit`.
    pub(super) async fn fetch(
        &self,
        request: http::Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let answer = async {
            let response = self.0.request(request).await.map_err(|e| Failure::of_request(&e))?;
            Reply::read(response).await
        };
        let late =
            |_| Failure::Sent(format!("nothing within {}", humantime::format_duration(limit)));
        timeout(limit, answer).await.map_err(late)?
    }
}
