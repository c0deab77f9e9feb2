use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use tokio::task::coop;

use super::*;
use crate::{
    config::{ClientTls, Trust},
    gateway::{reply::Reply, transport_failure::Failure},
    resolver::Resolver,
    tls::{self, SystemRoots},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A connection that has been idle, to a gateway at this port.
async fn rested(scheme: &str, port: u16) -> Connection {
    let address = address(&format!("{scheme}://127.0.0.1:{port}/x"));
    open(&connector(1), &address).await.after(Duration::ZERO)
}

fn address(url: &str) -> Address {
    Address::new(&url.parse().expect("a URL")).expect("a host")
}

/// Opens connections to so many servers.
fn connector(servers: usize) -> Connector {
    let any = ClientTls { trust: Trust::Anything, client: None };
    let tls = tls::client_config_with(&any, servers, &SystemRoots::default()).expect("TLS");
    Connector::new(tls, MINUTE, &any.trust, Resolver::default())
}

async fn open(connector: &Connector, address: &Address) -> Connection {
    let open = Connection::open(connector.clone(), address, &Gauge::default()).await;
    open.expect("connected")
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// What comes of a request. The connection is given back if it can carry another one.
async fn send(connection: Connection) -> Result<(Reply, Option<Connection>), Failure> {
    let request = Outgoing::new(b"GET /x HTTP/1.1\r\n\r\n".to_vec(), Bytes::new());
    match connection.begin(request, Untouched::at_the_start()) {
        Ok(mut exchange) => {
            let end = exchange.run_for(MINUTE).await;
            exchange.finish(end)
        }
        Err((untouched, cause)) => Err(Failure::NotSent(untouched, cause)),
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"retcode\":\"0\"}";
const UNASKED: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

/// This test's runtime has one thread, which does not look at sockets between what the gateway
/// does and the request.
#[tokio::test]
async fn what_was_there_before_the_request_belongs_to_nobody() {
    for (unasked, ends) in [(UNASKED, true), (UNASKED, false), ("", true), ("\r\n", false)] {
        let (listener, port) = listener();
        let connection = rested("http", port).await;
        let (mut gateway, _) = listener.accept().expect("accepted");
        gateway.write_all(unasked.as_bytes()).expect("written");
        if ends {
            gateway.shutdown(std::net::Shutdown::Write).expect("shut down");
        }
        let sent = send(connection).await;
        assert!(matches!(sent, Err(Failure::NotSent(..))), "{unasked:?}");
        let mut got = Vec::new();
        let _closed_or_reset = gateway.read_to_end(&mut got);
        assert_eq!(got, b"", "no byte was written");
    }
}

/// Of a gateway with TLS.
fn server_config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|config| {
            config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)
        });
    Arc::new(config.expect("TLS"))
}

/// A gateway with TLS that answers one request. It sends the tickets of its handshake, and then
/// `unasked`, only when it is told to, and tells when that is done.
fn tls_gateway(unasked: &'static str) -> (u16, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (listener, port) = listener();
    let mut tls = ServerConnection::new(server_config()).expect("TLS");
    let (go, told) = mpsc::channel();
    let (tell, done) = mpsc::channel();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("accepted");
        while tls.is_handshaking() {
            if tls.wants_write() {
                tls.write_tls(&mut tcp).expect("written");
            } else {
                tls.read_tls(&mut tcp).expect("read");
                tls.process_new_packets().expect("a handshake");
            }
        }
        told.recv().expect("told");
        tls.writer().write_all(unasked.as_bytes()).expect("taken");
        assert!(tls.wants_write(), "there are tickets");
        let mut stream = StreamOwned::<ServerConnection, TcpStream>::new(tls, tcp);
        stream.flush().expect("written");
        tell.send(()).expect("somebody waits");
        if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
            stream.write_all(ANSWER).expect("written");
        }
    });
    (port, go, done)
}

#[tokio::test]
async fn tickets_of_tls_are_no_answer_that_nobody_asked_for() {
    for (unasked, is_written) in [("", true), (UNASKED, false)] {
        let (port, go, done) = tls_gateway(unasked);
        let connection = rested("https", port).await;
        go.send(()).expect("it waits");
        done.recv().expect("sent");
        match send(connection).await {
            Ok((reply, _)) => assert!(is_written && reply.envelope.is_ok()),
            Err(Failure::NotSent(..)) => assert!(!is_written, "the connection is good"),
            Err(failure) => panic!("{unasked:?}: {failure:?}"),
        }
    }
}

/// A gateway at this IP address that takes two connections. It answers one request on each, and tells before that how
/// the handshake went.
fn gateway_twice(ip: &str) -> (Address, mpsc::Receiver<Option<HandshakeKind>>) {
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (config, (tell, told)) = (server_config(), mpsc::channel());
    thread::spawn(move || {
        for tcp in listener.incoming().take(2) {
            let tls = ServerConnection::new(config.clone()).expect("TLS");
            let mut stream = StreamOwned::new(tls, tcp.expect("accepted"));
            assert_ne!(stream.read(&mut [0; 1024]).expect("read"), 0);
            tell.send(stream.conn.handshake_kind()).expect("somebody waits");
            stream.write_all(ANSWER).expect("written");
        }
    });
    (address(&format!("https://{ip}:{port}/x")), told)
}

/// The cache of the library is as small as it can be, and must still hold what has just been put into it.
#[tokio::test]
async fn a_second_connection_to_a_server_resumes_the_tls_session_of_the_first() {
    for servers in [&["127.0.0.1"][..], &["127.0.0.1", "127.0.0.2"]] {
        let connector = connector(servers.len());
        let gateways: Vec<_> = servers.iter().map(|ip| gateway_twice(ip)).collect();
        for (turn, (address, told)) in gateways.iter().chain(&gateways).enumerate() {
            let sent = send(open(&connector, address).await).await;
            assert!(sent.is_ok(), "{address} of {servers:?}");
            let kind = told.recv().expect("told");
            let is_resumed = kind == Some(HandshakeKind::Resumed);
            assert_eq!(is_resumed, turn >= servers.len(), "{address} of {servers:?}: {kind:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_until_it_is_old_or_was_idle_for_too_long() {
    let (_listener, port) = listener();
    let mut connection = rested("http", port).await;
    let (since, seconds) = (connection.idle_since, Duration::from_secs);
    assert!(!connection.is_old(since + LIFE / 2 - Duration::from_millis(1)));
    assert!(connection.is_old(Instant::now() + LIFE));
    for (said, time, is_usable) in [
        ("", 0, true),
        ("", 9, true),
        ("", 10, false),
        ("", 11, false),
        ("timeout=5", 3, true),
        ("timeout=5", 4, false),
        ("max=0", 0, false),
    ] {
        let header = (HeaderName::from_static("keep-alive"), HeaderValue::from_static(said));
        connection.keep_alive = KeepAlive::read(&HeaderMap::from_iter([header]));
        let idle = connection.idle_time(seconds(10), since + seconds(time));
        assert_eq!(idle, is_usable.then_some(seconds(time)), "{said:?} {time}");
    }
}

#[tokio::test]
async fn a_connection_is_given_back_only_if_its_answer_was_whole_and_the_gateway_keeps_it() {
    for (number, head, next) in [
        ("1.1", "Content-Length: 15", Some(Version::HTTP_11)),
        ("1.1", "Content-Length: 16", None),
        ("1.1", "Content-Length: 15\r\nKeep-Alive: max=0", None),
        ("1.1", "Content-Length: 15\r\nConnection: close", None),
        ("1.0", "Content-Length: 15\r\nConnection: keep-alive", Some(Version::HTTP_10)),
        ("1.0", "Content-Length: 15", None),
    ] {
        let (listener, port) = listener();
        let connection = rested("http", port).await;
        assert_eq!(connection.version(), Version::HTTP_11);
        thread::spawn(move || {
            let (mut tcp, _) = listener.accept().expect("accepted");
            assert_ne!(tcp.read(&mut [0; 1024]).expect("read"), 0);
            let answer = format!("HTTP/{number} 200 OK\r\n{head}\r\n\r\n{{\"retcode\":\"0\"}}");
            tcp.write_all(answer.as_bytes()).expect("written");
        });
        let (reply, given_back) = send(connection).await.expect(head);
        assert!(reply.is_accepted(), "{head}");
        assert_eq!(given_back.map(|next| next.version()), next, "{head}");
    }
}

/// What came just after the connection was looked at would otherwise end a request of which nothing was written.
#[tokio::test]
async fn a_request_is_written_before_anything_is_taken_for_its_answer() {
    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\n\r\n";
    let (listener, port) = listener();
    let mut connection = rested("http", port).await;
    let (mut gateway, _) = listener.accept().expect("accepted");
    gateway.write_all(&[&b"\n"[..], ANSWER].concat()).expect("written");
    // This takes a byte, once tokio knows of it.
    while connection.wire.unusable(false).is_none() {
        tokio::task::yield_now().await;
    }
    let mut exchange = Exchange::begin(connection, Outgoing::new(REQUEST.into(), Bytes::new()));
    let end = exchange.run_for(MINUTE).await;
    assert!(exchange.finish(end).is_ok_and(|(reply, _)| reply.is_accepted()));
    let mut got = Vec::new();
    gateway.read_to_end(&mut got).expect("read");
    assert_eq!(got, REQUEST);
}

/// Many calls of a batch begin in one task. What is put off is written to a connection that the gateway may have closed.
#[tokio::test]
async fn a_request_is_written_at_once_however_much_its_task_has_done() {
    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\n\r\n";
    let (listener, port) = listener();
    let connection = rested("http", port).await;
    let (mut gateway, _) = listener.accept().expect("accepted");
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
    let request = Outgoing::new(REQUEST.into(), Bytes::new());
    let begun = connection.begin(request, Untouched::at_the_start());
    assert!(!coop::has_budget_remaining(), "this is still the same turn of the task");
    let mut got = [0; REQUEST.len()];
    gateway.set_read_timeout(Some(MINUTE)).expect("set");
    gateway.read_exact(&mut got).expect("it is written");
    assert!(begun.is_ok() && got == *REQUEST);
}

/// What is left of the request would be taken for the next one.
#[tokio::test]
async fn an_answer_may_come_before_its_request_has_been_written_and_is_the_last_one() {
    let (listener, port) = listener();
    let connection = rested("http", port).await;
    let (close, closed) = mpsc::channel::<()>();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("accepted");
        assert_ne!(tcp.read(&mut [0; 16]).expect("read"), 0);
        tcp.write_all(ANSWER).expect("written");
        // It reads nothing more.
        let _closed = closed.recv();
    });
    let more_than_any_buffer = Bytes::from(vec![b' '; 32 << 20]);
    let request = Outgoing::new(b"PUT /x HTTP/1.1\r\n\r\n".to_vec(), more_than_any_buffer);
    let begun = connection.begin(request, Untouched::at_the_start());
    let mut exchange = begun.unwrap_or_else(|(_, cause)| panic!("{cause}"));
    let end = exchange.run_for(MINUTE).await;
    let (reply, given_back) = exchange.finish(end).expect("an answer");
    assert!(reply.is_accepted() && given_back.is_none());
    drop(close);
}

/// A gateway with TLS that answers one request, and sends this behind the answer without encrypting it.
fn failing_tls_gateway(behind: &'static [u8]) -> u16 {
    let (listener, port) = listener();
    thread::spawn(move || {
        let tls = ServerConnection::new(server_config()).expect("TLS");
        let mut stream = StreamOwned::new(tls, listener.accept().expect("accepted").0);
        assert_ne!(stream.read(&mut [0; 1024]).expect("read"), 0);
        stream.conn.writer().write_all(ANSWER).expect("taken");
        // At once, so that it is read at once.
        let mut bytes = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut bytes).expect("written");
        }
        bytes.extend_from_slice(behind);
        stream.sock.write_all(&bytes).expect("written");
        let _closed = stream.sock.read(&mut [0; 1024]);
    });
    port
}

/// The answer was there, and says what was done.
#[tokio::test]
async fn an_answer_is_read_although_tls_fails_behind_it_and_is_the_last_one() {
    let no_record = b"HTTP/1.1 408 Request Timeout\r\n\r\n".as_slice();
    let damaged = b"\x17\x03\x03\x00\x20a record that nobody can decrypt";
    for behind in [no_record, damaged] {
        let connection = rested("https", failing_tls_gateway(behind)).await;
        let (reply, given_back) = send(connection).await.expect("an answer");
        assert!(reply.is_accepted() && given_back.is_none(), "{}", behind.escape_ascii());
    }
}

#[tokio::test]
async fn a_connection_that_is_dropped_ends_tls_in_order_and_is_counted_no_more() {
    let (listener, port) = listener();
    let mut config = ServerConfig::clone(&server_config());
    // They would meet a closed connection.
    config.send_tls13_tickets = 0;
    let read = thread::spawn(move || {
        let tls = ServerConnection::new(config.into()).expect("TLS");
        let mut stream = StreamOwned::new(tls, listener.accept().expect("accepted").0);
        stream.read(&mut [0; 1024]).map_err(|error| error.kind())
    });
    let (open, address) = (Gauge::default(), address(&format!("https://127.0.0.1:{port}/x")));
    let connection = Connection::open(connector(1), &address, &open).await.expect("connected");
    assert_eq!(open.get(), 1);
    drop(connection);
    assert_eq!(open.get(), 0);
    assert_eq!(read.join().expect("no panic"), Ok(0), "not an end without close_notify");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_has_a_moment_to_notice_the_end_of_a_connection_that_need_not_be_answered() {
    let short = Duration::from_millis(300);
    for (closes_in, expected) in
        [(Duration::ZERO, NOTICE), (short, short + NOTICE), (LIFE, CLOSE_LIMIT + NOTICE)]
    {
        let begun = Instant::now();
        Closing::of(sleep(closes_in)).noticed().await;
        let took = begun.elapsed();
        assert!(took >= expected && took < expected + short, "{took:?} {closes_in:?}");
    }
}
