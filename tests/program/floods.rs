//! Floods of cheap frames end their connections. A caller that is only busy is no flood.

mod kinds;
mod measured;

use ccgateway_bridge::rpc::proto::health::HealthCheckRequest;
use ccgateway_test_support::{Program, within};
use tokio::io::AsyncReadExt as _;

use self::kinds::{CHECK_HEALTH, begun, floods, stream};
use crate::{
    raw::{DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, WINDOW_UPDATE, frame},
    support::{register, start, turned_away},
};

#[tokio::test]
async fn a_flood_ends_with_a_goaway_and_is_counted() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let mut ended = 0;
    for one in floods() {
        let raw = Raw::connect(program.grpc, &[]).await;
        let (mut read, mut write) = raw.0.into_split();
        let sending = one.send(&mut write);
        let mut said = Vec::new();
        let reading = async { drop(read.read_to_end(&mut said).await) };
        within(one.what, async { tokio::join!(sending, reading) }).await;
        let calm = goaways(&said).contains(&ENHANCE_YOUR_CALM);
        assert!(calm, "{}: {:?}", one.what, goaways(&said));
        let has_said = |words: &[u8]| said.windows(words.len()).any(|some| some == words);
        let ended_here =
            has_said(b"too many frames without progress") || has_said(b"too many resets a second");
        // h2 itself may end these first.
        let by_h2 = ["DATA", "CONTINUATION", "streams"].iter().any(|kind| one.what.contains(kind));
        assert!(ended_here || by_h2, "{}", one.what);
        ended += u64::from(ended_here);
        assert_eq!(count_of_floods(&program).await, ended, "{}", one.what);
    }
}

async fn count_of_floods(program: &Program) -> u64 {
    turned_away(program, "flood").await + turned_away(program, "reset_flood").await
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
    let check = HealthCheckRequest::default();
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
    let check = HealthCheckRequest::default();
    raw.request(stream(300), CHECK_HEALTH, "30S", &check).await;
    let answer = raw.until(|frame| frame.stream == stream(300) && frame.flags & END_STREAM != 0);
    assert!(within("an answer", answer).await.is_some(), "the connection was ended");
    assert_eq!(count_of_floods(&program).await, 0);
}

/// Most libraries send the message of a call after its head, and its end after that. A refusal may be there
/// before both.
#[tokio::test]
async fn calls_that_are_refused_before_their_message_comes_cost_no_other_call_its_connection() {
    const AT_ONCE: u32 = 20;
    const BATCHES: u32 = 100;
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    for batch in 0..BATCHES {
        let ids = (batch * AT_ONCE..(batch + 1) * AT_ONCE).map(stream);
        let heads = ids.clone().flat_map(|id| begun(id, "/nobody/Knows"));
        raw.write(&heads.collect::<Vec<_>>()).await;
        for _ in ids.clone() {
            let refusal = raw.until(|frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0);
            assert!(within("a refusal", refusal).await.is_some(), "cut in batch {batch}");
        }
        let messages = ids.flat_map(|id| {
            [frame(DATA, 0, id, &[0; 30]), frame(DATA, END_STREAM, id, &[])].concat()
        });
        raw.write(&messages.collect::<Vec<_>>()).await;
    }
    let last = stream(BATCHES * AT_ONCE);
    raw.request(last, CHECK_HEALTH, "30S", &HealthCheckRequest::default()).await;
    let answer = raw.until(|frame| frame.kind == DATA && frame.stream == last);
    assert!(within("an answer", answer).await.is_some(), "the connection was ended");
}
