//! A gRPC client of the bridge, for the demo and the tests.

use http::Uri;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tonic::body::Body;

use crate::rpc::proto::{
    agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
    agent_state_client::AgentStateClient,
};

/// HTTP/2 without TLS. It honours GOAWAY: the next call opens a new connection.
pub type Channel = Client<HttpConnector, Body>;

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
