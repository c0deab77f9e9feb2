use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use futures_util::poll;
use tokio::time::{advance, pause, resume};

use super::*;
use crate::{
    call::{Cutoff, Stage},
    config::{ClientTls, Trust},
    gateway::{AGENT_STATUS, Command},
    id::AgentId,
    resolver::Resolver,
    telemetry::trace::Trace,
    tls,
};

const LONG: Duration = Duration::from_secs(60 * 60);
/// A connection is young after this time, and old after three times as long.
const STEP: Duration = Duration::from_secs(2 * 60);

/// A gateway that takes so many connections and no further ones.
struct Gateway {
    endpoint: Endpoint,
    /// The numbers of the connections that have ended.
    ended: mpsc::Receiver<usize>,
}

impl Gateway {
    /// With the thread that ends when it takes no further connections. As long as there is one, the kernel gives the port
    /// to nobody else.
    fn of(connections: usize) -> (Self, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (tell, ended) = mpsc::channel();
        let accepting = thread::spawn(move || {
            for number in 0..connections {
                let (tcp, _) = listener.accept().expect("accepted");
                let tell = tell.clone();
                thread::spawn(move || {
                    answer_all(tcp);
                    // The test may be over.
                    let _unheard = tell.send(number);
                });
            }
        });
        (Self { endpoint: endpoint(addr, LONG), ended }, accepting)
    }

    async fn ask(&self) {
        assert!(ask(&self.endpoint).await.is_ok_and(|reply| reply.is_accepted()));
    }

    /// Asks until the first connection is old, often enough that it is never idle for long.
    async fn ask_until_it_is_old(&self) {
        for _ in 0..3 {
            pause();
            advance(STEP).await;
            resume();
            self.ask().await;
        }
    }
}

/// For a gateway at this address, whose connections may be idle for so long.
fn endpoint(addr: SocketAddr, timeout: Duration) -> Endpoint {
    let any = ClientTls { trust: Trust::Anything, client: None };
    let tls = tls::client_config(&any).expect("TLS");
    let connector = Connector::new(tls, LONG, &any.trust, Resolver::default());
    let url = format!("http://{addr}/x").parse().expect("a URL");
    Endpoint::new(&url, connector, timeout).expect("a host")
}

/// The same, with a listener that the gateway can use.
fn listening(timeout: Duration) -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    (listener, endpoint(addr, timeout))
}

async fn ask(endpoint: &Endpoint) -> Result<Reply, Failure> {
    let command = Command::plain(&AGENT_STATUS);
    let request = Request {
        command: &command,
        agent: AgentId::lowest(&(1..=1)),
        session: None,
        body: None,
        stage: Stage::Answer,
        trace: Trace::default(),
    };
    let mut caller_wait = CallerWait::of_bridge(Cutoff::default());
    endpoint.exchange(&request, LONG, &mut caller_wait, Untouched::at_the_start()).await
}

async fn open(endpoint: &Endpoint) -> Connection {
    let Endpoint { connector, address, open, .. } = endpoint;
    Connection::open(connector.clone(), address, open).await.expect("connected")
}

/// Keeps a connection that has just become idle. Returns how many are kept then.
fn keep(endpoint: &Endpoint, mut connection: Connection) -> usize {
    connection.idle_since = Instant::now();
    endpoint.idle.keep(Some(connection));
    endpoint.idle.kept().connections.len()
}

/// Reads a request and answers it. `false` if the connection has ended.
fn answer(tcp: &mut TcpStream) -> bool {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(read @ 1..) = tcp.read(&mut buffer) else { return false };
        head.extend_from_slice(&buffer[..read]);
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"retcode\":\"0\"}";
    tcp.write_all(answer).expect("written");
    true
}

fn answer_all(mut tcp: TcpStream) {
    while answer(&mut tcp) {}
}

/// Otherwise a gateway that moves to another address by DNS would never be followed by a busy bridge.
#[tokio::test]
async fn an_old_connection_is_replaced_by_a_new_one_however_busy_it_is() {
    let (gateway, _accepting) = Gateway::of(2);
    gateway.ask().await;
    gateway.ask_until_it_is_old().await;
    // The task that replaces it has to run.
    let ended =
        tokio::task::spawn_blocking(move || gateway.ended.recv_timeout(Duration::from_secs(20)));
    assert_eq!(ended.await.expect("no panic"), Ok(0));
}

/// It would look as if the address were dead, and all calls would go to another one.
#[tokio::test]
async fn an_old_connection_goes_on_where_no_new_one_can_be_opened() {
    let (gateway, accepting) = Gateway::of(1);
    gateway.ask().await;
    accepting.join().expect("it takes no further ones");
    gateway.ask_until_it_is_old().await;
    gateway.ask_until_it_is_old().await;
}

#[tokio::test]
async fn a_young_connection_carries_one_request_after_the_other_and_is_not_replaced() {
    let (mut gateway, _accepting) = Gateway::of(1);
    let open = Gauge::default();
    gateway.endpoint = gateway.endpoint.counted(open.clone());
    for _ in 0..2 {
        gateway.ask().await;
        assert_eq!((open.get(), gateway.endpoint.idle.kept().connections.len()), (1, 1));
    }
    assert!(gateway.endpoint.idle.may_replace(1), "nothing has been replaced");
}

/// The runtime of the test has one thread, which does not look at sockets between the end and the request.
#[tokio::test]
async fn a_connection_that_ends_just_before_it_is_used_again_costs_no_request() {
    let (listener, endpoint) = listening(LONG);
    let ((end, told), (tell, ended)) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        let (mut first, _) = listener.accept().expect("accepted");
        assert!(answer(&mut first));
        told.recv().expect("told");
        drop(first);
        tell.send(()).expect("somebody waits");
        answer_all(listener.accept().expect("accepted").0);
    });
    assert!(ask(&endpoint).await.is_ok_and(|reply| reply.is_accepted()));
    end.send(()).expect("it waits");
    ended.recv().expect("ended");
    assert!(ask(&endpoint).await.is_ok_and(|reply| reply.is_accepted()));
}

/// Otherwise a gateway that takes connections and ends them would be asked for ever.
#[tokio::test]
async fn a_new_connection_that_ends_before_it_is_used_is_not_followed_by_another() {
    let (listener, endpoint) = listening(LONG);
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || {
        drop(listener.accept().expect("accepted"));
        tell.send(()).expect("somebody waits");
        answer_all(listener.accept().expect("accepted").0);
    });
    let mut asking = Box::pin(ask(&endpoint));
    assert!(poll!(&mut asking).is_pending(), "it connects");
    ended.recv_timeout(Duration::from_secs(20)).expect("ended");
    assert!(matches!(asking.await, Err(Failure::NotSent(..))));
}

#[tokio::test]
async fn an_old_connection_is_kept_unless_there_is_a_young_one() {
    let (_listener, endpoint) = listening(LONG);
    let old = [open(&endpoint).await, open(&endpoint).await, open(&endpoint).await];
    pause();
    advance(LIFE).await;
    resume();
    let young = [open(&endpoint).await, open(&endpoint).await];
    let [first, second, third] = old;
    let kept = [first, second].into_iter().chain(young).chain([third]);
    let counts: Vec<_> = kept.map(|connection| keep(&endpoint, connection)).collect();
    assert_eq!(counts, [1, 2, 3, 4, 4]);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_though_no_call_comes() {
    const SECOND: Duration = Duration::from_secs(1);
    let (_listener, endpoint) = listening(10 * SECOND);
    let connection = open(&endpoint).await;
    pause();
    assert_eq!(keep(&endpoint, connection), 1);
    for _ in 0..9 {
        advance(SECOND).await;
    }
    assert_eq!(endpoint.idle.kept().connections.len(), 1, "not too early");
    // Half of the time later at most.
    for _ in 9..17 {
        advance(SECOND).await;
    }
    assert_eq!(endpoint.idle.kept().connections.len(), 0);
}

/// It would count as open, and take a file, for as long as a good one may be idle.
#[tokio::test]
async fn a_connection_that_the_gateway_has_closed_is_closed_soon_though_no_call_comes() {
    let (listener, endpoint) = listening(LONG);
    let good = open(&endpoint).await;
    let _good = listener.accept().expect("accepted");
    let mut closed = Vec::new();
    // More than tokio tells a task of in one go.
    for _ in 0..200 {
        closed.push(open(&endpoint).await);
        drop(listener.accept().expect("accepted"));
    }
    pause();
    for connection in closed.into_iter().chain([good]) {
        keep(&endpoint, connection);
    }
    assert_eq!((endpoint.idle.kept().connections.len(), endpoint.open.get()), (201, 201));
    sleep(LOOK_MAX * 3 / 2).await;
    assert_eq!((endpoint.idle.kept().connections.len(), endpoint.open.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_replaced_one_a_second_and_faster_where_there_are_hundreds() {
    let step = Duration::from_millis(1);
    for (open, pause) in [(0, 1000), (99, 1000), (100, 500), (399, 250), (900, 100)] {
        let next_replacement = Mutex::new(Instant::now());
        let idle = Idle { kept: Mutex::default(), timeout: LONG, next_replacement };
        assert!(idle.may_replace(open), "the first one at once");
        assert!(!idle.may_replace(open), "{open}");
        advance(step * (pause - 1)).await;
        assert!(!idle.may_replace(open), "{open}");
        advance(step).await;
        assert!(idle.may_replace(open), "{open}");
    }
}

/// Of thousands of tenants, most are idle.
#[tokio::test]
async fn a_task_closes_idle_connections_only_while_there_are_any() {
    let (_listener, endpoint) = listening(LONG);
    let [first, second, third] =
        [open(&endpoint).await, open(&endpoint).await, open(&endpoint).await];
    let kept_and_has_task = || {
        let kept = endpoint.idle.kept();
        (kept.connections.len(), kept.closing.is_some())
    };
    pause();
    assert_eq!(kept_and_has_task(), (0, false));
    keep(&endpoint, first);
    sleep(STEP).await;
    keep(&endpoint, second);
    assert_eq!(kept_and_has_task(), (2, true));
    // Each is closed between its `LIFE` and one look later.
    sleep((LIFE + LOOK_MAX * 3 / 2).saturating_sub(STEP)).await;
    assert_eq!(kept_and_has_task(), (1, true), "the first is closed, and the task goes on");
    sleep(STEP).await;
    assert_eq!(kept_and_has_task(), (0, false), "both are closed");
    keep(&endpoint, third);
    assert_eq!(kept_and_has_task(), (1, true), "it begins again");
    sleep(LIFE + LOOK_MAX * 3 / 2).await;
    assert_eq!(kept_and_has_task(), (0, false));
}
