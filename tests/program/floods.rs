//! Floods of cheap frames: they take little memory, and callers are
//! served in the meantime.

use std::time::Duration;

use ccgateway_test_support::{Program, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::OwnedWriteHalf,
    task::JoinSet,
    time::timeout,
};

use crate::raw::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, frame, request_head,
};

use crate::support::{register, start};

const PEERS: usize = 8;
/// What each of them sends at the most, in bytes.
const FLOOD: usize = 2 * 1024 * 1024;
/// For so long.
const TIME: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;
const CONTINUATION: u8 = 9;
const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// What a peer sends first, and then without an end.
struct Flood {
    what: &'static str,
    first: Vec<u8>,
    then: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
}

fn flood(
    what: &'static str,
    first: Vec<u8>,
    then: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
) -> Flood {
    Flood { what, first, then: Box::new(then) }
}

fn begun(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request_head(path, "60S"))
}

/// The number of the peer's stream that comes at this place.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn floods() -> Vec<Flood> {
    let one = 1_u32.to_be_bytes();
    let cancel = 8_u32.to_be_bytes();
    // A field with an empty name.
    let nameless = [0, 0, 1, b'x'];
    let long_message = [begun(1, SET_BUSY), frame(DATA, 0, 1, &[0, 0, 0, 0x40])].concat();
    vec![
        flood("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[])),
        flood("SETTINGS that change windows", vec![], |number| {
            let window = (number % 1000).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat())
        }),
        flood("PING", vec![], |_| frame(PING, 0, 0, b"whatever")),
        flood("WINDOW_UPDATE", vec![], move |_| frame(WINDOW_UPDATE, 0, 0, &one)),
        flood("WINDOW_UPDATE of a stream", begun(1, SET_BUSY), move |_| {
            frame(WINDOW_UPDATE, 0, 1, &one)
        }),
        flood("PRIORITY", vec![], |number| frame(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 9])),
        flood("empty DATA", begun(1, SET_BUSY), |_| frame(DATA, 0, 1, &[])),
        // Of a message of 16 KiB.
        flood("DATA of a byte", long_message, |_| frame(DATA, 0, 1, &[0])),
        flood("DATA that is padding", begun(1, SET_BUSY), |_| {
            frame(DATA, 8, 1, &[&[200][..], &[0; 200]].concat())
        }),
        flood("CONTINUATION", frame(HEADERS, 0, 1, &[]), |_| frame(CONTINUATION, 0, 1, &[])),
        flood("streams that are reset", vec![], move |number| {
            let reset = frame(RST_STREAM, 0, stream(number), &cancel);
            [begun(stream(number), CHECK_HEALTH), reset].concat()
        }),
        flood("RST_STREAM of one stream", begun(1, SET_BUSY), move |_| {
            frame(RST_STREAM, 0, 1, &cancel)
        }),
        flood("streams with bad headers", vec![], move |number| {
            frame(HEADERS, END_HEADERS, stream(number), &nameless)
        }),
        flood("streams beyond the limit", vec![], |number| begun(stream(number), SET_BUSY)),
        flood("frames of no known type", vec![], |_| frame(0xfe, 0, 0, &[0; 16])),
    ]
}

/// Those that cost their sender nothing, and open no stream.
fn without_progress() -> Vec<Flood> {
    let is_one = |flood: &Flood| {
        let opens =
            ["streams that are reset", "streams with bad headers", "streams beyond the limit"];
        !opens.contains(&flood.what)
    };
    floods().into_iter().filter(is_one).collect()
}

/// Sends and does not read, until it has sent enough, time is over, or the bridge closes.
async fn send(mut raw: Raw, flood: &Flood) -> Raw {
    let sending = async {
        let mut sent = flood.first.len();
        let _cut = raw.0.write_all(&flood.first).await;
        let mut number = 0;
        while sent < FLOOD {
            let some: Vec<u8> = (number..number + 100).flat_map(&flood.then).collect();
            number += 100;
            sent += some.len();
            if raw.0.write_all(&some).await.is_err() {
                return;
            }
        }
    };
    let _still_sending = timeout(TIME, sending).await;
    raw
}

#[tokio::test]
async fn floods_take_little_memory_and_keep_no_caller_out() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let mut caller = Raw::connect(program.grpc, &[]).await;
    let mut call = 1;
    for one in floods() {
        let before = program.peak_memory();
        let one = std::sync::Arc::new(one);
        let mut peers = JoinSet::new();
        for _ in 0..PEERS {
            let raw = Raw::connect(program.grpc, &[]).await;
            let one = one.clone();
            peers.spawn(async move { send(raw, &one).await });
        }
        while peers.try_join_next().is_none() {
            let check = tonic_health::pb::HealthCheckRequest::default();
            caller.request(call, CHECK_HEALTH, "30S", &check).await;
            let answered = within(one.what, caller.until(|frame| frame.ends(call))).await;
            assert!(answered.is_some(), "{}: a caller was cut", one.what);
            call += 2;
        }
        // Not closed before the memory has been looked at.
        let _peers = peers.join_all().await;
        let taken = program.peak_memory().saturating_sub(before) / MIB;
        println!("{}: {taken} MiB", one.what);
        assert!(taken < 16, "{}: {taken} MiB", one.what);
    }
}

/// Sends until the bridge closes.
async fn send_for_ever(write: &mut OwnedWriteHalf, flood: &Flood) {
    let mut sent = write.write_all(&flood.first).await;
    let mut number = 0;
    while sent.is_ok() {
        let some: Vec<u8> = (number..number + 10).flat_map(&flood.then).collect();
        number += 10;
        sent = write.write_all(&some).await;
    }
}

#[tokio::test]
async fn a_flood_without_progress_ends_with_a_goaway_and_is_counted() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let mut ended = 0;
    for one in without_progress() {
        let raw = Raw::connect(program.grpc, &[]).await;
        let (mut read, mut write) = raw.0.into_split();
        let sending = send_for_ever(&mut write, &one);
        let mut said = Vec::new();
        let reading = async { drop(read.read_to_end(&mut said).await) };
        within(one.what, async { tokio::join!(sending, reading) }).await;
        let calm = goaways(&said).contains(&ENHANCE_YOUR_CALM);
        assert!(calm, "{}: {:?}", one.what, goaways(&said));
        let words = b"too many frames without progress";
        let ended_here = said.windows(words.len()).any(|some| some == words);
        // h2 itself may end these first.
        let by_h2 = one.what.contains("DATA") || one.what == "CONTINUATION";
        assert!(ended_here || by_h2, "{}", one.what);
        ended += u64::from(ended_here);
        assert_eq!(count_of_floods(&program).await, ended, "{}", one.what);
    }
}

async fn count_of_floods(program: &Program) -> u64 {
    let (_, metrics) = program.ask("GET /metrics", "").await;
    let start = "ccgw_connections_turned_away_total{cause=\"flood\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(start));
    count.expect("exported").parse().expect("a number")
}

/// The reasons of all GOAWAYs.
fn goaways(mut said: &[u8]) -> Vec<u32> {
    let mut reasons = Vec::new();
    while let Some(([a, b, c, kind, ..], rest)) = said.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, next) = rest.split_at_checked(length).expect("a whole frame");
        if *kind == GOAWAY {
            reasons.push(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
        }
        said = next;
    }
    reasons
}

/// Thousands of frames that belong to calls are no flood: here those that a talkative library sends
/// around each of a thousand calls.
#[tokio::test]
async fn a_busy_caller_is_not_taken_for_a_flood() {
    const AT_ONCE: u32 = 50;
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    let check = tonic_health::pb::HealthCheckRequest::default();
    let one = 1_u32.to_be_bytes();
    for batch in 0..20 {
        let ids = (batch * AT_ONCE..(batch + 1) * AT_ONCE).map(stream);
        for id in ids.clone() {
            raw.request(id, CHECK_HEALTH, "30S", &check).await;
            for of in [0, id] {
                raw.send(WINDOW_UPDATE, 0, of, &one).await;
            }
            raw.send(PING, 0, 0, b"measures").await;
        }
        for _ in ids {
            let answer = raw.until(|frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0);
            assert!(within("an answer", answer).await.is_some(), "cut in batch {batch}");
        }
    }
    assert_eq!(count_of_floods(&program).await, 0);
}

/// A caller may cancel many calls at once, before the bridge has looked at them.
#[tokio::test]
async fn calls_that_are_cancelled_at_once_cost_no_other_call_its_connection() {
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    let cancel = 8_u32.to_be_bytes();
    let cancelled = (0..300).flat_map(|number| {
        let id = stream(number);
        [begun(id, CHECK_HEALTH), frame(RST_STREAM, 0, id, &cancel)].concat()
    });
    raw.write(&cancelled.collect::<Vec<_>>()).await;
    let check = tonic_health::pb::HealthCheckRequest::default();
    raw.request(stream(300), CHECK_HEALTH, "30S", &check).await;
    let answer = raw.until(|frame| frame.stream == stream(300) && frame.flags & END_STREAM != 0);
    assert!(within("an answer", answer).await.is_some(), "the connection was ended");
    assert_eq!(count_of_floods(&program).await, 0);
}
