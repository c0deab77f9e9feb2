//! Unread answers take little memory, and only for a short time.

use std::time::Duration;

use bytes::Bytes;
use ccgateway_bridge::rpc::proto::{GetSessionRequest, health::HealthCheckRequest};
use ccgateway_test_support::{Clients, Program, within};
use h2::{RecvStream, SendStream, client::SendRequest};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_request::MessageRequest,
};

use crate::raw::{DATA, INITIAL_WINDOW_SIZE, Raw, WINDOW_UPDATE};
use crate::support::{register, start};

const CONNECTIONS: usize = 150;
/// On each.
const STREAMS: usize = 100;
const MIB: u64 = 1024 * 1024;

/// What keeps a call from being cancelled.
type Kept = (http::Response<RecvStream>, SendStream<Bytes>);

/// A connection whose peer takes no bytes of any answer.
async fn connect(program: &Program) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, connection) = builder.handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    client
}

/// Has a call answered, if the connection is open still.
async fn begin(client: &SendRequest<Bytes>, path: &str, message: &[u8]) -> Option<Kept> {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(());
    let mut client = client.clone().ready().await.ok()?;
    let (response, mut body) = client.send_request(request.expect("a request"), false).ok()?;
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let whole = [&[0][..], &length, message].concat();
    body.send_data(whole.into(), true).ok()?;
    // Not before the answer has been made.
    let response = response.await.ok()?;
    Some((response, body))
}

/// A call that needs no gateway.
async fn call(program: &Program) {
    let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    within("a call", Clients::of(program.grpc).sessions.get_session(request))
        .await
        .expect("answered");
}

/// Has many calls made whose answers nobody reads; gives the memory that they took at their peak.
async fn memory_of(program: &Program, path: &str, message: &[u8]) -> u64 {
    let before = program.peak_memory();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = connect(program).await;
        let begun = (0..STREAMS).map(|_| begin(&client, path, message));
        held.push(within("the answers' heads", futures_util::future::join_all(begun)).await);
    }
    call(program).await;
    program.peak_memory().saturating_sub(before) / MIB
}

#[tokio::test]
async fn answers_that_nobody_reads_take_little_memory_and_keep_no_caller_out() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    let path = "/ccgateway.agent.v1.AgentSession/GetSession";
    let taken = memory_of(&program, path, &request.encode_to_vec()).await;
    println!("{} unread answers took {taken} MiB", CONNECTIONS * STREAMS);
    // 32 MiB, or 64 in a burst, of answers that are counted with about twice what small ones take.
    assert!(taken < 40, "{taken} MiB");
    let metrics = program.ask("GET /metrics", "").await.1;
    let closed = "ccgw_connections_turned_away_total{cause=\"unread_answers_full\"} ";
    let closed = metrics.lines().find_map(|line| line.strip_prefix(closed)).expect("counted");
    assert!(closed.parse::<u32>().is_ok_and(|closed| closed > 0), "{closed}");
}

#[tokio::test]
async fn descriptions_that_nobody_reads_take_little_memory() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let symbol = "ccgateway.agent.v1.AgentState".to_owned();
    let message_request = Some(MessageRequest::FileContainingSymbol(symbol));
    let request = ServerReflectionRequest { message_request, ..<_>::default() };
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let taken = memory_of(&program, path, &request.encode_to_vec()).await;
    println!("{} unread descriptions took {taken} MiB", CONNECTIONS * STREAMS);
    // All connections stay, with the room that h2 once had for a hundred streams each.
    assert!(taken < 40, "{taken} MiB");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_costs_its_connection_and_a_slow_reader_keeps_it() {
    let program = start("", &[]).await;
    let path = "/grpc.health.v1.Health/Check";
    let window = [(INITIAL_WINDOW_SIZE, 0)];
    let mut stuck = Raw::connect(program.grpc, &window).await;
    stuck.request(1, path, "60S", &HealthCheckRequest::default()).await;
    let mut slow = Raw::connect(program.grpc, &window).await;
    slow.request(1, path, "60S", &HealthCheckRequest::default()).await;
    let stuck_end = async { while stuck.next().await.is_some() {} };
    // Byte by byte, for longer than the other one is given.
    let slowly = async {
        let mut read = Vec::new();
        for _ in 0..7 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            slow.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).await;
            let data = slow.until(|frame| frame.kind == DATA).await.expect("goes on");
            read.extend(data.payload);
        }
        slow.until(|frame| frame.ends(1)).await.expect("an end");
        read
    };
    let ((), read) = within("both ends", async { tokio::join!(stuck_end, slowly) }).await;
    assert_eq!(read, [0, 0, 0, 0, 2, 8, 1]);
    let metrics = program.ask("GET /metrics", "").await.1;
    let closed = "ccgw_connections_turned_away_total{cause=\"unread_answer_late\"} 1";
    assert!(metrics.contains(closed), "{metrics}");
}
