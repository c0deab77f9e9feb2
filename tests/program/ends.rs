//! How connections end: every call gets its answer, and a refused peer is told so.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, SetBusyRequest, WatchEventsRequest, health::HealthCheckRequest,
};
use ccgateway_test_support::{Program, within};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};

use crate::raw::{
    ACK, ANY_STREAM, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    PING, PREFACE, PRIORITY, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame, head, request_head,
};

use crate::support::{register, start};

const BATCH_SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/BatchSetBusy";
const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const WATCH_EVENTS: &str = "/ccgateway.agent.v1.AgentEvents/WatchEvents";
const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
const NO_ERROR: u32 = 0;

fn set_busy() -> SetBusyRequest {
    SetBusyRequest { agent_id: "1001".into(), ..<_>::default() }
}

/// A program with a session, whose gateway answers no more until it is thawed.
async fn frozen(settings: &str) -> Program {
    let program = start(settings, &[]).await;
    register(&program, 1001).await;
    program.gateway.freeze();
    program
}

/// Reads to the second GOAWAY of a graceful end, as a peer that answers at once.
async fn agree_on_the_end(raw: &mut Raw) -> u32 {
    let first = raw.until(|frame| frame.kind == GOAWAY).await.expect("GOAWAY");
    assert_eq!(first.goaway(), Some((ANY_STREAM, NO_ERROR)));
    let is_question = |frame: &Frame| frame.kind == PING && frame.flags & ACK == 0;
    let ping = raw.until(is_question).await.expect("a PING");
    raw.send(PING, ACK, 0, &ping.payload).await;
    let second = raw.until(|frame| frame.kind == GOAWAY).await.expect("another GOAWAY");
    second.goaway().filter(|(_, error)| *error == NO_ERROR).expect("no error").0
}

#[tokio::test]
async fn frames_that_cross_the_last_goaway_cost_no_call() {
    let program = frozen("server.connections = { max_age = \"1s\" }").await;
    let head = request_head(SET_BUSY, "60S");
    let begun = frame(HEADERS, END_HEADERS, 3, &head);
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 3, &head);
    let (some, more) = head.split_at(20);
    let parts = [
        frame(HEADERS, 0, 3, some),
        frame(9, END_HEADERS, 3, more),
        frame(DATA, END_STREAM, 3, &[0; 5]),
    ];
    let window = frame(WINDOW_UPDATE, 0, 3, &9_u32.to_be_bytes());
    let priority = frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]);
    let reset = frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes());
    let data = |length: usize| frame(DATA, 0, 3, &vec![0; length]);
    // Refers to what the headers of the stream before have put into the table.
    let refers =
        |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0xc4, 0xc3, 0xc2, 0xc1]);
    let crossing = [
        ("HEADERS", vec![begun.clone()]),
        ("HEADERS with an end", vec![whole.clone()]),
        ("HEADERS in parts", parts.to_vec()),
        ("WINDOW_UPDATE", vec![begun.clone(), window.clone()]),
        ("WINDOW_UPDATE after the end", vec![whole.clone(), window.clone(), window.clone()]),
        (
            "WINDOW_UPDATE of later streams",
            vec![
                whole.clone(),
                frame(WINDOW_UPDATE, 0, 5, &9_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 2001, &9_u32.to_be_bytes()),
            ],
        ),
        ("WINDOW_UPDATE first", vec![window.clone(), whole.clone()]),
        ("RST_STREAM", vec![begun.clone(), reset.clone(), window.clone()]),
        ("PRIORITY", vec![priority.clone(), begun.clone(), priority, window.clone()]),
        // More than the window of the connection in all, as it is given back.
        ("DATA", [vec![begun.clone()], vec![data(16_384); 6], vec![window.clone()]].concat()),
        (
            "trailers",
            vec![begun, data(5), frame(HEADERS, END_HEADERS | END_STREAM, 3, &[]), window],
        ),
        ("two streams with one table", vec![whole, refers(5), refers(7)]),
    ];
    for (what, frames) in crossing {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        raw.request(1, SET_BUSY, "60S", &set_busy()).await;
        assert_eq!(within("the end", agree_on_the_end(&mut raw)).await, 1, "{what}");
        raw.write(&frames.concat()).await;
        // It is of a stream that is open.
        raw.send(WINDOW_UPDATE, 0, 1, &9_u32.to_be_bytes()).await;
        raw.send(PING, 0, 0, b"all read").await;
        let read = |frame: &Frame| frame.kind == PING || frame.kind == GOAWAY;
        let read = within(what, raw.until(read)).await.unwrap_or_else(|| panic!("{what}: cut"));
        assert_eq!(read.payload, b"all read", "{what}: {:?}", read.goaway());
        program.gateway.thaw();
        let answered = within(what, raw.until(|frame| frame.ends(1) || frame.kind == GOAWAY)).await;
        let answered = answered.unwrap_or_else(|| panic!("{what}: cut"));
        assert!(answered.ends(1), "{what}: {:?}", answered.goaway());
        program.gateway.freeze();
    }
}

#[tokio::test]
async fn a_call_that_outlasts_the_age_of_its_connection_is_answered() {
    let settings = "server.connections = { max_age = \"1s\", max_age_grace = \"1ms\" }";
    let program = frozen(settings).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    raw.request(1, SET_BUSY, "60S", &set_busy()).await;
    // A peer that goes on as if there had been no GOAWAY.
    let goaway = within("GOAWAY", raw.until(|frame| frame.kind == GOAWAY)).await.expect("told");
    assert_eq!(goaway.goaway(), Some((ANY_STREAM, NO_ERROR)));
    for stream in (3..100).step_by(2) {
        raw.request(stream, SET_BUSY, "60S", &set_busy()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is_end = |frame: &Frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0;
    let refused = within("a refusal", raw.until(is_end)).await.expect("not cut");
    assert_ne!(refused.stream, 1, "the gateway does not answer");
    program.gateway.thaw();
    within("the answer", raw.until(|frame| frame.ends(1))).await.expect("answered");
    // Calls that come later are refused, so that there is an end.
    within("the end", async { while raw.next().await.is_some() {} }).await;
    let refused = program.printed("CONNECTION_AGED").await;
    assert!(refused.contains("\"ccgw.outcome\":\"not_sent\""), "{refused}");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_peers_that_say_nothing() {
    let program = start("server.drain = { delay = \"0s\", timeout = \"25s\" }", &[]).await;
    let no_window = [(INITIAL_WINDOW_SIZE, 0)];
    // None of them reads anything from here on.
    let _idle = Raw::connect(program.grpc, &[]).await;
    let mut peers = Vec::new();
    for path in [WATCH_HEALTH, WATCH_EVENTS, CHECK_HEALTH] {
        let mut peer = Raw::connect(program.grpc, &no_window).await;
        if path == WATCH_EVENTS {
            peer.request(1, path, "1H", &WatchEventsRequest::default()).await;
        } else {
            peer.request(1, path, "1H", &HealthCheckRequest::default()).await;
        }
        let begun = peer.until(|frame| frame.kind == HEADERS && frame.stream == 1);
        within("the answer's head", begun).await.expect("served");
        peers.push(peer);
    }
    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("drained: every call had its answer"), "{printed}");
}

/// Makes a call, and then others on and on with these headers besides, whatever the bridge says, until it is
/// cut.
async fn call_on(program: &Program, besides: &[(&str, &str)]) -> JoinHandle<()> {
    let fields = [request_head(CHECK_HEALTH, "9S"), head(besides)].concat();
    let mut raw = Raw::connect(program.grpc, &[]).await;
    raw.request(1, CHECK_HEALTH, "9S", &HealthCheckRequest::default()).await;
    within("an answer", raw.until(|frame| frame.ends(1))).await.expect("served");
    tokio::spawn(async move {
        for stream in (3..).step_by(2) {
            let head = frame(HEADERS, END_HEADERS, stream, &fields);
            let body = frame(DATA, END_STREAM, stream, &[0; 5]);
            let sent = raw.0.write_all(&[head, body].concat()).await;
            if sent.is_err() || raw.until(|frame| frame.ends(stream)).await.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// A caller that goes on with these headers leaves its place to a newcomer, and holds up no drain.
async fn keeps_no_place(more: &str, besides: &[(&str, &str)]) {
    let settings = "server.connections = { max = 1, handshake_timeout = \"25s\" }";
    let drain = "server.drain = { delay = \"0s\", timeout = \"25s\" }";
    let program = start(&format!("{settings}\n{drain}\n{more}"), &[]).await;
    let rude = call_on(&program, besides).await;
    let mut newcomer = Raw::connect(program.grpc, &[]).await;
    newcomer.request(1, CHECK_HEALTH, "30S", &HealthCheckRequest::default()).await;
    let answered = within("an answer", newcomer.until(|frame| frame.ends(1))).await;
    assert!(answered.is_some(), "there was no place");
    within("the end of the one that goes on", rude).await.expect("no panic");

    drop(newcomer);
    let rude = call_on(&program, besides).await;
    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("drained: every call had its answer"), "{printed}");
    within("the end of the one that goes on", rude).await.expect("no panic");
}

#[tokio::test]
async fn a_caller_that_goes_on_after_goaway_keeps_no_place() {
    keeps_no_place("", &[]).await;
}

/// Its token is verified anew for each call, since it is never good.
#[tokio::test]
async fn a_caller_that_goes_on_with_a_bad_token_keeps_no_place() {
    // The key of RFC 8037, appendix A.2.
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let files = TempDir::new().expect("a folder");
    let keys = files.path().join("keys.json");
    std::fs::write(&keys, KEYS).expect("written");
    let issuer = format!(
        "issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_file = {keys:?} }}\n\
         callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n"
    );
    keeps_no_place(&issuer, &[("authorization", "Bearer x")]).await;
}

/// The GOAWAY of a connection that gets no place.
async fn sent_away(raw: &mut Raw) {
    let goaway = within("GOAWAY", raw.until(|frame| frame.kind == GOAWAY)).await;
    let goaway = goaway.expect("told before it is closed");
    assert_eq!(goaway.goaway(), Some((0, NO_ERROR)), "nothing was done");
    assert!(goaway.payload.ends_with(b"no place for another conn"), "{goaway:?}");
    assert!(within("the end", raw.next()).await.is_none());
}

/// A program whose one place is in use, and who uses it.
async fn full(more: &str) -> (Program, Raw) {
    let settings = format!("server.connections = {{ max = 1, handshake_timeout = \"25s\"{more} }}");
    let drain = "server.drain = { delay = \"0s\", timeout = \"5s\" }";
    let program = start(&format!("{settings}\n{drain}"), &[]).await;
    let mut guest = Raw::connect(program.grpc, &[]).await;
    guest.request(1, WATCH_EVENTS, "1H", &WatchEventsRequest::default()).await;
    within("an event", guest.until(|frame| frame.kind == DATA)).await.expect("served");
    (program, guest)
}

#[tokio::test]
async fn newcomers_that_lose_their_place_to_newer_ones_are_told() {
    let (program, _guest) = full(", handshakes = 2").await;
    let mut newcomers = Vec::new();
    for _ in 0..5 {
        newcomers.push(Raw::connect(program.grpc, &[]).await);
    }
    for newcomer in &mut newcomers[..3] {
        sent_away(newcomer).await;
    }
}

#[tokio::test]
async fn newcomers_are_told_when_the_bridge_stops() {
    let (program, _guest) = full("").await;
    let mut waiting = Raw::connect(program.grpc, &[]).await;
    let mut half = Raw::silent(program.grpc).await;
    half.write(&[PREFACE, &[0, 0, 0, SETTINGS]].concat()).await;
    // So that both have been read.
    let shown = async {
        while !program.ask("GET /readyz?verbose", "").await.1.contains("handshakes: 2 of") {
            tokio::task::yield_now().await;
        }
    };
    within("two handshakes", shown).await;
    program.signal("-TERM");
    sent_away(&mut waiting).await;
    sent_away(&mut half).await;
}

/// Asks for a large answer and reads until its first bytes are there. The answer says of each agent
/// why it is none, which asks no gateway.
async fn begin_large(program: &Program) -> (Raw, Vec<u8>) {
    let mut raw = Raw::connect(program.grpc, &[]).await;
    let agent_ids = (0..400).map(|number| format!("nobody {number}")).collect();
    let request = BatchSetBusyRequest { agent_ids, ..<_>::default() };
    raw.request(1, BATCH_SET_BUSY, "60S", &request).await;
    let data = within("an answer", raw.until(|frame| frame.kind == DATA)).await.expect("served");
    let length = data.payload[1..5].try_into().map(u32::from_be_bytes).expect("four bytes");
    assert!(length > 2 * 65_535, "more than the window: {length}");
    (raw, data.payload)
}

/// Reads the rest slowly: its window grows by some of what it has read, again and again, for longer
/// than an idle connection stays, but without a pause in which it would count as not reading.
async fn read_slowly(mut raw: Raw, mut read: Vec<u8>) -> usize {
    let length = 5 + u32::from_be_bytes(read[1..5].try_into().expect("four bytes")) as usize;
    let mut allowed = 65_535;
    while allowed < length {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let more = (length - allowed).min(length / 12);
        let window = u32::try_from(more).expect("short").to_be_bytes();
        // Both may have been closed, which the reading tells.
        let windows = [frame(WINDOW_UPDATE, 0, 0, &window), frame(WINDOW_UPDATE, 0, 1, &window)];
        let _closed = raw.0.write_all(&windows.concat()).await;
        allowed += more;
        while read.len() < allowed {
            let data = raw.until(|frame| frame.kind == DATA).await;
            let data = data.unwrap_or_else(|| panic!("cut after {} of {length}", read.len()));
            read.extend(data.payload);
        }
    }
    raw.until(|frame| frame.ends(1)).await.expect("an end");
    read.len() - length
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_outlasts_the_drain() {
    let program = start("server.drain = { delay = \"0s\", timeout = \"25s\" }", &[]).await;
    let (raw, read) = begin_large(&program).await;
    program.signal("-TERM");
    assert_eq!(within("all of it", read_slowly(raw, read)).await, 0);
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_outlasts_the_age_of_its_connection() {
    let settings = "server.connections = { max_age = \"1s\", max_age_grace = \"1ms\" }";
    let program = start(settings, &[]).await;
    let (raw, read) = begin_large(&program).await;
    assert_eq!(within("all of it", read_slowly(raw, read)).await, 0);
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_loses_its_connection_to_no_newcomer() {
    let settings = "server.connections = { max = 1, handshake_timeout = \"25s\" }";
    let program = start(settings, &[]).await;
    let (raw, read) = begin_large(&program).await;
    let newcomer = async {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        raw.request(1, CHECK_HEALTH, "30S", &HealthCheckRequest::default()).await;
        raw.until(|frame| frame.ends(1)).await.expect("a place");
    };
    let both = async { tokio::join!(read_slowly(raw, read), newcomer) };
    assert_eq!(within("both", both).await.0, 0);
}
