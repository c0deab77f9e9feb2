use std::{sync::Arc, time::Duration};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tower_service::Service as _;

use super::cause::connect_cause;
use crate::config::Trust;

/// Opens TCP and TLS connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector>,
    limit: Duration,
    trust: Arc<Trust>,
}

/// The stream of an open connection.
pub(super) type Stream = <HttpsConnector<HttpConnector> as tower_service::Service<Uri>>::Response;

/// Detects a peer that vanished, also on idle connections.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

impl Connector {
    /// `limit` covers name resolution, TCP and TLS of one connection together; `trust` is what `tls`
    /// was made of.
    pub(super) fn new(tls: rustls::ClientConfig, limit: Duration, trust: &Trust) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(limit));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self { inner, limit, trust: Arc::new(trust.clone()) }
    }

    /// Connects. The error is a text for people.
    pub(super) async fn connect(mut self, uri: Uri) -> Result<Stream, String> {
        match timeout(self.limit, self.inner.call(uri)).await {
            Ok(connected) => connected.map_err(|error| connect_cause(&*error, &self.trust)),
            Err(_elapsed) => {
                Err(format!("no connection within {}", humantime::format_duration(self.limit)))
            }
        }
    }
}
