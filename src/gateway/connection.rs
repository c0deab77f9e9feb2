//! One connection to a gateway.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use rand::RngExt as _;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    address::Address,
    bounded_reply::{BoundedReply, End},
    connector::Connector,
    heads::MAX_HEAD_BYTES,
    keep_alive::KeepAlive,
    reply::Reply,
    socket::Upcoming,
    transport_cause::root_cause,
    wire::Wire,
};
use crate::call::Untouched;

/// A connection to a gateway. It carries one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The task that drives the connection. It ends when the connection has been closed.
    driver: JoinHandle<()>,
    upcoming: Arc<Upcoming>,
    keep_alive: KeepAlive,
    /// From when on it is old.
    old_from: Instant,
    /// Since when the connection has been idle.
    pub(super) idle_since: Instant,
    /// For how long it was idle before its next request. `None` if it is new: only one that was idle
    /// may have been closed for that by the gateway.
    pub(super) rest: Option<Duration>,
}

/// The result of sending a request.
#[expect(
    clippy::large_enum_variant,
    reason = "the usual variant is the large one; a box costs more"
)]
pub(super) enum Sent {
    /// It was answered. The connection is given back if it can carry another request.
    Answered(Reply, Option<Connection>),
    /// Not a byte of it was written, since the connection was closed before.
    Unwritten(Untouched, String),
    /// It was written, at least in part, and there is no complete answer.
    Unanswered(String),
    /// As `Unanswered`, since the time limit passed. The connection is being closed.
    Late(String, Closing),
}

/// A connection that is being closed while the gateway may still work on its request.
#[derive(Debug)]
pub struct Closing(JoinHandle<()>);

/// After this time, less up to a half at random, a connection is old, and replaced by a new one. A busy one would otherwise
/// live for ever, and a gateway that moves by DNS would not be followed.
pub(super) const LIFE: Duration = Duration::from_secs(5 * 60);
/// How long to wait for a connection to close whose peer does not answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long a gateway may take to notice that a connection was closed, and to stop its work.
const NOTICE: Duration = Duration::from_millis(100);

impl Connection {
    /// Opens a connection, within the connector's time limit. `open` counts it until it ends.
    pub(super) async fn open(
        connector: Connector,
        address: &Address,
        open: &Gauge,
    ) -> Result<Self, String> {
        let stream = connector.connect(address.uri().clone()).await?;
        let wire = Wire::new(stream);
        let upcoming = wire.upcoming().clone();
        let mut builder = http1::Builder::new();
        // The header is documented as "Guid", and clients of some gateways depend on its case.
        builder.title_case_headers(true);
        // `Heads` has a lower limit, and says what is wrong.
        builder.max_buf_size(2 * MAX_HEAD_BYTES);
        // Headers that the bridge does not use may be written in any way.
        builder
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        let (sender, driver) =
            builder.handshake(TokioIo::new(wire)).await.map_err(|e| root_cause(&e))?;
        // The driver ends when either side closes the connection. Dropping the sender closes it.
        let open = open.clone();
        open.inc();
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a gateway ended");
            }
            open.dec();
        });
        let (keep_alive, idle_since) = (KeepAlive::default(), Instant::now());
        let old_from = old_after(LIFE);
        Ok(Self { sender, driver, upcoming, keep_alive, old_from, idle_since, rest: None })
    }

    /// Waits until the previous answer has been handled. `None` if the connection was closed.
    pub(super) async fn ready(mut self) -> Option<Self> {
        self.sender.ready().await.is_ok().then_some(self)
    }

    /// The connection for another request after this rest.
    pub(super) fn after(self, rest: Duration) -> Self {
        Self { rest: Some(rest), ..self }
    }

    /// Whether it is to be replaced.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        now >= self.old_from
    }

    /// For how long the connection has been idle. `None` if it can carry no further request, since it
    /// is closed, or has been idle for `limit` or for as long as the gateway keeps it.
    pub(super) fn idle_time(&self, limit: Duration, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.idle_since);
        let is_usable = time < limit && !self.sender.is_closed() && self.keep_alive.allows(time);
        is_usable.then_some(time)
    }

    /// Sends a request and reads its complete answer, all within `limit`.
    pub(super) async fn send(
        self,
        request: Request<Full<Bytes>>,
        limit: Duration,
        untouched: Untouched,
    ) -> Sent {
        let Self { mut sender, driver, upcoming, keep_alive, old_from, rest, .. } = self;
        upcoming.announce(rest.is_some());
        let (sent, mut begun) = (Instant::now(), None);
        let answer = async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut failed) => {
                    let unwritten = failed.take_message().is_some();
                    let cause = root_cause(failed.error());
                    return Err(if unwritten {
                        Sent::Unwritten(untouched, cause)
                    } else {
                        Sent::Unanswered(cause)
                    });
                }
            };
            let (head, body) = response.into_parts();
            Ok(begun.insert(BoundedReply::new(head)).read(body).await)
        };
        let end = match timeout(limit, answer).await {
            Ok(Ok(end)) => end,
            Ok(Err(sent)) => return sent,
            Err(_elapsed) => End::Late,
        };
        if let Some(mut reply) = begun.and_then(|begun| begun.into_reply(&end)) {
            let keep_alive = keep_alive.after(reply.keep_alive);
            // The rest of an answer that was not read to its end would be taken for the next answer.
            let is_reusable = reply.is_whole && keep_alive.allows(Duration::ZERO);
            let idle_since = Instant::now();
            reply.exchanged = Some([sent, idle_since]);
            let next =
                || Self { sender, driver, upcoming, keep_alive, old_from, idle_since, rest: None };
            return Sent::Answered(reply, is_reusable.then(next));
        }
        match end {
            // The sender is dropped here, so the driver closes the connection.
            End::Late => {
                let limit = humantime::format_duration(limit);
                Sent::Late(format!("nothing within {limit}"), Closing(driver))
            }
            end => Sent::Unanswered(end.cause()),
        }
    }
}

impl Closing {
    /// A closing connection whose end is that of a task, for tests.
    #[cfg(test)]
    pub(crate) fn of(driver: JoinHandle<()>) -> Self {
        Self(driver)
    }

    /// Waits until the connection is closed and the gateway has had time to notice.
    pub async fn noticed(self) {
        let _closed = timeout(CLOSE_LIMIT, self.0).await;
        sleep(NOTICE).await;
    }
}

/// When a connection is old that is so after this time at the latest. Many may have been opened at once.
fn old_after(time: Duration) -> Instant {
    Instant::now() + time.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use http::{HeaderMap, HeaderName, HeaderValue};
    use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};

    use super::*;
    use crate::{
        config::{ClientTls, Trust},
        resolver::Resolver,
        tls::{self, SystemRoots},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    /// A connection that has been idle, to a gateway at this port.
    async fn rested(scheme: &str, port: u16) -> Connection {
        let address = address(&format!("{scheme}://127.0.0.1:{port}/x"));
        let connection = open(&connector(1), &address).await.ready().await.expect("open");
        Connection { rest: Some(Duration::ZERO), ..connection }
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

    async fn send(connection: Connection) -> Sent {
        let request = Request::new(Full::default());
        connection.send(request, MINUTE, Untouched::at_the_start()).await
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
            assert!(matches!(sent, Sent::Unwritten(..)), "{unasked:?}");
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
                Sent::Answered(reply, _) => assert!(is_written && reply.envelope.is_ok()),
                Sent::Unwritten(..) => assert!(!is_written, "the connection is good"),
                Sent::Unanswered(cause) | Sent::Late(cause, _) => panic!("{unasked:?}: {cause}"),
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
                assert!(matches!(sent, Sent::Answered(..)), "{address} of {servers:?}");
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
        for (head, is_given_back) in [
            ("Content-Length: 15", true),
            ("Content-Length: 16", false),
            ("Content-Length: 15\r\nKeep-Alive: max=0", false),
        ] {
            let (listener, port) = listener();
            let connection = rested("http", port).await;
            thread::spawn(move || {
                let (mut tcp, _) = listener.accept().expect("accepted");
                assert_ne!(tcp.read(&mut [0; 1024]).expect("read"), 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{{\"retcode\":\"0\"}}");
                tcp.write_all(answer.as_bytes()).expect("written");
            });
            let Sent::Answered(reply, next) = send(connection).await else { panic!("{head}") };
            assert!(reply.is_accepted(), "{head}");
            assert_eq!(next.is_some(), is_given_back, "{head}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_has_a_moment_to_notice_the_end_of_a_connection_that_need_not_be_answered() {
        let short = Duration::from_millis(300);
        for (closes_in, expected) in
            [(Duration::ZERO, NOTICE), (short, short + NOTICE), (LIFE, CLOSE_LIMIT + NOTICE)]
        {
            let begun = Instant::now();
            Closing::of(tokio::spawn(sleep(closes_in))).noticed().await;
            let took = begun.elapsed();
            assert!(took >= expected && took < expected + short, "{took:?} {closes_in:?}");
        }
    }
}
