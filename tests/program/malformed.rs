//! Requests that no library of gRPC sends: compressed in unusual ways, malformed, or not gRPC at all.

use ccgateway_bridge::rpc::proto::{
    GetSessionRequest, SetBusyRequest, WatchEventsRequest, health::HealthCheckRequest,
};
use ccgateway_test_support::{Program, within};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_request::MessageRequest,
};

use crate::{
    request::{Answer, Request, framed, gzip},
    support::{register, start},
};

const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const GET_SESSION: &str = "/ccgateway.agent.v1.AgentSession/GetSession";
const WATCH_EVENTS: &str = "/ccgateway.agent.v1.AgentEvents/WatchEvents";
const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const OLD_REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const UNARY: [&str; 5] = [SET_BUSY, GET_SESSION, WATCH_EVENTS, CHECK_HEALTH, WATCH_HEALTH];
const STREAMED: [&str; 2] = [REFLECTION, OLD_REFLECTION];
const MIB: u64 = 1024 * 1024;

/// A message that its method takes.
fn message(path: &str) -> Vec<u8> {
    let agent_id = "1001".to_owned();
    match path {
        SET_BUSY => {
            SetBusyRequest { agent_id, reason: Some(200), ..<_>::default() }.encode_to_vec()
        }
        GET_SESSION => GetSessionRequest { agent_id, ..<_>::default() }.encode_to_vec(),
        WATCH_EVENTS => {
            WatchEventsRequest { agent_ids: vec![agent_id], ..<_>::default() }.encode_to_vec()
        }
        CHECK_HEALTH | WATCH_HEALTH => {
            HealthCheckRequest { service: "ccgateway.agent.v1.AgentState".into() }.encode_to_vec()
        }
        _ => {
            let message_request = Some(MessageRequest::ListServices(String::new()));
            ServerReflectionRequest { host: "localhost".into(), message_request }.encode_to_vec()
        }
    }
}

fn gzipped(path: &str) -> Request {
    Request::grpc(path, &framed(1, &gzip(&message(path)))).with("grpc-encoding", "gzip")
}

/// The sum of the counters of calls with this code.
async fn handled(program: &Program, code: Code) -> u64 {
    let (_, metrics) = program.ask("GET /metrics", "").await;
    let of_code = |line: &&str| {
        line.starts_with("grpc_server_handled_total{")
            && line.contains(&format!("grpc_code=\"{code:?}\""))
    };
    let counts = metrics.lines().filter(of_code).filter_map(|line| line.rsplit_once(' '));
    counts.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

#[track_caller]
fn assert_refused(answer: &Answer, code: Code, reason: &str, case: &str) {
    let (status, info) = (answer.status(), answer.info());
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{case}: {status:?}");
    assert_eq!(info.domain, "ccgateway-bridge", "{case}");
    assert_eq!(info.metadata["outcome"], "not_sent", "{case}");
}

/// Sends a request that is refused, and looks whether that is counted.
async fn refuse(
    program: &Program,
    request: Request,
    code: Code,
    reason: &str,
    case: &str,
) -> Answer {
    let before = handled(program, code).await;
    let answer = request.send(program).await;
    assert_refused(&answer, code, reason, case);
    assert_eq!(handled(program, code).await, before + 1, "{case} is counted");
    answer
}

#[tokio::test]
async fn requests_may_be_compressed_with_gzip_and_their_answers_are_not() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let set_busy = gzipped(SET_BUSY).send(&program).await;
    assert_eq!(set_busy.status().code(), Code::Ok, "{set_busy:?}");
    for path in [GET_SESSION, CHECK_HEALTH, REFLECTION, OLD_REFLECTION] {
        let plain = Request::grpc(path, &framed(0, &message(path)));
        let plain = plain.with("grpc-accept-encoding", "gzip").send(&program).await;
        let answer = gzipped(path).with("grpc-accept-encoding", "gzip").send(&program).await;
        for answer in [&plain, &answer] {
            assert_eq!(answer.status().code(), Code::Ok, "{path}: {answer:?}");
            assert!(!answer.headers.contains_key("grpc-encoding"), "{path}: {answer:?}");
            assert_eq!(answer.body[0], 0, "{path}: its message is not compressed");
        }
        assert_eq!(answer.body.len(), plain.body.len(), "{path}");
    }
    // Where the encoding is named, a message need not be compressed.
    let plain = Request::grpc(GET_SESSION, &framed(0, &message(GET_SESSION)));
    let answer = plain.with("grpc-encoding", "gzip").send(&program).await;
    assert_eq!(answer.status().code(), Code::Ok);
    // A watch ends at its deadline.
    for path in [WATCH_EVENTS, WATCH_HEALTH] {
        let answer = gzipped(path).with("grpc-timeout", "300m").send(&program).await;
        assert_eq!(answer.status().code(), Code::DeadlineExceeded, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn an_encoding_that_is_not_read_is_refused_with_those_that_are() {
    let program = start("", &[]).await;
    for path in UNARY.into_iter().chain(STREAMED) {
        for encoding in ["deflate", "zstd", "snappy"] {
            let request = Request::grpc(path, &framed(1, b"x")).with("grpc-encoding", encoding);
            let (code, reason) = (Code::Unimplemented, "COMPRESSION_UNSUPPORTED");
            let answer = refuse(&program, request, code, reason, path).await;
            assert_eq!(answer.headers["grpc-accept-encoding"], "identity,gzip", "{path}");
        }
    }
    assert!(program.gateway.journal().is_empty());
}

#[tokio::test]
async fn a_malformed_request_is_its_callers_fault_whatever_the_service() {
    let debug = ["--log-filter", "ccgateway_bridge=debug"];
    let program = start("server.limits.message_size = 4096", &debug).await;
    let (malformed, too_large) = ("MESSAGE_MALFORMED", "MESSAGE_TOO_LARGE");
    let large = framed(0, &[0; 4097]);
    for path in UNARY.into_iter().chain(STREAMED) {
        let whole = framed(0, &message(path));
        let mut cases = vec![
            ("a part of a head", whole[..3].to_vec(), "", malformed),
            ("a part of a message", whole[..whole.len() - 1].to_vec(), "", malformed),
            ("bytes after a message", [&whole[..], &[0]].concat(), "", malformed),
            ("no protobuf", framed(0, &[0xff; 9]), "", malformed),
            ("a compressed message without an encoding", framed(1, &gzip(b"")), "", malformed),
            ("the same with identity", framed(1, &gzip(b"")), "identity", malformed),
            ("an unknown flag", framed(2, b""), "gzip", malformed),
            ("no gzip", framed(1, b"whatever"), "gzip", malformed),
            ("gzip of nothing that is known", framed(1, &gzip(&[0xff; 9])), "gzip", malformed),
            ("a part of gzip", framed(1, &gzip(&whole)[..9]), "gzip", malformed),
            ("a long message", large.clone(), "", too_large),
            ("a length only", vec![0, 0xff, 0xff, 0xff, 0xff], "", too_large),
            ("a message that grows", framed(1, &gzip(&[0; 5000])), "gzip", too_large),
        ];
        if UNARY.contains(&path) {
            cases.push(("nothing", vec![], "", malformed));
            cases.push(("two messages", whole.repeat(2), "", malformed));
        }
        for (case, body, encoding, reason) in cases {
            let mut request = Request::grpc(path, &body);
            if !encoding.is_empty() {
                request = request.with("grpc-encoding", encoding);
            }
            let case = format!("{path}: {case}");
            refuse(&program, request, Code::InvalidArgument, reason, &case).await;
        }
    }
    let logged = program.printed("MESSAGE_TOO_LARGE").await;
    let lines: Vec<_> = logged.lines().filter(|line| line.contains("MESSAGE_")).collect();
    assert!(lines.iter().all(|line| line.contains("\"DEBUG\"")), "{lines:?}");
    assert!(program.gateway.journal().is_empty());
}

#[tokio::test]
async fn malformed_metadata_is_refused_before_the_message_is_read() {
    let program = start("", &[]).await;
    for path in UNARY.into_iter().chain(STREAMED) {
        for (name, value) in [
            ("grpc-timeout", "soon"),
            ("grpc-timeout", "1.5S"),
            ("grpc-timeout", ""),
            ("x-whatever-bin", "!"),
            ("grpc-trace-bin", "A"),
        ] {
            // Its message never ends.
            let mut body = framed(0, &message(path));
            body.pop();
            let request = Request::grpc(path, &body).with(name, value);
            let case = format!("{path}: {name}: {value}");
            refuse(&program, request, Code::InvalidArgument, "INVALID_REQUEST", &case).await;
        }
    }
    // Where reflection is hidden, its methods are as unknown as any other name.
    let hidden = start("server.reflection = false", &[]).await;
    let nothing = "/ccgateway.agent.v1.AgentState/Nothing";
    for (program, path) in [(&program, nothing), (&hidden, REFLECTION), (&hidden, OLD_REFLECTION)] {
        let request = Request::grpc(path, &framed(0, &message(path)));
        let (code, reason) = (Code::Unimplemented, "METHOD_UNKNOWN");
        let answer = refuse(program, request, code, reason, path).await;
        assert_eq!(answer.info().metadata["method"], "unknown", "{path}");
    }
}

#[tokio::test]
async fn another_http_method_than_post_is_not_allowed() {
    let program = start("", &[]).await;
    // Where there is no reflection, its methods are as unknown as any other.
    let off = start("server.reflection = false", &[]).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for (program, path) in [
            (&program, SET_BUSY),
            (&program, CHECK_HEALTH),
            (&program, REFLECTION),
            (&off, REFLECTION),
            (&program, "/"),
        ] {
            let mut request = Request::grpc(path, &framed(0, &message(path)));
            request.method = method.parse().expect("a method");
            let answer = refuse(program, request, Code::InvalidArgument, "NOT_GRPC", method).await;
            assert_eq!((answer.http, &answer.headers["allow"]), (405, &"POST".parse().unwrap()));
        }
    }
    assert!(program.gateway.journal().is_empty());
}

const SPOKEN: &str = "This port speaks gRPC";

#[tokio::test]
async fn clients_of_other_protocols_are_told_what_is_spoken() {
    let program = start("", &[]).await;
    let types = [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc+json",
        "application/json",
        "application/proto",
        "application/connect+proto",
        "application/connect+json",
        "text/html",
        "",
    ];
    for (method, path) in [("POST", SET_BUSY), ("GET", "/"), ("OPTIONS", SET_BUSY)] {
        for content_type in types {
            let mut request = Request::grpc(path, &framed(0, &message(SET_BUSY)));
            request.headers.clear();
            request.method = method.parse().expect("a method");
            if method != "POST" {
                request.body.clear();
            }
            if !content_type.is_empty() {
                request = request.with("content-type", content_type);
            }
            let case = format!("{method} {content_type}");
            let answer = refuse(&program, request, Code::InvalidArgument, "NOT_GRPC", &case).await;
            assert_eq!(answer.http, 415, "{case}");
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{case}");
            let body = String::from_utf8(answer.body).expect("text");
            assert!(body.contains(SPOKEN), "{case}: {body}");
        }
    }
    assert!(program.gateway.journal().is_empty());
}

#[tokio::test]
async fn clients_that_speak_http_1_are_told_what_is_spoken() {
    let program = start("", &[]).await;
    let post = format!(
        "POST {SET_BUSY} HTTP/1.1\r\nHost: bridge\r\nContent-Type: application/grpc-web+proto\r\n\
         Content-Length: 5\r\n\r\n\0\0\0\0\0"
    );
    for request in [
        post.as_str(),
        "GET / HTTP/1.1\r\nHost: bridge\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: bridge\r\nOrigin: http://page\r\n\r\n",
    ] {
        let before = handled(&program, Code::InvalidArgument).await;
        let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("read");
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(body.contains(SPOKEN), "{body}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        drop(stream);
        let counted = async {
            while handled(&program, Code::InvalidArgument).await == before {
                tokio::task::yield_now().await;
            }
        };
        within("it is counted", counted).await;
    }
}

#[tokio::test]
async fn an_http_1_client_is_counted_as_one_whatever_it_does_after_the_answer() {
    let settings = "server.connections = { handshake_timeout = \"1s\" }";
    for resets in [true, false] {
        let program = start(settings, &[]).await;
        let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bridge\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("read");
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
        // A socket that is closed with this option sends a reset in place of an end.
        stream.set_zero_linger().expect("set");
        let _stays = (!resets).then_some(stream);
        let handshake_over = async {
            while program.metric("ccgw_server_places_in_use{share=\"handshakes\"").await > 0.5 {
                tokio::task::yield_now().await;
            }
        };
        within("its handshake is over", handshake_over).await;
        assert_eq!(handled(&program, Code::InvalidArgument).await, 1, "resets: {resets}");
        let turned_away = program.metric("ccgw_connections_turned_away_total").await;
        assert!(turned_away < 0.5, "resets: {resets}, {turned_away}");
    }
}

/// A message of 16 KiB that would be 16 MiB.
#[tokio::test]
async fn a_small_message_that_would_be_a_huge_one_takes_little_memory() {
    const BOMBS: usize = 100;
    let program = start("", &[]).await;
    let bomb = gzip(&vec![0; 16 * 1024 * 1024]);
    assert!(bomb.len() <= 16_384, "{} bytes", bomb.len());
    for path in [SET_BUSY, REFLECTION] {
        let before = program.peak_memory();
        let mut sent = JoinSet::new();
        for _ in 0..BOMBS {
            let request = Request::grpc(path, &framed(1, &bomb)).with("grpc-encoding", "gzip");
            sent.spawn(request.send_to(program.grpc));
        }
        for answer in sent.join_all().await {
            let status = answer.status();
            let is_expected = status.code() == Code::InvalidArgument
                || path == REFLECTION && status.code() == Code::ResourceExhausted;
            assert!(is_expected, "{status:?}");
        }
        let taken = program.peak_memory().saturating_sub(before) / MIB;
        println!("{path}: {taken} MiB");
        assert!(taken < 16, "{path}: {taken} MiB");
    }
}
