//! Requests that no method sees are answered with a reason, logged and counted.

use std::iter::repeat_n;

use ccgateway_test_support::{Program, within};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw as Peer, head};
use crate::request::Request;
use crate::support::start;

/// A request as it goes over the wire.
struct Raw {
    path: &'static str,
    body: &'static [u8],
}

const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const GRPC: &str = "application/grpc";

/// HTTP's status and headers, with the trailers.
async fn ask(program: &Program, raw: &Raw) -> (u16, http::HeaderMap) {
    let answer = Request::grpc(raw.path, raw.body).send(program).await;
    (answer.http, answer.headers)
}

#[tokio::test]
async fn a_request_that_no_method_sees_is_answered_with_a_cause_logged_and_counted() {
    let debug = ["--log-filter", "ccgateway_bridge=debug"];
    let program = start("server.limits.message_size = 4096", &debug).await;
    let of = |path, body| Raw { path, body };
    for (raw, code, reason, method) in [
        (of(SET_BUSY, &[]), Code::InvalidArgument, "MESSAGE_MALFORMED", "SetBusy"),
        (
            of(SET_BUSY, &[0, 0, 0, 0, 1, 0xff]),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
            "SetBusy",
        ),
        (of(SET_BUSY, &[0, 1, 0, 0, 0, 0]), Code::InvalidArgument, "MESSAGE_TOO_LARGE", "SetBusy"),
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

/// Waits until one more call has ended with these labels than `before`.
async fn one_more(program: &Program, labels: &str, before: u64, case: &str) {
    let counted = async {
        while count(program, labels).await == before {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within(case, counted).await;
    assert_eq!(count(program, labels).await, before + 1, "{case}");
}

/// Waits until a request waits for the rest of its message.
async fn until_reading(program: &Program) {
    let reading = "ccgw_server_places_in_use{share=\"unfinished_requests\"} 1";
    while !program.ask("GET /metrics", "").await.1.lines().any(|line| line == reading) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

const CANCELLED: &str = "grpc_method=\"SetBusy\",grpc_code=\"Canceled\"}";
const UNSEEN: &str = "grpc_method=\"unknown\",grpc_code=\"Internal\"}";

#[tokio::test]
async fn a_request_that_is_broken_off_before_its_message_is_whole_is_logged_and_counted() {
    let debug = ["--log-filter", "ccgateway_bridge=debug"];
    let program = start("", &debug).await;
    let half = [0, 0, 0, 0, 9, 1];
    for (case, sent, lost) in [
        ("reset before its message", None, false),
        ("reset in its message", Some(&half[..]), false),
        ("reset in the length of its message", Some(&half[..3]), false),
        ("lost with its connection", Some(&half[..]), true),
        ("lost before its message", None, true),
    ] {
        let before = count(&program, CANCELLED).await;
        let mut peer = Peer::connect(program.grpc, &[]).await;
        peer.begin(1, SET_BUSY, "20S").await;
        if let Some(sent) = sent {
            peer.send(DATA, 0, 1, sent).await;
        }
        if lost {
            // Of a request whose connection ends in the same moment, hyper hears nothing.
            within("a request that is read", until_reading(&program)).await;
            peer.hang_up().await;
        } else {
            peer.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
        }
        one_more(&program, CANCELLED, before, case).await;
    }
    let logged = program.printed("REQUEST_BROKEN_OFF").await;
    let line = logged.lines().find(|line| line.contains("REQUEST_BROKEN_OFF")).expect("a line");
    assert!(line.contains("\"DEBUG\"") && line.contains("AgentState/SetBusy"), "{line}");
    assert!(line.contains("\"ccgw.outcome\":\"not_sent\""), "{line}");
    assert!(program.gateway.journal().is_empty());
}

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", SET_BUSY);
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const TYPE: (&str, &str) = ("content-type", GRPC);

#[tokio::test]
async fn a_request_that_http2_refuses_is_logged_and_counted() {
    let debug = ["--log-filter", "ccgateway_bridge=debug"];
    let limits = "listeners.default.http2.max_concurrent_streams = 1";
    let program = start(limits, &debug).await;
    let own = [METHOD, SCHEME, PATH, AUTHORITY, TYPE];
    let large: Vec<_> = own.into_iter().chain(repeat_n(("x", "y"), 500)).collect();
    let cases: [(&str, &[(&str, &str)]); 9] = [
        ("a large header list", &large),
        ("an authority that is none", &[METHOD, SCHEME, PATH, (":authority", "a b"), TYPE]),
        ("an empty authority", &[METHOD, SCHEME, PATH, (":authority", ""), TYPE]),
        ("a port that is none", &[METHOD, SCHEME, PATH, (":authority", "localhost:x:y"), TYPE]),
        ("no path", &[METHOD, SCHEME, AUTHORITY, TYPE]),
        ("an empty path", &[METHOD, SCHEME, (":path", ""), AUTHORITY, TYPE]),
        ("a path that is none", &[METHOD, SCHEME, (":path", "/a b"), AUTHORITY, TYPE]),
        ("no method", &[SCHEME, PATH, AUTHORITY, TYPE]),
        ("no scheme", &[METHOD, PATH, AUTHORITY, TYPE]),
    ];
    let mut peer = Peer::connect(program.grpc, &[]).await;
    for (stream, (case, fields)) in (1..).step_by(2).zip(cases) {
        let before = count(&program, UNSEEN).await;
        peer.send(HEADERS, END_HEADERS | END_STREAM, stream, &head(fields)).await;
        one_more(&program, UNSEEN, before, case).await;
    }
    // The connection goes on.
    let before = count(&program, CANCELLED).await;
    peer.begin(101, SET_BUSY, "20S").await;
    let unseen = count(&program, UNSEEN).await;
    peer.begin(103, SET_BUSY, "20S").await;
    one_more(&program, UNSEEN, unseen, "one stream too many").await;
    peer.send(RST_STREAM, 0, 101, &8_u32.to_be_bytes()).await;
    one_more(&program, CANCELLED, before, "the one before it").await;

    let unseen = count(&program, UNSEEN).await;
    let whole = head(&[METHOD, SCHEME, PATH, AUTHORITY]);
    peer.send(HEADERS, 0, 105, &whole).await;
    peer.hang_up().await;
    one_more(&program, UNSEEN, unseen, "half a head").await;

    let logged = program.printed("HTTP2_REFUSED").await;
    let line = logged.lines().find(|line| line.contains("HTTP2_REFUSED")).expect("a line");
    assert!(line.contains("\"DEBUG\"") && line.contains("16 KiB"), "{line}");
    assert!(line.contains("\"peer\":\"127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn a_path_that_is_no_method_is_answered_logged_and_counted() {
    let program = start("", &[]).await;
    let labels = "grpc_method=\"unknown\",grpc_code=\"Unimplemented\"}";
    for path in ["/", "//", "/x", "/?a=b", "/ccgateway.agent.v1.AgentState/", "/%00/%2f"] {
        let before = count(&program, labels).await;
        let (status, headers) = ask(&program, &Raw { path, body: &[0; 5] }).await;
        assert_eq!(status, 200, "{path}");
        let status = Status::from_header_map(&headers).expect("a status");
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{path}: {status:?}"));
        assert_eq!(info.reason, "METHOD_UNKNOWN", "{path}");
        one_more(&program, labels, before, path).await;
    }
    // What no library would send.
    let before = count(&program, labels).await;
    let mut peer = Peer::connect(program.grpc, &[]).await;
    peer.send(HEADERS, END_HEADERS, 1, &head(&[METHOD, SCHEME, (":path", "*"), TYPE])).await;
    peer.send(DATA, END_STREAM, 1, &[0; 5]).await;
    within("an answer", peer.until(|frame| frame.ends(1))).await.expect("an answer");
    one_more(&program, labels, before, "*").await;
}
