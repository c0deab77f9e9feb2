//! Peers that connect and then send nothing keep no caller out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ccgateway_bridge::rpc::proto::WatchEventsRequest;
use ccgateway_test_support::{Program, origin, within};
use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject as _};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::support::{start, tls};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A frame of settings that announces six bytes and brings three.
const HALF_SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0];
const HANDSHAKE: Duration = Duration::from_secs(3);
/// More than the places, so that those left over must not be in anybody's way either.
const RUDE: usize = 12;

fn limits(more: &str) -> String {
    format!("server.connections = {{ max = 8, handshakes = 4, handshake_timeout = \"3s\"{more} }}")
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Health's answer over a connection of its own: its `grpc-status`.
async fn call(stream: impl Stream + 'static) -> String {
    let (mut client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let uri = "http://localhost/grpc.health.v1.Health/Check";
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(()).expect("a request");
    let (response, mut body) = client.send_request(request, false).expect("open");
    body.send_data(Bytes::from_static(&[0; 5]), true).expect("sent");
    let mut response = response.await.expect("a response");
    let body = response.body_mut();
    while let Some(data) = body.data().await {
        drop(data.expect("data"));
    }
    let trailers = body.trailers().await.expect("an end").expect("trailers");
    connection.abort();
    trailers["grpc-status"].to_str().expect("a number").to_owned()
}

/// A caller's whole way in, from connecting to the answer.
pub(crate) async fn caller(program: &Program, tls: Option<&TlsConnector>) -> String {
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let Some(tls) = tls else { return call(stream).await };
    call(tls_over(tls, stream).await).await
}

pub(crate) async fn tls_over(
    tls: &TlsConnector,
    stream: TcpStream,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = "localhost".try_into().expect("a name");
    tls.connect(name, stream).await.expect("a TLS handshake")
}

/// Fills the house with peers that say `words` and no more, over TLS if there is one, then has a
/// caller try its luck.
async fn check(what: &str, program: &Program, over: Option<&TlsConnector>, words: &[u8]) {
    let mut rude: Vec<Box<dyn Stream>> = Vec::new();
    for _ in 0..RUDE {
        let stream = TcpStream::connect(program.grpc).await.expect("connected");
        let mut stream: Box<dyn Stream> = match over {
            Some(tls) => {
                let stream = timeout(HANDSHAKE, tls_over(tls, stream)).await;
                Box::new(stream.expect("a TLS handshake in time"))
            }
            None => Box::new(stream),
        };
        stream.write_all(words).await.expect("sent");
        stream.flush().await.expect("sent");
        rude.push(stream);
    }
    let answered = timeout(HANDSHAKE, caller(program, over)).await;
    assert_eq!(answered.as_deref(), Ok("0"), "{what}");
}

pub(crate) fn connector(ca: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let pem = rustls::pki_types::CertificateDer::from_pem_file(ca).expect("a certificate");
    roots.add(pem).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn many_unfinished_handshakes_keep_no_caller_out() {
    let ready: &[u8] = &[PREFACE, SETTINGS].concat();
    for (what, words) in [
        ("nothing", &b""[..]),
        ("one byte", b"P"),
        ("half a preface", &PREFACE[..20]),
        ("a preface", PREFACE),
        ("the head of settings", &[PREFACE, &SETTINGS[..5]].concat()),
        ("half the settings", &[PREFACE, HALF_SETTINGS].concat()),
        ("nothing after the handshake", ready),
        ("half a frame after the handshake", &[ready, &[0, 0, 9, 1]].concat()),
        ("headers without an end", &[ready, &[0, 0, 0, 1, 0, 0, 0, 0, 1]].concat()),
    ] {
        let program = start(&limits(""), &[]).await;
        check(what, &program, None, words).await;
    }
}

#[tokio::test]
async fn many_unfinished_handshakes_within_tls_keep_no_caller_out() {
    let files = TempDir::new().expect("a folder");
    let (own, ca) = tls(&files);
    let tls = connector(&ca);
    for (what, words) in [
        ("nothing", &b""[..]),
        ("one byte", b"P"),
        ("a preface", PREFACE),
        ("half the settings", &[PREFACE, HALF_SETTINGS].concat()),
        ("nothing after the handshake", &[PREFACE, SETTINGS].concat()),
    ] {
        let program = start(&format!("{}\n{own}", limits("")), &[]).await;
        check(what, &program, Some(&tls), words).await;
    }
}

#[tokio::test]
async fn many_unfinished_client_hellos_keep_no_caller_out() {
    let files = TempDir::new().expect("a folder");
    let (own, ca) = tls(&files);
    let tls = connector(&ca);
    for words in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let program = start(&format!("{}\n{own}", limits("")), &[]).await;
        let mut rude = Vec::new();
        for _ in 0..RUDE {
            let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
            stream.write_all(words).await.expect("sent");
            rude.push(stream);
        }
        let answered = timeout(HANDSHAKE, caller(&program, Some(&tls))).await;
        assert_eq!(answered.as_deref(), Ok("0"), "{words:?}");
    }
}

/// Sends one byte after the other until the peer hangs up; gives how many were sent.
fn trickle(mut stream: TcpStream, bytes: Vec<u8>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let (mut reads, mut writes) = stream.split();
        let sending = async {
            for byte in bytes {
                if writes.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut sink = Vec::new();
        tokio::select! {
            () = sending => {}
            _end = reads.read_to_end(&mut sink) => {}
        }
        sink.len()
    })
}

#[tokio::test]
async fn a_preface_that_trickles_does_not_restart_the_clock() {
    let settings = "server.connections = { handshake_timeout = \"1s\" }";
    let program = start(settings, &[]).await;
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let heard = within("its end", trickle(stream, PREFACE.to_vec())).await.expect("no panic");
    assert_eq!(heard, 0, "nothing is said to who has not said its preface");
    let metrics = program.ask("GET /metrics", "").await.1;
    let late = "ccgw_connections_turned_away_total{cause=\"handshake_late\"} 1";
    assert!(metrics.contains(late), "{metrics}");
}

#[tokio::test]
async fn connections_that_are_in_use_are_not_closed_for_others() {
    let program = start(&limits(""), &[]).await;
    let mut watches = Vec::new();
    for _ in 0..8 {
        let channel = ccgateway_bridge::client::channel();
        let mut events = ccgateway_bridge::client::agent_events(channel, origin(program.grpc));
        let watch = events
            .watch_events(WatchEventsRequest::default())
            .await
            .expect("watching")
            .into_inner();
        watches.push((events, watch));
    }
    let late = TcpStream::connect(program.grpc).await.expect("connected");
    let (mut client, connection) = h2::client::handshake(late).await.expect("begun");
    let request = http::Request::post("http://x/grpc.health.v1.Health/Check").body(());
    let (response, _body) = client.send_request(request.expect("good"), true).expect("open");
    let ended = within("the late one's end", connection).await;
    // Told in HTTP/2's words that nothing was done, so that its library tries elsewhere.
    let error = within("the answer", response).await.expect_err("there is no place");
    assert!(error.is_go_away() && error.is_remote(), "{error:?} {ended:?}");
    let (_, readiness) = program.ask("GET /readyz?verbose", "").await;
    assert!(readiness.contains("connections: 8 of 8"), "{readiness}");
    let metrics = program.ask("GET /metrics", "").await.1;
    let full = "ccgw_connections_turned_away_total{cause=\"connections_full\"} 1";
    assert!(metrics.contains(full), "{metrics}");
    program.printed("every place for connections is taken").await;
    for (_, watch) in &mut watches {
        let begin = within("the beginning", watch.message()).await.expect("goes on");
        assert!(begin.is_some());
    }
}

#[tokio::test]
async fn one_address_takes_no_more_than_its_share() {
    let program = start(&limits(", per_peer = 2"), &[]).await;
    let idle = |_| {
        let program = &program;
        async move {
            let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
            stream.write_all(&[PREFACE, SETTINGS].concat()).await.expect("sent");
            let mut settings = [0; 9];
            stream.read_exact(&mut settings).await.expect("served");
            stream
        }
    };
    let mut first = idle(0).await;
    let _second = idle(1).await;
    let _third = idle(2).await;
    let mut rest = Vec::new();
    within("the end of the one that was idle longest", first.read_to_end(&mut rest))
        .await
        .expect("closed, not cut");
    let (_, readiness) = program.ask("GET /readyz?verbose", "").await;
    assert!(readiness.contains("connections: 2 of 8"), "{readiness}");
    let full = "every place for connections from one address is taken";
    let printed = program.printed(full).await;
    let line = printed.lines().find(|line| line.contains(full)).expect("printed");
    assert!(line.contains("127.0.0.1"), "{line}");
    let metrics = program.ask("GET /metrics", "").await.1;
    let closed = "ccgw_connections_turned_away_total{cause=\"idle\"} 1";
    assert!(metrics.contains(closed), "{metrics}");
}

#[tokio::test]
async fn an_http_1_client_is_told_which_protocol_to_use() {
    let program = start("", &[]).await;
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("closed, not cut");
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
        assert!(answer.contains("HTTP/2"), "{answer}");
    }
}

#[tokio::test]
async fn probes_are_answered_while_others_fill_the_admin_port() {
    let program = start("", &[]).await;
    let mut rude = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(program.admin).await.expect("connected");
        stream.write_all(b"GET /h").await.expect("sent");
        rude.push(stream);
    }
    let probe = timeout(Duration::from_secs(1), program.ask("GET /healthz", "")).await;
    assert_eq!(probe.expect("an answer within a second").0, 200);
}
