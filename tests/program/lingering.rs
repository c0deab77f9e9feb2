//! Connections that the bridge ends while their peers are still reading.

use std::net::SocketAddr;

use ccgateway_bridge::rpc::proto::{BatchSetBusyRequest, SignInRequest};
use ccgateway_sim::Interface;
use ccgateway_test_support::{Clients, PASSWORD, Program, within};
use prost::Message as _;
use socket2::SockRef;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};
use tokio_rustls::TlsConnector;

use crate::{
    raw::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE,
        SETTINGS, WINDOW_UPDATE, frame, request_head,
    },
    rude_peers::{Stream, connector, tls_over},
    support::{start, tls},
};

const BATCH_SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/BatchSetBusy";
/// What the peer's side of the connection holds at once, in bytes: little, so that most of an answer
/// waits in the kernel of the bridge.
const RECEIVE_BUFFER: u32 = 4096;
/// The longest segment that the peer takes, in bytes. Those of loopback are longer than its buffer. The
/// kernel then drops some, and sends them again after pauses that soon are longer than a test waits.
const SEGMENT: u32 = 536;
/// The metric of a call that has been answered. Those without a code are there before any call.
const ANSWERED: &str = "grpc_method=\"BatchSetBusy\",grpc_code=\"OK\"} 1";
const WINDOW: u32 = 1024 * 1024;

async fn connect(addr: SocketAddr, over: Option<&TlsConnector>) -> Box<dyn Stream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("set");
    SockRef::from(&socket).set_tcp_mss(SEGMENT).expect("set");
    let stream = socket.connect(addr).await.expect("connected");
    match over {
        Some(tls) => Box::new(within("TLS", tls_over(tls, stream)).await),
        None => Box::new(stream),
    }
}

/// A whole connection's worth of words for one large answer, which says of each agent why it is none
/// and so asks no gateway.
fn request() -> Vec<u8> {
    let agent_ids = (0..200).map(|number| format!("nobody {number}")).collect();
    let message = BatchSetBusyRequest { agent_ids, ..<_>::default() }.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &WINDOW.to_be_bytes()].concat();
    [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &settings),
        frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes()),
        frame(HEADERS, END_HEADERS, 1, &request_head(BATCH_SET_BUSY, "60S")),
        frame(DATA, END_STREAM, 1, &[&[0][..], &length, &message].concat()),
    ]
    .concat()
}

/// Waits until the admin port says these words at this path.
async fn until(program: &Program, path: &str, words: &str) {
    while !program.ask(&format!("GET {path}"), "").await.1.contains(words) {
        tokio::task::yield_now().await;
    }
}

/// What a connection brought: the kinds of its frames, and the message of its answer.
fn taken_apart(mut read: &[u8]) -> (Vec<(u8, u8)>, Vec<u8>) {
    let (mut kinds, mut message) = (Vec::new(), Vec::new());
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = read {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(length <= rest.len(), "cut in a frame: {kinds:?}");
        let (payload, next) = rest.split_at(length);
        kinds.push((*kind, *flags));
        if *kind == DATA {
            message.extend_from_slice(payload);
        }
        read = next;
    }
    (kinds, message)
}

/// Has the connection of a peer with a large answer ended. The peer has read nothing by then, and goes on
/// sending.
async fn check(program: &Program, over: Option<&TlsConnector>, end: impl FnOnce(&Program)) {
    let mut stream = connect(program.grpc, over).await;
    stream.write_all(&request()).await.expect("sent");
    within("an answer", until(program, "/metrics", ANSWERED)).await;
    end(program);
    within("the connection's end", until(program, "/readyz?verbose", "connections: 0 of")).await;
    for _ in 0..50 {
        stream.write_all(&frame(PING, 0, 0, b"going on")).await.expect("not reset");
        stream.flush().await.expect("not reset");
    }
    let mut read = Vec::new();
    let ended = within("the end", stream.read_to_end(&mut read)).await;
    let (kinds, message) = taken_apart(&read);
    let length = message.get(1..5).and_then(|length| length.try_into().ok());
    let length = length.map_or(0, u32::from_be_bytes) as usize;
    assert_eq!(message.len(), 5 + length, "{ended:?} after {} bytes", read.len());
    assert!(message.len() > 4 * RECEIVE_BUFFER as usize, "{}", message.len());
    assert!(kinds.iter().any(|(kind, flags)| *kind == HEADERS && flags & END_STREAM != 0));
    assert!(kinds.iter().any(|(kind, _)| *kind == GOAWAY));
    assert!(ended.is_ok(), "ended, and not cut: {ended:?}");
}

/// The program's settings, and what speaks TLS with it.
fn over_tls(files: &TempDir) -> (String, TlsConnector) {
    let (own, ca) = tls(files);
    (own, connector(&ca))
}

const AGED: &str = "server.connections = { max_age = \"1s\", max_age_grace = \"1ms\" }";
const DRAIN: &str = "server.drain = { delay = \"0s\", timeout = \"25s\" }";

#[tokio::test]
async fn a_slow_reader_gets_its_answer_whole_at_the_age_of_its_connection() {
    let program = start(AGED, &[]).await;
    check(&program, None, |_| {}).await;
}

#[tokio::test]
async fn a_slow_reader_gets_its_answer_whole_at_the_age_of_its_connection_over_tls() {
    let files = TempDir::new().expect("a folder");
    let (own, connector) = over_tls(&files);
    let program = start(&format!("{AGED}\n{own}"), &[]).await;
    check(&program, Some(&connector), |_| {}).await;
}

#[tokio::test]
async fn a_slow_reader_gets_its_answer_whole_in_a_drain() {
    let files = TempDir::new().expect("a folder");
    let (own, connector) = over_tls(&files);
    for (settings, over) in [(String::new(), None), (own, Some(&connector))] {
        let program = start(&format!("{DRAIN}\n{settings}"), &[]).await;
        check(&program, over, |program| program.signal("-TERM")).await;
        let (code, printed) = program.ended().await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("drained: every call had its answer"), "{printed}");
    }
}

#[tokio::test]
async fn a_slow_reader_gets_its_answer_whole_when_its_place_is_wanted() {
    let settings = "server.connections = { max = 1, handshake_timeout = \"25s\" }";
    let program = start(settings, &[]).await;
    let mut stream = connect(program.grpc, None).await;
    stream.write_all(&request()).await.expect("sent");
    within("an answer", until(&program, "/metrics", ANSWERED)).await;
    let mut newcomer = connect(program.grpc, None).await;
    newcomer.write_all(&request()).await.expect("sent");
    let mut head = [0; 9];
    within("a place for a newcomer", newcomer.read_exact(&mut head)).await.expect("served");
    for _ in 0..50 {
        stream.write_all(&frame(PING, 0, 0, b"going on")).await.expect("not reset");
    }
    let mut read = Vec::new();
    within("the end", stream.read_to_end(&mut read)).await.expect("not cut");
    let (kinds, _) = taken_apart(&read);
    assert!(kinds.iter().any(|(kind, flags)| *kind == HEADERS && flags & END_STREAM != 0));
}

/// A connection that has a large answer, of which its peer reads nothing.
async fn unread(program: &Program) -> Box<dyn Stream> {
    let mut stream = connect(program.grpc, None).await;
    stream.write_all(&request()).await.expect("sent");
    stream
}

#[tokio::test]
async fn an_address_has_no_more_lingering_connections_than_it_may_have_served() {
    let aged = "max_age = \"1s\", max_age_grace = \"1ms\"";
    let settings = format!("server.connections = {{ {aged}, max = 8, per_peer = 1 }}");
    let program = start(&settings, &[]).await;
    let taken = "ccgw_server_places_in_use{share=\"lingering_connections\"} 1";
    let _first = unread(&program).await;
    within("one that lingers", until(&program, "/metrics", taken)).await;
    within("no other", until(&program, "/readyz?verbose", "connections: 0 of 8")).await;
    let _second = unread(&program).await;
    let displaced = "ccgw_connections_turned_away_total{cause=\"lingering_full\"} 1";
    within("the first gives way", until(&program, "/metrics", displaced)).await;
    within("the second stays", until(&program, "/metrics", taken)).await;
    within("told", until(&program, "/readyz?verbose", "lingering_connections: 1 of 8")).await;
}

#[tokio::test]
async fn agents_are_signed_out_in_a_drain_while_a_peer_is_still_reading() {
    let drain = "server.drain = { delay = \"0s\", timeout = \"25s\", sessions = \"sign-out\" }";
    let program = start(drain, &[]).await;
    let (agent_id, password) = ("1001".into(), Some(PASSWORD.into()));
    let request = SignInRequest { agent_id, password, ..<_>::default() };
    Clients::of(program.grpc).sessions.sign_in(request).await.expect("signed in");
    let _unread = unread(&program).await;
    within("an answer", until(&program, "/metrics", ANSWERED)).await;
    // So that the drain gets no further than this.
    program.gateway.freeze();
    program.signal("-TERM");
    let signs_out = || {
        let journal = program.gateway.journal();
        journal.iter().any(|entry| entry.interface == Some(Interface::SignOut))
    };
    let signing_out = async {
        while !signs_out() {
            tokio::task::yield_now().await;
        }
    };
    within("a sign-out", signing_out).await;
    within("a peer", until(&program, "/readyz?verbose", "lingering_connections: 1 of")).await;
    program.gateway.thaw();
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
}
