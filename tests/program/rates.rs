//! How many requests and resets a connection may bring a second.

use std::{ops::Range, time::Duration};

use ccgateway_bridge::{
    client,
    rpc::proto::{GetSessionRequest, agent_session_client::AgentSessionClient},
};
use ccgateway_test_support::{Program, origin, until_asked, within};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    raw::{
        ACK, END_HEADERS, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw, frame, request_head,
    },
    support::{register, start, turned_away},
};

const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";
/// The default of `http2.max_concurrent_streams`.
const STREAMS: u32 = 100;

/// Begins these calls and cancels each at once.
async fn begin_and_cancel(raw: &mut Raw, calls: Range<u32>) -> Option<(u32, u32, String)> {
    let cancelled = calls.flat_map(|number| {
        let id = 2 * number + 1;
        let begun = frame(HEADERS, END_HEADERS, id, &request_head(CHECK_HEALTH, "60S"));
        [begun, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
    });
    send(raw, cancelled.collect()).await
}

/// Sends this, and waits until the bridge has read it. Returns the GOAWAY if it ends the connection instead.
async fn send(raw: &mut Raw, frames: Vec<u8>) -> Option<(u32, u32, String)> {
    raw.write(&[frames, frame(PING, 0, 0, b"all read")].concat()).await;
    let said =
        raw.until(|frame| frame.kind == GOAWAY || frame.kind == PING && frame.flags & ACK != 0);
    let said = within("an answer to the PING", said).await.expect("a PING or a GOAWAY");
    let (last_stream, error) = said.goaway()?;
    let why = String::from_utf8_lossy(&said.payload[8..]).into_owned();
    Some((last_stream, error, why))
}

#[tokio::test]
async fn whoever_resets_more_streams_than_the_limit_loses_the_connection() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let settings = "server.connections.resets_per_second = 1\n\
        listeners.default.http2.max_concurrent_streams = 10";
    let program = start(settings, &[]).await;
    let mut other = Raw::connect(program.grpc, &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    let mut calls = 0;
    // No more at once than there may be, so that no other limit is reached.
    let ended = loop {
        calls += 5;
        if let Some(ended) = begin_and_cancel(&mut raw, calls - 5..calls).await {
            break ended;
        }
    };
    assert!(calls > 10, "after {calls}");
    assert_eq!(ended, (2 * calls - 1, ENHANCE_YOUR_CALM, "too many resets a second".to_owned()));
    assert_eq!(turned_away(&program, "reset_flood").await, 1);
    let (_, readiness) = program.ask("GET /readyz?verbose", "").await;
    assert!(readiness.contains("reset_flood"), "{readiness}");
    assert_eq!(begin_and_cancel(&mut other, 0..5).await, None, "another connection goes on");
}

/// Whether a new connection may begin and cancel as many calls twice as it may have at once. They come in one
/// piece, so that the budget gets nothing back meanwhile.
async fn may_cancel_all_twice(program: &Program) -> bool {
    // Whatever was before, all streams may be cancelled together.
    let mut once = Raw::connect(program.grpc, &[]).await;
    assert_eq!(begin_and_cancel(&mut once, 0..STREAMS).await, None);
    let mut twice = Raw::connect(program.grpc, &[]).await;
    begin_and_cancel(&mut twice, 0..2 * STREAMS).await.is_none()
}

#[tokio::test]
async fn whoever_comes_again_after_a_flood_may_send_less_at_once() {
    let program = start("", &[]).await;
    assert!(may_cancel_all_twice(&program).await);
    let mut raw = Raw::connect(program.grpc, &[]).await;
    // A second gives half a piece back.
    let piece = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]).repeat(1000);
    let mut rounds = 0..100;
    while rounds.next().is_some() && send(&mut raw, piece.clone()).await.is_none() {}
    assert!(!rounds.is_empty(), "it goes on");
    assert!(!may_cancel_all_twice(&program).await);
}

/// h2 has ended its connection, and not the bridge.
#[tokio::test]
async fn whoever_has_broken_a_rule_of_http2_may_send_less_at_once() {
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    // DATA of no stream.
    raw.send(0, 0, 0, b"").await;
    let ended = raw.until(|frame| frame.kind == GOAWAY);
    assert!(within("the end", ended).await.is_some());
    // The bridge notes it after it has said so, and before it counts the connection no more.
    drop(raw);
    let open = "ccgw_server_places_in_use{share=\"connections\"}";
    until_asked("the connection's end", async || program.metric(open).await < 0.5).await;
    assert!(!may_cancel_all_twice(&program).await);
}

#[tokio::test]
async fn all_calls_of_a_connection_may_be_cancelled_together() {
    let program = start("server.connections.resets_per_second = 1", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    assert_eq!(begin_and_cancel(&mut raw, 0..STREAMS).await, None);
    let check = ccgateway_bridge::rpc::proto::health::HealthCheckRequest::default();
    let id = 2 * STREAMS + 1;
    raw.request(id, CHECK_HEALTH, "30S", &check).await;
    assert!(within("an answer", raw.until(|frame| frame.ends(id))).await.is_some());
    assert_eq!(turned_away(&program, "reset_flood").await, 0);
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_and_told_when_to_come_back() {
    let program = start("server.connections.requests_per_second = 1", &[]).await;
    // On another connection.
    register(&program, 1001).await;
    let sessions = client::agent_session(client::channel(), origin(program.grpc));
    let ask = |mut sessions: AgentSessionClient<_>| async move {
        let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
        sessions.get_session(request).await.map(drop)
    };
    // As many as there are streams may come at once.
    let mut burst: JoinSet<Result<(), Status>> = JoinSet::new();
    for _ in 0..STREAMS {
        burst.spawn(ask(sessions.clone()));
    }
    for answer in within("answers", burst.join_all()).await {
        answer.expect("within the limit");
    }
    let refused = loop {
        if let Err(refused) = ask(sessions.clone()).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let words = "the connection's limit is reached: 1 requests a second \
        (server.connections.requests_per_second)";
    assert!(refused.message().contains(words), "{}", refused.message());
    let details = refused.get_error_details();
    let info = details.error_info().expect("told");
    assert_eq!(info.reason, "SERVER_OVERLOADED");
    assert_eq!(info.metadata["share"], "connection_requests_per_second");
    assert_eq!(info.metadata["outcome"], "not_sent");
    assert_eq!(details.quota_failure().expect("told").violations[0].subject, "connection");
    let pause = details.retry_info().and_then(|retry| retry.retry_delay).expect("told");
    assert_eq!(pause, Duration::from_secs(1));
    let pushback = refused.metadata().get("grpc-retry-pushback-ms").expect("told");
    assert_eq!(pushback, "1000");
    let counted =
        "ccgw_calls_over_limit_total{tenant=\"acme\",share=\"connection_requests_per_second\"}";
    let one = 0.5..1.5;
    assert!(one.contains(&program.metric(counted).await));
    let own = "ccgw_calls_over_own_share_total{tenant=\"acme\"}";
    assert!(one.contains(&program.metric(own).await), "alerts leave it out");
    // Another connection has its own.
    ask(client::agent_session(client::channel(), origin(program.grpc))).await.expect("answered");
}
