//! Unfinished requests take little memory, and only for a short time.

use std::time::Duration;

use bytes::Bytes;
use ccgateway_bridge::rpc::proto::GetSessionRequest;
use ccgateway_test_support::{Clients, Program, within};
use h2::{RecvStream, SendStream, client::SendRequest};
use tokio::{task::JoinSet, time::Instant};
use tonic_types::StatusExt as _;

use crate::{
    request::connect,
    support::{register, start},
};

const CONNECTIONS: usize = 100;
/// On each.
const STREAMS: usize = 60;
const MESSAGE: usize = 16_384;
const MIB: u64 = 1024 * 1024;

/// A request of which most is sent.
struct Half {
    response: h2::client::ResponseFuture,
    unended: SendStream<Bytes>,
}

async fn begin(client: SendRequest<Bytes>, path: &str, timeout: &str, body: &Bytes) -> Half {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request =
        if timeout.is_empty() { request } else { request.header("grpc-timeout", timeout) };
    let request = request.body(());
    let mut client = client.ready().await.expect("a free stream");
    let (response, mut sending) =
        client.send_request(request.expect("a request"), false).expect("open");
    sending.send_data(body.clone(), false).expect("taken");
    Half { response, unended: sending }
}

/// The status that a request is answered with.
async fn status(half: Half) -> Result<tonic::Status, h2::Error> {
    let mut response = half.response.await?;
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        return Ok(status);
    }
    let body: &mut RecvStream = response.body_mut();
    while let Some(data) = body.data().await {
        drop(data?);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(tonic::Status::from_header_map(&trailers).expect("a status"))
}

/// All but ten bytes of a message.
fn most() -> Bytes {
    let mut body = vec![0, 0, 0, 0x40, 0];
    body.resize(5 + MESSAGE - 10, 0);
    body.into()
}

/// A call that needs no gateway, which is as busy as this test.
async fn call(program: &Program) -> Result<(), tonic::Status> {
    let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    Clients::of(program.grpc).sessions.get_session(request).await.map(|_| ())
}

#[tokio::test]
async fn half_messages_take_little_memory_and_keep_no_caller_out() {
    let program = start("server.limits.calls = 100", &[]).await;
    register(&program, 1001).await;
    let most = most();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect(&program).await);
    }
    let before = program.peak_memory();
    let mut halves = Vec::new();
    let path = "/ccgateway.agent.v1.AgentState/SetBusy";
    for client in &clients {
        for _ in 0..STREAMS {
            let begun = begin(client.clone(), path, "2S", &most);
            halves.push(within("a stream", begun).await);
        }
    }
    call(&program).await.expect("there is a place");
    let mut ended = JoinSet::new();
    for half in halves {
        ended.spawn(status(half));
    }
    let mut late = 0;
    for status in within("all answers", ended.join_all()).await {
        let status = status.expect("an answer");
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |info| &info.reason);
        match (status.code(), reason) {
            (tonic::Code::ResourceExhausted, "SERVER_OVERLOADED") => {}
            (tonic::Code::DeadlineExceeded, "DEADLINE") => late += 1,
            _ => panic!("{status:?}"),
        }
    }
    assert!(late >= 100, "{late} had a place until their deadline");
    // A hundred messages of 16 KiB, the windows of a hundred connections with 128 KiB each, and what
    // connections and streams take; the messages alone would be 94 MiB.
    let taken = program.peak_memory().saturating_sub(before) / MIB;
    println!("6000 half messages took {taken} MiB");
    assert!(taken < 60, "{taken} MiB");
    call(&program).await.expect("still");
}

#[tokio::test]
async fn a_message_that_trickles_is_ended_by_its_deadline() {
    let program = start("server.default_deadline = \"1s\"", &[]).await;
    for (path, timeout) in [
        ("/ccgateway.agent.v1.AgentState/SetBusy", "500m"),
        ("/ccgateway.agent.v1.AgentEvents/WatchEvents", "500m"),
        ("/grpc.health.v1.Health/Check", "500m"),
        // No deadline at all is the default one.
        ("/ccgateway.agent.v1.AgentState/SetBusy", ""),
    ] {
        let begun = Instant::now();
        let client = connect(&program).await;
        // Ends by the limit of any message, so later.
        let longer = begin(client.clone(), path, "60S", &Bytes::new()).await;
        // The length of 16 KiB; what follows is zeros.
        let start = Bytes::from_static(&[0, 0, 0, 0x40]);
        let mut half = begin(client, path, timeout, &start).await;
        let trickle = async {
            loop {
                // The answer may have come in the meantime.
                let _answered = half.unended.send_data(Bytes::from_static(&[0]), false);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answer = async {
            tokio::select! {
                response = &mut half.response => response.expect("an answer"),
                () = trickle => unreachable!("it goes on for ever"),
                _later = longer.response => panic!("{path} is not ended by its deadline"),
            }
        };
        let response = within("an answer", answer).await;
        let status = tonic::Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{path}");
        assert_eq!(
            status.get_error_details().error_info().expect("ErrorInfo").metadata["outcome"],
            "not_sent"
        );
        assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn requests_that_are_not_read_are_logged_and_counted_as_calls() {
    let program = start("", &[]).await;
    let path = "/ccgateway.agent.v1.AgentState/SetBusy";
    let half = begin(connect(&program).await, path, "100m", &Bytes::from_static(&[0])).await;
    let status = within("an answer", status(half)).await.expect("an answer");
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    let logged = program.printed("\"DEADLINE_EXCEEDED\"").await;
    assert!(logged.contains("\"method\":\"ccgateway.agent.v1.AgentState/SetBusy\""), "{logged}");
    let metrics = program.ask("GET /metrics", "").await.1;
    let counted = metrics.lines().find(|line| {
        line.starts_with("grpc_server_handled_total")
            && line.contains("\"SetBusy\"")
            && line.contains("\"DeadlineExceeded\"")
    });
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[tokio::test]
async fn a_message_that_says_that_it_is_too_long_is_not_waited_for() {
    let program = start("", &[]).await;
    let path = "/ccgateway.agent.v1.AgentState/SetBusy";
    let body = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1]);
    let half = begin(connect(&program).await, path, "20S", &body).await;
    let status = within("an answer", status(half)).await.expect("an answer");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
}
