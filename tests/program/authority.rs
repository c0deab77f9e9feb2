//! Which `:authority` of a request is let in, and what becomes of any other.

use ccgateway_test_support::{Program, within};

use crate::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, head};
use crate::support::start;

const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";
const PROTOCOL_ERROR: [u8; 4] = 1_u32.to_be_bytes();
/// The message of a question about the server's health.
const EMPTY: &[u8] = &[0; 5];

/// What callers send: a name or an address, whatever it is, and a port, whatever it is.
const SERVED: [Option<&str>; 16] = [
    None,
    Some("localhost"),
    Some("localhost:50051"),
    Some("LOCALHOST."),
    Some("bridge.ops.svc.cluster.local:50051"),
    Some("10.0.0.1:50051"),
    Some("[::1]:50051"),
    Some("under_score"),
    Some("xn--bcher-kva.example"),
    Some("user@bridge"),
    Some("localhost:"),
    Some("localhost:99999"),
    Some("localhost:grpc"),
    Some("10.0.0.1,10.0.0.2"),
    Some("ipv6:[::1]:50051"),
    Some("unix:bridge.sock"),
];
/// What clients make of targets that are no name, such as `ipv4:10.0.0.1:1,10.0.0.2:1`, and mistakes.
const REFUSED: [(&str, &str); 16] = [
    ("", "empty string"),
    ("ipv4:10.0.0.1:50051", "invalid authority"),
    ("10.0.0.1:50051,10.0.0.2:50051", "invalid authority"),
    ("10.0.0.1:50051%2C10.0.0.2:50051", "invalid authority"),
    ("[::1]:50051,[::2]:50051", "invalid authority"),
    ("::1", "invalid authority"),
    ("[::1", "invalid authority"),
    ("unix:/run/bridge.sock", "invalid uri character"),
    ("%2Frun%2Fbridge.sock", "invalid authority"),
    ("/run/bridge.sock", "invalid uri character"),
    ("dns:///bridge:50051", "invalid uri character"),
    ("http://bridge:50051", "invalid uri character"),
    ("bridge:50051/x", "invalid uri character"),
    ("bridge:50051?x", "invalid uri character"),
    ("b\u{fc}cher.example", "invalid uri character"),
    ("a b", "invalid uri character"),
];

/// Asks for the server's health. Returns the kind of the first frame that answers, and its payload.
async fn ask(peer: &mut Raw, stream: u32, authority: Option<&str>) -> (u8, Vec<u8>) {
    let own = [(":method", "POST"), (":scheme", "http"), (":path", CHECK_HEALTH)];
    let authority = authority.map(|authority| (":authority", authority));
    let rest = [("content-type", "application/grpc"), ("te", "trailers")];
    let fields: Vec<_> = own.into_iter().chain(authority).chain(rest).collect();
    peer.send(HEADERS, END_HEADERS, stream, &head(&fields)).await;
    peer.send(DATA, END_STREAM, stream, EMPTY).await;
    let answers = |kind| kind == HEADERS || kind == RST_STREAM;
    let answer = peer.until(|frame| frame.stream == stream && answers(frame.kind));
    let frame = within("an answer", answer).await.expect("the connection goes on");
    (frame.kind, frame.payload)
}

/// How many requests HTTP/2 has refused.
async fn refused(program: &Program) -> u64 {
    let (_, metrics) = program.ask("GET /metrics", "").await;
    let labels = "grpc_method=\"unknown\",grpc_code=\"Internal\"}";
    let series =
        |line: &&str| line.starts_with("grpc_server_handled_total{") && line.contains(labels);
    let counts = metrics.lines().filter(series).filter_map(|line| line.rsplit_once(' '));
    counts.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn a_name_or_an_address_is_let_in_and_anything_else_reset_logged_and_counted() {
    let program = start("", &["--log-filter", "ccgateway_bridge=debug"]).await;
    let mut peer = Raw::connect(program.grpc, &[]).await;
    let mut streams = (1..).step_by(2);
    for authority in SERVED {
        let stream = streams.next().expect("endless");
        assert_eq!(ask(&mut peer, stream, authority).await.0, HEADERS, "{authority:?}");
    }
    assert_eq!(refused(&program).await, 0);
    for (number, (authority, _)) in (1..).zip(REFUSED) {
        let stream = streams.next().expect("endless");
        let answer = ask(&mut peer, stream, Some(authority)).await;
        assert_eq!(answer, (RST_STREAM, PROTOCOL_ERROR.into()), "{authority:?}");
        let counted = async {
            while refused(&program).await < number {
                tokio::task::yield_now().await;
            }
        };
        within(authority, counted).await;
    }
    program.signal("-TERM");
    let (_, printed) = program.ended().await;
    let lines = |word: &str| -> Vec<String> {
        let lines = printed.lines().filter(|line| line.contains(word));
        lines.map(str::to_owned).collect()
    };
    let causes = lines("HTTP2_REFUSED");
    assert_eq!(causes.len(), REFUSED.len(), "{printed}");
    for (line, (authority, cause)) in causes.iter().zip(REFUSED) {
        assert!(line.contains(&format!("(malformed authority: {cause})")), "{authority}: {line}");
    }
    // One of them for whoever shows no debug lines.
    let told = lines("HTTP/2 has refused a request for its headers; others");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("\"WARN\"") && told[0].contains("malformed authority"), "{told:?}");
    assert!(told[0].contains("\"peer\":\"127.0.0.1:"), "{told:?}");
}
