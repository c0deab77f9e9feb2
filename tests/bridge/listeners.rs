//! Several listeners of one bridge, each with its own settings.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use ccgateway_bridge::{
    client,
    rpc::proto::{SetBusyRequest, agent_state_client::AgentStateClient},
    server::Drained,
};
use ccgateway_test_support::{AGENT, Certificate, Setup, TestBridge, until};
use h2::client::SendRequest;
use http::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::Code;

/// A bridge with three listeners: `default` and `inner` without TLS, and `outer` with it; and the
/// certificate of the last.
async fn three(server: &str) -> (TestBridge, rustls::pki_types::CertificateDer<'static>) {
    let files = TempDir::new().expect("a folder");
    let own = Certificate::of("localhost", files.path());
    let tenant = format!(
        "[listeners.inner]\naddress = \"127.0.0.1:0\"\nhttp2.max_concurrent_streams = 3\n\
         [listeners.outer]\naddress = \"127.0.0.1:0\"\n\
         tls = {}\n",
        own.table(),
    );
    let setup = Setup { tenant, server: server.to_owned(), ..<_>::default() };
    (TestBridge::with(setup).await, own.der)
}

fn addr(bridge: &TestBridge, name: &str) -> SocketAddr {
    let mut listeners = bridge.bridge.listeners().iter();
    let found = listeners.find(|(listener, _)| listener.as_str() == name);
    found.map(|(_, addr)| *addr).expect("a listener of this name")
}

fn busy() -> SetBusyRequest {
    let agent_id = AGENT.to_string();
    SetBusyRequest { agent_id, reason: Some(200), prolong: Some(true), ..<_>::default() }
}

fn origin(scheme: &str, host: &str, addr: SocketAddr) -> Uri {
    format!("{scheme}://{host}:{}", addr.port()).parse().expect("an origin")
}

fn trusting(certificate: rustls::pki_types::CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn each_listener_is_served_with_its_own_tls_and_all_know_the_same_agents() {
    let (bridge, certificate) = three("").await;
    bridge.sign_in(AGENT).await.expect("signed in through default");
    for name in ["default", "inner"] {
        let origin = origin("http", "127.0.0.1", addr(&bridge, name));
        let mut states = client::agent_state(client::channel(), origin);
        states.set_busy(busy()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let channel = client::secure_channel(trusting(certificate));
    let origin_of = |scheme| origin(scheme, "localhost", addr(&bridge, "outer"));
    let mut states = AgentStateClient::with_origin(channel, origin_of("https"));
    states.set_busy(busy()).await.expect("with TLS");

    let mut plain = client::agent_state(client::channel(), origin_of("http"));
    let error = plain.set_busy(busy()).await.expect_err("TLS is wanted there");
    assert_ne!(error.code(), Code::Ok);
}

async fn connect(addr: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = TcpStream::connect(addr).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(async move { drop(connection.await) });
    (client.ready().await.expect("its settings"), connection)
}

#[tokio::test]
async fn each_listener_has_its_own_limits_of_a_connection() {
    let (bridge, _) = three("").await;
    for (name, streams) in [("default", 100), ("inner", 3)] {
        let (client, _connection) = connect(addr(&bridge, name)).await;
        until("its settings", || client.current_max_send_streams() == streams).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_over_all_listeners() {
    let server = "connections.max = 2\n";
    let (bridge, _) = three(server).await;
    let mut open = Vec::new();
    for name in ["default", "inner"] {
        open.push(connect(addr(&bridge, name)).await);
    }
    let taken = "ccgw_server_places_in_use{share=\"connections\"}";
    assert_eq!(bridge.scrape().await.get(taken), Some(&2.0));
    // The newcomer gets the place of one that is idle, through whichever listener that came.
    let third = connect(addr(&bridge, "inner")).await;
    until("one to be closed", || open.iter().any(|(_, connection)| connection.is_finished())).await;
    assert!(!third.1.is_finished());
}

#[tokio::test]
async fn a_drain_ends_the_connections_of_all_listeners() {
    let (bridge, _) = three("").await;
    let mut open = Vec::new();
    for name in ["default", "inner"] {
        open.push(connect(addr(&bridge, name)).await);
    }
    let addrs = ["default", "inner", "outer"].map(|name| addr(&bridge, name));
    assert_eq!(bridge.bridge.drain().await, Drained::Clean);
    for (_, connection) in open {
        connection.await.expect("no panic");
    }
    for addr in addrs {
        TcpStream::connect(addr).await.expect_err("nobody listens there");
    }
}

#[tokio::test]
async fn the_status_page_shows_the_listeners_and_their_certificates() {
    let (bridge, _) = three("").await;
    let (_, body) = bridge.ask("GET /status.json").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let listeners = status["listeners"].as_array().expect("listeners");
    let told: Vec<_> = listeners
        .iter()
        .map(|one| (one["listener"].as_str(), one["address"].as_str(), one["tls"].as_bool()))
        .collect();
    let of = |name: &str| addr(&bridge, name).to_string();
    let addrs = [of("default"), of("inner"), of("outer")];
    let [default, inner, outer] = addrs.each_ref().map(|addr| Some(addr.as_str()));
    assert_eq!(
        told,
        [
            (Some("default"), default, Some(false)),
            (Some("inner"), inner, Some(false)),
            (Some("outer"), outer, Some(true)),
        ]
    );
    let certificates = status["certificates"].as_array().expect("certificates");
    let own: Vec<_> = certificates.iter().filter(|one| one["certificate"] == "server").collect();
    assert_eq!(own.len(), 1, "{certificates:?}");
    assert_eq!(own[0]["listener"], "outer");

    let (_, page) = bridge.ask("GET /").await;
    assert!(page.contains(&format!("<td>outer</td><td class=\"number\">{} with TLS", addrs[2])));
    let series = bridge.scrape().await;
    let ends =
        series.keys().filter(|name| name.starts_with("ccgw_certificate_not_after_timestamp"));
    let of_listeners: Vec<_> =
        ends.filter(|name| name.contains("certificate=\"server\"")).collect();
    assert_eq!(of_listeners.len(), 1, "{of_listeners:?}");
    assert!(of_listeners[0].contains("listener=\"outer\""), "{of_listeners:?}");
}
