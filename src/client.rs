//! A gRPC client of the bridge, for `call`, the demo and the tests.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, Uri, header::AUTHORIZATION};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;
use tonic::body::Body;
use tower_service::Service;

use crate::rpc::proto::{
    agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
    agent_state_client::AgentStateClient,
};

/// HTTP/2 without TLS. It honours GOAWAY: the next call opens a new connection.
pub type Channel = Client<HttpConnector, Body>;

/// HTTP/2 with TLS for `https` origins, without for `http` ones.
pub type SecureChannel = Client<HttpsConnector<HttpConnector>, Body>;

/// The same, with a token in each call.
#[derive(Clone, Debug)]
pub struct AuthorizedChannel {
    /// The connection.
    pub channel: SecureChannel,
    /// The `authorization` header; `None`: calls have none.
    pub authorization: Option<HeaderValue>,
}

impl Service<Request<Body>> for AuthorizedChannel {
    type Response = <SecureChannel as Service<Request<Body>>>::Response;
    type Error = <SecureChannel as Service<Request<Body>>>::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.channel.call(request)
    }
}

/// A connection with this TLS, opened by the first call.
pub fn secure_channel(tls: ClientConfig) -> SecureChannel {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http2()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

/// A connection, opened by the first call.
pub fn channel() -> Channel {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

/// A client of `AgentState` at `origin`, such as `http://127.0.0.1:50051`.
pub fn agent_state(channel: Channel, origin: Uri) -> AgentStateClient<Channel> {
    AgentStateClient::with_origin(channel, origin)
}

/// A client of `AgentSession` at `origin`.
pub fn agent_session(channel: Channel, origin: Uri) -> AgentSessionClient<Channel> {
    AgentSessionClient::with_origin(channel, origin)
}

/// A client of `AgentEvents` at `origin`.
pub fn agent_events(channel: Channel, origin: Uri) -> AgentEventsClient<Channel> {
    AgentEventsClient::with_origin(channel, origin)
}
