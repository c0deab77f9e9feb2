//! A gRPC client of the bridge, for callers in Rust, and for `call`, the demo and the tests.
//!
//! [`change`] makes a call with a deadline. If it fails, its [`ChangeError`] says what is known about the agent, and what may
//! be done next:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use ccgateway_bridge::{
//!     client::{self, ChangeError},
//!     rpc::proto::SetBusyRequest,
//! };
//! use tonic::Request;
//!
//! # async fn example() {
//! let origin = http::Uri::from_static("http://127.0.0.1:50051");
//! let mut states = client::agent_state(client::channel(), origin);
//! let agent_id = "1001".to_owned();
//! let request = SetBusyRequest { agent_id, reason: Some(200), ..Default::default() };
//! let send = async |request: Request<SetBusyRequest>| states.set_busy(request).await;
//! match client::change(request, Duration::from_secs(5), send).await {
//!     Ok(answer) => println!("accepted: {}", answer.message),
//!     Err(ChangeError::Unknown(_)) => println!("the agent may have changed: look"),
//!     Err(error) => println!("the agent is as it was: {error}; {}", error.advice()),
//! }
//! # }
//! ```
//!
//! `examples/set_busy.rs` also gives its change an id, sends it again where that may help, and watches the agent's events.

mod change_error;
mod told;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Uri, header::AUTHORIZATION};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::timeout;
use tonic::{Response, Status, body::Body};
use tower_service::Service;

pub use self::{
    change_error::{ChangeError, Failed, NextStep},
    told::{Told, Unmet, Violation},
};
use crate::rpc::proto::{
    agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
    agent_state_client::AgentStateClient,
};

/// How long after the deadline to wait for an answer that is still on the network.
const GRACE: Duration = Duration::from_secs(1);

/// The longest deadline. gRPC's header and the clock can hold more.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// After how long without a word of its peer a connection with open calls asks whether it is there, and how long it waits for
/// the answer. Otherwise a stream without an end would never notice that the peer's machine is gone.
const ASKS_AFTER: Duration = Duration::from_secs(20);
const ANSWER_MAX: Duration = Duration::from_secs(10);

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

/// A connection with this TLS, opened by the first call. The server's certificate has to be for the host of the origin.
pub fn secure_channel(tls: ClientConfig) -> SecureChannel {
    secure_channel_to(tls, None)
}

/// The same, but the server's certificate has to be for this name, if there is one, whatever the origin's host is.
pub fn secure_channel_to(tls: ClientConfig, name: Option<ServerName<'static>>) -> SecureChannel {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = builder.enable_http2().wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(ASKS_AFTER)
        .http2_keep_alive_timeout(ANSWER_MAX)
        .build(connector)
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

/// Makes a call that changes an agent, with a deadline of at most a year. A bridge answers within it; if nobody does, the call
/// is given up a second later, and nobody knows what has become of it.
pub async fn change<M, A>(
    message: M,
    deadline: Duration,
    send: impl AsyncFnOnce(tonic::Request<M>) -> Result<Response<A>, Status>,
) -> Result<A, ChangeError> {
    let deadline = deadline.min(LONGEST);
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    match timeout(deadline + GRACE, Box::pin(send(request))).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_late) => Err(Status::deadline_exceeded("nobody answered by the deadline").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use rustls::{RootCertStore, crypto::aws_lc_rs};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{Instant, pause},
    };

    use super::*;

    type Answered = Result<Response<()>, Status>;

    /// A frame of SETTINGS that sets nothing.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    #[tokio::test]
    async fn a_peer_that_is_gone_without_a_word_is_given_up() {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions().expect("versions");
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}/", listener.local_addr().expect("an address"));
        let request = Request::get(origin).body(Body::empty()).expect("a request");
        let asked = tokio::spawn(secure_channel(tls).request(request));
        let (mut peer, _) = listener.accept().await.expect("a connection");
        peer.write_all(&SETTINGS).await.expect("written");
        let mut preface = [0; 24];
        peer.read_exact(&mut preface).await.expect("a preface");
        // From here on nothing but timers can happen.
        pause();
        let answer = timeout(Duration::from_secs(60), asked).await.expect("given up");
        answer.expect("no panic").expect_err("nobody answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_answers_is_unknown_after_its_deadline() {
        let begun = Instant::now();
        let deadline = Duration::from_secs(5);
        let nobody = async |_request: tonic::Request<()>| pending::<Answered>().await;
        let error = change((), deadline, nobody).await.expect_err("nobody answers");
        assert!(matches!(error, ChangeError::Unknown(_)), "{error}");
        assert_eq!(error.next_step(), NextStep::LearnOutcome);
        assert!(begun.elapsed() >= deadline + GRACE);
    }
}
