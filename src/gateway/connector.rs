use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::timeout;
use tower_service::Service as _;

use super::failure::words;

/// Opens TCP and TLS connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector>,
    limit: Duration,
}

/// What a connection is read and written through.
pub(super) type Stream = <HttpsConnector<HttpConnector> as tower_service::Service<Uri>>::Response;

/// A peer that vanished without a word is noticed on idle connections too.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

impl Connector {
    /// `limit` is for each connection: its name, TCP and TLS together.
    pub(super) fn new(tls: rustls::ClientConfig, limit: Duration) -> Self {
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
        Self { inner, limit }
    }

    /// Connects, or says why that is not possible.
    pub(super) async fn connect(mut self, uri: Uri) -> Result<Stream, String> {
        match timeout(self.limit, self.inner.call(uri)).await {
            Ok(connected) => connected.map_err(|error| words(&*error)),
            Err(_elapsed) => {
                Err(format!("no connection within {}", humantime::format_duration(self.limit)))
            }
        }
    }
}
