//! Answers as servers and proxies really write them. What does not have to matter does not matter.
//!
//! `odd_replies/` has the corpus, a file for each kind, and README.md, which lists the kinds.

mod codings;
mod cookies;
mod ends;
mod guids;
mod heads;
mod idle;
mod interim;
mod waits;

use std::time::Duration;

use ccgateway_bridge::rpc::proto::SetBusyResponse;
use ccgateway_test_support::{
    AGENT, Refusal, Setup, TestBridge,
    raw_gateway::{RawGateway, Step},
};
use tonic::{Code, Status};

/// One odd answer to a `SetBusy`.
struct Case {
    name: &'static str,
    script: Vec<Step>,
    told: Told,
    /// Whether the next call uses the same connection.
    reused: bool,
}

/// What the caller is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Accepted,
    /// The gateway refused with this retcode.
    Refused(String),
    /// A proxy refused by its HTTP status. The caller is asked to wait for so many milliseconds.
    Busy(u64),
    /// The outcome is unknown. Has the code, the reason, and a part of the message.
    Unknown(Code, &'static str, &'static str),
}

/// No complete answer came.
fn unanswered(says: &'static str) -> Told {
    Told::Unknown(Code::Unknown, "GATEWAY_NO_ANSWER", says)
}

/// An answer without a readable retcode.
fn unreadable(says: &'static str) -> Told {
    Told::Unknown(Code::Internal, "GATEWAY_BAD_REPLY", says)
}

/// An answer with only an HTTP status that says nothing about the agent.
fn only_status(says: &'static str) -> Told {
    Told::Unknown(Code::Internal, "GATEWAY_HTTP_STATUS", says)
}

/// Accepted, and the connection is used again.
fn accepted(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    told(name, bytes, Told::Accepted)
}

/// As `told`, and the connection is used again.
fn told(name: &'static str, bytes: impl Into<Vec<u8>>, told: Told) -> Case {
    Case { name, script: vec![Step::Send(bytes.into())], told, reused: true }
}

/// As `told`, and the connection is not used again, whatever comes after the bytes.
fn last(name: &'static str, bytes: impl Into<Vec<u8>>, then: Step, told: Told) -> Case {
    Case { name, script: vec![Step::Send(bytes.into()), then], told, reused: false }
}

/// A bridge whose tenant has this gateway, and whose agent is signed in.
async fn signed_in_at(gateway: &RawGateway, tenant: &str) -> TestBridge {
    let tenant = format!("tls.insecure_skip_verify = true\nread_back = false\n{tenant}");
    let base_url = Some(gateway.base_url());
    let bridge = TestBridge::with(Setup { tenant, base_url, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge
}

/// Plays the cases with TLS and without.
async fn check(tenant: &str, cases: fn() -> Vec<Case>) {
    for gateway in [RawGateway::plain().await, RawGateway::tls().await] {
        let bridge = signed_in_at(&gateway, tenant).await;
        for case in cases() {
            check_one(&bridge, &gateway, case).await;
        }
    }
}

async fn check_one(bridge: &TestBridge, gateway: &RawGateway, case: Case) {
    let name = case.name;
    let before = gateway.got().len();
    gateway.script(case.script);
    let result = bridge.set_busy(AGENT).await;
    assert_eq!(gateway.got().len(), before + 1, "{name}: it is never repeated, {result:?}");
    assert_told(name, result, &case.told);

    bridge.set_busy(AGENT).await.unwrap_or_else(|status| panic!("after {name}: {status:?}"));
    let got = gateway.got();
    let reused = got[before].connection == got[before + 1].connection;
    assert_eq!(reused, case.reused, "{name}: whether the connection is used again");
}

#[track_caller]
fn assert_told(name: &str, result: Result<SetBusyResponse, Status>, expected: &Told) {
    let refusal = match (result, expected) {
        (Ok(answer), expected) => {
            assert_eq!((expected, answer.retcode.as_str()), (&Told::Accepted, "0"), "{name}");
            return;
        }
        (Err(status), _) => Refusal::from(status),
    };
    let Refusal { code, reason, metadata, message, .. } = &refusal;
    let outcome = metadata["outcome"].as_str();
    let seen = match outcome {
        "unknown" => {
            let Told::Unknown(.., says) = expected else {
                panic!("{name}: {expected:?} was expected: {refusal:?}")
            };
            assert!(message.contains(says), "{name}: {message}");
            assert_eq!(refusal.pushback.as_deref(), Some("-1"), "{name}");
            let Told::Unknown(wanted_code, wanted_reason, _) = expected else { return };
            assert_eq!((code, reason.as_str()), (wanted_code, *wanted_reason), "{name}: {message}");
            return;
        }
        "refused" => metadata.get("retcode").map_or("", String::as_str),
        other => panic!("{name}: outcome {other}: {message}"),
    };
    match expected {
        Told::Refused(retcode) => assert_eq!(seen, retcode, "{name}"),
        Told::Busy(millis) => {
            assert_eq!((*code, reason.as_str()), (Code::Unavailable, "GATEWAY_BUSY"), "{name}");
            let delay = refusal.details.retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, Some(Duration::from_millis(*millis)), "{name}");
            assert_eq!(refusal.pushback, Some(millis.to_string()), "{name}");
        }
        other => panic!("{name}: {other:?} was expected: {refusal:?}"),
    }
}
