//! Interim answers (HTTP 1xx), of which there may be some before the answer.

use ccgateway_test_support::{
    AGENT,
    raw_gateway::{RawGateway, Step, accepting},
};

use super::{Case, accepted, assert_told, check, last, only_status, signed_in_at, unanswered};

fn after(interim: &str) -> Vec<u8> {
    [interim.as_bytes(), &accepting("")].concat()
}

fn cases() -> Vec<Case> {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n";
    vec![
        accepted("100", after("HTTP/1.1 100 Continue\r\n\r\n")),
        accepted("100 without a phrase", after("HTTP/1.1 100\r\n\r\n")),
        accepted("102 in lower case", after("http/1.1 102 processing\n\n")),
        accepted("some of each", after(&format!("HTTP/1.1 102 Processing\r\n\r\n{hint}{hint}"))),
        accepted("an unknown one", after("HTTP/1.1 199 Odd\r\n\r\n")),
        accepted("a hundred", after(&hint.repeat(100))),
        last("a hundred and one", after(&hint.repeat(101)), Step::Hang, {
            unanswered("100 interim answers (HTTP 1xx)")
        }),
        last("one that is too long", "HTTP/1.1 103 x\r\n", Step::Flood(b"X: y\r\n".repeat(99)), {
            unanswered("64 KiB")
        }),
        last("one, and the end", hint, Step::Close, unanswered("closed")),
        last("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", Step::Hang, {
            only_status("101")
        }),
        last("101 and an answer", after("HTTP/1.1 101 x\r\n\r\n"), Step::Hang, only_status("101")),
        last("a flood", hint, Step::Flood(hint.repeat(50).into()), {
            unanswered("100 interim answers (HTTP 1xx)")
        }),
    ]
}

#[tokio::test]
async fn interim_answers_do_not_matter_until_there_are_too_many() {
    check("", cases).await;
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_not_read() {
    let gateway = RawGateway::plain().await;
    let bridge = signed_in_at(&gateway, "").await;
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    gateway.script([Step::Flood(hint.repeat(100).into())]);
    let result = bridge.set_busy(AGENT).await;
    assert_told("a flood", result, &unanswered("100 interim answers (HTTP 1xx)"));
    // What the bridge reads at once, and what the kernel holds, but no more.
    assert!(gateway.flooded() < 16 << 20, "{} bytes", gateway.flooded());
}
