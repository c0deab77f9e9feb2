//! Requests that no method sees: each is answered with a cause, logged and counted.

use bytes::Bytes;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Program, within};

/// A request as it goes over the wire.
struct Raw {
    path: &'static str,
    body: &'static [u8],
}

const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const GRPC: &str = "application/grpc";

/// HTTP's status and headers, with the trailers.
async fn ask(program: &Program, raw: &Raw) -> (u16, http::HeaderMap) {
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let driving = tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost{}", raw.path))
        .header("content-type", GRPC)
        .header("grpc-encoding", if raw.body.first() == Some(&1) { "gzip" } else { "identity" })
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("a free stream");
    let (response, mut sending) = client.send_request(request, false).expect("open");
    sending.send_data(Bytes::from_static(raw.body), true).expect("taken");
    let (head, mut body) = within("an answer", response).await.expect("answered").into_parts();
    let mut headers = head.headers;
    while let Some(data) = body.data().await {
        drop(data.expect("read"));
    }
    headers.extend(body.trailers().await.expect("read").unwrap_or_default());
    driving.abort();
    (head.status.as_u16(), headers)
}

#[tokio::test]
async fn a_request_that_no_method_sees_is_answered_with_a_cause_logged_and_counted() {
    let debug = ["--log-filter", "ccgateway_bridge=debug"];
    let program = Program::start("server.http2.max_message_size = 4096", &debug).await;
    let of = |path, body| Raw { path, body };
    for (raw, code, reason, method) in [
        (of(SET_BUSY, &[]), Code::Internal, "MESSAGE_MALFORMED", "SetBusy"),
        (of(SET_BUSY, &[0, 0, 0, 0, 1, 0xff]), Code::Internal, "MESSAGE_MALFORMED", "SetBusy"),
        (of(SET_BUSY, &[0, 1, 0, 0, 0, 0]), Code::OutOfRange, "MESSAGE_TOO_LARGE", "SetBusy"),
        (of(SET_BUSY, &[1, 0, 0, 0, 0]), Code::Unimplemented, "COMPRESSION_UNSUPPORTED", "SetBusy"),
        (
            of("/ccgateway.agent.v1.AgentState/Nothing", &[0, 0, 0, 0, 0]),
            Code::Unimplemented,
            "METHOD_UNKNOWN",
            "unknown",
        ),
        (
            of("/another.Service/Method", &[0, 0, 0, 0, 0]),
            Code::Unimplemented,
            "METHOD_UNKNOWN",
            "unknown",
        ),
    ] {
        let labels = format!("grpc_method=\"{method}\",grpc_code=\"{code:?}\"}}");
        let before = count(&program, &labels).await;
        let (status, headers) = ask(&program, &raw).await;
        assert_eq!(status, 200);
        let status = Status::from_header_map(&headers).expect("a status");
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{reason}: {status:?}"));
        assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
        assert_eq!(info.metadata["outcome"], "not_sent");
        assert_eq!(count(&program, &labels).await, before + 1, "{reason}");
        let logged = program.printed(&format!("\"ccgw.reason\":\"{reason}\"")).await;
        let line = logged.lines().find(|line| line.contains(reason)).expect("a line");
        assert!(line.contains("\"DEBUG\""), "{line}");
    }
    assert!(program.gateway.journal().is_empty());
}

/// How many calls ended with these labels.
async fn count(program: &Program, labels: &str) -> u64 {
    let (_, metrics) = program.ask("GET /metrics", "").await;
    let series =
        |line: &&str| line.starts_with("grpc_server_handled_total{") && line.contains(labels);
    let counts = metrics.lines().filter(series).filter_map(|line| line.rsplit_once(' '));
    counts.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}
