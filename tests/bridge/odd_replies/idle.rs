//! Connections that are about to be closed: hints, and bytes that nobody asked for.

use std::time::Duration;

use ccgateway_test_support::{
    AGENT,
    raw_gateway::{RawGateway, Step, accepting},
};

use super::{Case, Told, accepted, check, check_one, last, signed_in_at};

/// A connection that is idle for longer is looked at before it is used again.
const REST: Duration = Duration::from_millis(20);

fn hint(hint: &str) -> Vec<u8> {
    accepting(&format!("Connection: keep-alive\r\nKeep-Alive: {hint}\r\n"))
}

/// Each of them says that the connection may be used again, and for how long.
fn hints() -> Vec<Case> {
    let closing = |name, text| last(name, hint(text), Step::Pause(Duration::ZERO), Told::Accepted);
    vec![
        accepted("a minute", hint("timeout=60")),
        accepted("a minute and many", hint("timeout=60, max=100")),
        accepted("quotes and capitals", hint(" Timeout = \"60\" ; MAX='5'")),
        accepted("a huge time", hint("timeout=99999999999999999999, max=99999999999999999999")),
        accepted("a number alone", hint("300")),
        accepted("one more", hint("max=1")),
        accepted("nonsense", hint("timeout=soon, max=, =, ;, 5ms, timeout")),
        accepted("a negative time", hint("timeout=-1")),
        accepted("nothing", hint("")),
        closing("no time", "timeout=0"),
        closing("no more", "timeout=60, max=0"),
        closing("quotes and no time", "TIMEOUT=\"0\""),
        closing("a part of a second", "timeout=0.5"),
        closing("the shorter of two", "timeout=60, timeout=0"),
    ]
}

#[tokio::test]
async fn a_connection_is_used_again_only_if_the_gateway_keeps_it() {
    check("", hints).await;
}

#[tokio::test]
async fn a_connection_carries_as_many_requests_as_the_gateway_lets_it() {
    let gateway = RawGateway::plain().await;
    let bridge = signed_in_at(&gateway, "").await;
    gateway.script([Step::Send(hint("max=2"))]);
    for _ in 0..4 {
        bridge.set_busy(AGENT).await.expect("accepted");
    }
    let got = gateway.got();
    let first = got[0].connection;
    let connections: Vec<_> = got.iter().map(|got| got.connection - first).collect();
    assert_eq!(connections, [0, 0, 0, 0, 1], "the sign-in, the hint, two more, and another");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_belongs_to_no_call() {
    const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\
                           Content-Length: 0\r\n\r\n";
    let other = accepting("");
    for gateway in [RawGateway::plain().await, RawGateway::tls().await] {
        let bridge = signed_in_at(&gateway, "").await;
        for (name, unasked, then) in [
            ("408 and the end", TIMEOUT.into(), Step::End),
            ("408 and a cut", TIMEOUT.into(), Step::Close),
            ("408 that stays open", TIMEOUT.into(), Step::Hang),
            ("a second answer", other.clone(), Step::Hang),
            ("a line break", b"\r\n".to_vec(), Step::Hang),
        ] {
            let answer = [Step::Send(accepting("")), Step::Pause(REST)];
            gateway.script([&answer[..], &[Step::Send(unasked), Step::Tell, then]].concat());
            bridge.set_busy(AGENT).await.expect("accepted");
            gateway.told().await;
            let plain = Case {
                name,
                script: vec![Step::Send(accepting(""))],
                told: Told::Accepted,
                reused: true,
            };
            check_one(&bridge, &gateway, plain).await;
        }
    }
}
