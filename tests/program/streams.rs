//! Streams that callers keep open: they keep nobody out, and end when they should.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use ccgateway_bridge::rpc::proto::{
    WatchEventsRequest,
    health::{HealthCheckRequest, health_client::HealthClient},
};
use ccgateway_test_support::{Program, origin, within};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_types::StatusExt as _;

use crate::raw::{DATA, END_STREAM, Frame, HEADERS, INITIAL_WINDOW_SIZE, Raw, WINDOW_UPDATE};
use crate::{request::connect, support::start};

const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
const WATCH_EVENTS: &str = "/ccgateway.agent.v1.AgentEvents/WatchEvents";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const NO_WINDOW: &[(u16, u32)] = &[(INITIAL_WINDOW_SIZE, 0)];
/// Places to watch events, by default.
const WATCHES: u32 = 64;

/// Waits for the first frame of an answer.
async fn head(raw: &mut Raw, stream: u32) -> Frame {
    let head = raw.until(|frame| frame.kind == HEADERS && frame.stream == stream);
    within("an answer's head", head).await.expect("served")
}

/// Has a newcomer ask for the health of the program and read the answer.
async fn newcomer(program: &Program, what: &str) {
    let mut raw = Raw::connect(program.grpc, &[]).await;
    raw.request(1, CHECK_HEALTH, "30S", &HealthCheckRequest::default()).await;
    let answered = within(what, raw.until(|frame| frame.ends(1))).await;
    assert!(answered.is_some(), "{what}: sent away");
}

#[tokio::test]
async fn a_server_full_of_connections_that_wait_for_nothing_lets_callers_in() {
    let health = HealthCheckRequest::default();
    let reflection = ServerReflectionRequest::default();
    for (what, settings, path, message) in [
        ("health watches", &[][..], WATCH_HEALTH, health.encode_to_vec()),
        ("health watches that are not read", NO_WINDOW, WATCH_HEALTH, health.encode_to_vec()),
        ("reflection", &[], REFLECT, reflection.encode_to_vec()),
        ("answers that are not read", NO_WINDOW, CHECK_HEALTH, health.encode_to_vec()),
    ] {
        let limits = "server.connections = { max = 8, handshake_timeout = \"8s\" }";
        let program = start(limits, &[]).await;
        let mut guests = Vec::new();
        for _ in 0..8 {
            let mut raw = Raw::connect(program.grpc, settings).await;
            // A stream of requests is left open.
            let end = if path == REFLECT { 0 } else { END_STREAM };
            raw.begin(1, path, "1H").await;
            raw.message(1, end, &message).await;
            head(&mut raw, 1).await;
            guests.push(raw);
        }
        newcomer(&program, what).await;
    }
}

#[tokio::test]
async fn connections_with_a_health_watch_end_without_a_cut() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1h\" }";
    let program = start(age, &[]).await;
    let watch = async {
        let channel = ccgateway_bridge::client::channel();
        let mut client = HealthClient::with_origin(channel, origin(program.grpc));
        let watch = client.watch(HealthCheckRequest::default()).await.expect("watching");
        let mut watch = watch.into_inner();
        assert!(watch.message().await.expect("readable").is_some());
        watch.message().await
    };
    assert!(within("the end", watch).await.expect("ended, not cut").is_none());
}

#[tokio::test]
async fn health_watches_are_as_many_as_connections() {
    let limits = "server.connections = { max = 8 }";
    let program = start(limits, &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    for stream in (1..=41).step_by(2) {
        raw.request(stream, WATCH_HEALTH, "1H", &HealthCheckRequest::default()).await;
    }
    for _ in 0..13 {
        let is_end = |frame: &Frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0;
        within("an end", raw.until(is_end)).await.expect("goes on");
    }
    let metrics = program.ask("GET /metrics", "").await.1;
    assert!(metrics.contains("ccgw_server_places_in_use{share=\"health_watches\"} 8"), "{metrics}");
}

#[tokio::test]
async fn one_address_has_no_more_than_half_of_the_reflection_streams() {
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    for stream in (1..16).step_by(2) {
        raw.begin(stream, REFLECT, "1H").await;
        let head = head(&mut raw, stream).await;
        assert_eq!(head.flags & END_STREAM, 0);
    }
    raw.begin(17, REFLECT, "1H").await;
    assert!(head(&mut raw, 17).await.ends(17), "refused");
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let mut other = Raw::connect_from(other, program.grpc).await;
    other.begin(1, REFLECT, "1H").await;
    assert!(!head(&mut other, 1).await.ends(1), "another address");
    let refused = program.printed("SERVER_OVERLOADED").await;
    assert!(refused.contains("RESOURCE_EXHAUSTED"), "{refused}");
    drop(raw);
    let free = async {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        for stream in (1..).step_by(2) {
            raw.begin(stream, REFLECT, "1H").await;
            if !head(&mut raw, stream).await.ends(stream) {
                return;
            }
            // It would count among the connection's streams for a second.
            raw.send(DATA, END_STREAM, stream, &[]).await;
        }
    };
    within("a free place", free).await;
}

/// Each holds a place among the unfinished requests, since its request may go on.
#[tokio::test]
async fn a_reflection_stream_that_has_to_make_room_is_told_why() {
    let program = start("server.limits.calls = 2", &[]).await;
    let client = connect(&program).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (open, response) = begin(&client, REFLECT, "1H").await;
        streams.push((open, response.await.expect("served").into_body()));
    }
    let (_open, oldest) = streams.swap_remove(0);
    let status = within("the end of the oldest", end(oldest)).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(info.reason, "SERVER_OVERLOADED");
    assert_eq!(info.metadata["share"], "unfinished_requests");
    assert_eq!(info.metadata["limit"], "2");
    program.printed("SERVER_OVERLOADED").await;
}

/// Takes every place to watch events; no more than `window` bytes of each are read.
async fn watch_all(program: &Program, window: u32, timeout: &str) -> Raw {
    let mut raw = Raw::connect(program.grpc, &[(INITIAL_WINDOW_SIZE, window)]).await;
    for number in 0..WATCHES {
        let stream = 2 * number + 1;
        raw.request(stream, WATCH_EVENTS, timeout, &WatchEventsRequest::default()).await;
        let head = head(&mut raw, stream).await;
        assert_eq!(head.flags & END_STREAM, 0, "there is a place");
    }
    raw
}

/// Whether somebody at this address gets a place to watch events.
async fn may_watch(program: &Program, host: u8) -> bool {
    let mut raw = Raw::connect_from(([127, 0, 0, host], 0).into(), program.grpc).await;
    raw.request(1, WATCH_EVENTS, "1H", &WatchEventsRequest::default()).await;
    let answer = raw.until(|frame| frame.kind == DATA || frame.ends(1));
    within("an answer", answer).await.expect("served").kind == DATA
}

#[tokio::test]
async fn one_address_cannot_take_all_places_to_watch_events() {
    let program = start("", &[]).await;
    let mut first = watch_all(&program, 0, "1H").await;
    assert!(!may_watch(&program, 1).await, "all places are taken");
    assert!(may_watch(&program, 2).await, "of an address that has too many");
    // The others of its connection stay, although the end of the one that had to go is not read for
    // longer than a connection without calls is kept for it.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (window, newest) = (1024_u32.to_be_bytes(), 2 * WATCHES - 1);
    first.send(WINDOW_UPDATE, 0, 1, &window).await;
    let event = first.until(|frame| frame.kind == DATA && frame.stream == 1);
    within("an event", event).await.expect("goes on");
    first.send(WINDOW_UPDATE, 0, newest, &window).await;
    within("its end", first.until(|frame| frame.ends(newest))).await.expect("told");
}

#[tokio::test]
async fn a_watch_whose_end_is_not_read_gives_its_place_back() {
    // With a window of one byte h2 takes the rest from hyper, which then asks for the end.
    for window in [0, 1] {
        let program = start("", &[]).await;
        let mut stuck = watch_all(&program, window, "2S").await;
        let free = async {
            while !may_watch(&program, 1).await {
                tokio::task::yield_now().await;
            }
        };
        within("a free place", free).await;
        program.printed("\"DEADLINE_EXCEEDED\"").await;
        within("the end of who does not read", stuck.until(|_| false)).await;
        let metrics = program.ask("GET /metrics", "").await.1;
        let closed = "ccgw_connections_turned_away_total{cause=\"unread_answer_late\"} ";
        let closed = metrics.lines().find_map(|line| line.strip_prefix(closed));
        // A connection that asked for a place may have been late to read, too.
        assert!(closed.is_some_and(|count| count != "0"), "{window}: {metrics}");
    }
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_with_the_age_of_its_connection() {
    let age = "server.connections = { max_age = \"2s\", max_age_grace = \"1h\" }";
    let program = start(age, &[]).await;
    let mut stuck = watch_all(&program, 0, "1H").await;
    within("its end", stuck.until(|_| false)).await;
}

/// Begins a request that is to have a message yet.
async fn begin(
    client: &SendRequest<Bytes>,
    path: &str,
    timeout: &str,
) -> (SendStream<Bytes>, ResponseFuture) {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(());
    let mut client = client.clone().ready().await.expect("open");
    let (response, body) = client.send_request(request.expect("a request"), false).expect("sent");
    (body, response)
}

/// Begins to watch events, and reads nothing of them.
async fn watch(client: &SendRequest<Bytes>, timeout: &str) -> RecvStream {
    let (mut body, response) = begin(client, WATCH_EVENTS, timeout).await;
    body.send_data(Bytes::from_static(&[0; 5]), true).expect("sent");
    response.await.expect("served").into_body()
}

/// Reads a stream to its end.
async fn end(mut body: RecvStream) -> Status {
    while let Some(data) = body.data().await {
        drop(data.expect("not cut"));
    }
    let trailers = body.trailers().await.expect("not cut").expect("trailers");
    Status::from_header_map(&trailers).expect("a status")
}

/// How the newest of many watches ends for a peer that reads nothing until `over`.
async fn late_end(
    program: &Program,
    watches: u32,
    timeout: &str,
    over: impl Future<Output = ()>,
) -> Status {
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (client, mut connection) = builder.handshake(stream).await.expect("a handshake");
    let watching = async {
        let mut held = Vec::new();
        for _ in 0..watches {
            held.push(watch(&client, timeout).await);
        }
        over.await;
        held
    };
    let mut held = tokio::select! {
        ended = &mut connection => panic!("cut: {ended:?}"),
        held = watching => held,
    };
    connection.set_initial_window_size(65_535).expect("a window");
    let newest = held.pop().expect("one at least");
    let mut status = std::pin::pin!(end(newest));
    tokio::select! {
        biased;
        status = &mut status => status,
        // Read to its end, with what the stream is still to be told.
        _ended = connection => status.await,
    }
}

#[tokio::test]
async fn a_watcher_that_reads_on_after_the_end_hears_the_contracts_reason() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1h\" }";
    for (settings, watches, timeout, code, reason) in [
        ("", 1, "2S", Code::DeadlineExceeded, "DEADLINE"),
        (age, 1, "1H", Code::Unavailable, "CONNECTION_AGED"),
        ("", WATCHES, "1H", Code::ResourceExhausted, "TENANT_LIMIT_REACHED"),
    ] {
        let program = start(settings, &[]).await;
        let over = async {
            if reason == "TENANT_LIMIT_REACHED" {
                assert!(may_watch(&program, 2).await, "of an address that has too many");
            }
            program.printed(&format!("\"ccgw.reason\":\"{reason}\"")).await;
        };
        let status = within(reason, Box::pin(late_end(&program, watches, timeout, over))).await;
        assert_eq!(status.code(), code, "{status:?}");
        let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
        assert_eq!(info.reason, reason);
    }
}
