use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::time::timeout;
use tower_service::Service;

use super::{socket::Socket, transport_cause::connect_cause};
use crate::{config::Trust, resolver::Resolver};

/// Opens TCP and TLS connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<TcpConnector>,
    limit: Duration,
    trust: Arc<Trust>,
}

/// The stream of an open connection.
pub(super) type Stream = <HttpsConnector<TcpConnector> as Service<Uri>>::Response;

/// Opens TCP connections.
#[derive(Clone, Debug)]
pub(super) struct TcpConnector(HttpConnector<Resolver>);

/// A connection without traffic for this long is tested, so that one whose peer has vanished does not stay.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// The time between two tests. The system's own may be more than a minute.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// So many tests without an answer close it.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

impl Connector {
    /// `limit` covers name resolution, TCP and TLS of one connection together; `trust` is what `tls`
    /// was made of.
    pub(super) fn new(
        tls: rustls::ClientConfig,
        limit: Duration,
        trust: &Trust,
        resolver: Resolver,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
        tcp.set_connect_timeout(Some(limit));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(TcpConnector(tcp));
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

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<Socket>;
    type Error = <HttpConnector<Resolver> as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async { Ok(TokioIo::new(Socket::new(connecting.await?.into_inner()))) })
    }
}
