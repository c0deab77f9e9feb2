use std::{num::NonZeroUsize, time::Duration};

use ccgateway_bridge::{
    call::{
        CallError, FieldViolation, Obstacle, Outcome, Refusal, Share, Stage, StoreTrouble,
        Unidentified, Unreadable, Wait, fuzzing::not_sent,
    },
    config::{Override, Overrides},
    gateway::Envelope,
    reason,
    retcode::{LISTED, Retcode},
    rpc::fuzzing::{STATUS_MAX, Told, status as status_of},
    state::AgentState,
};
use prost::Message as _;
use serde_json::json;
use tonic_types::{StatusExt as _, pb};

const METHOD: &str = "ccgateway.agent.v1.AgentState/CancelAfterCallWork";
const GUID: &str = "279fe21d-2caa-4437-84c3-ab9e9dae20f5";
/// gRPC clients are advised to accept so many bytes of trailers.
const TRAILERS_MAX: usize = 8 * 1024;

/// The status of a failed call. The first bytes choose the error and what the caller is; the others are the texts of
/// whoever has caused it, a line each.
///
/// It fits into trailers that every client accepts, it can be decoded, its code and its delay are those of its reason, its
/// outcome is the error's, no library repeats it if that is unknown, and no text in it can forge a line of a log or
/// has the secret part of a Guid.
pub fn status(data: &[u8]) {
    let Some(([kind, more, left], texts)) = data.split_first_chunk() else { return };
    let texts = String::from_utf8_lossy(texts);
    let texts: Vec<_> = texts.split('\n').collect();
    let text = |at: usize| texts.get(at).copied().unwrap_or_default();
    let left = Some(*left)
        .filter(|left| *left < 255)
        .map(|left| Duration::from_millis(20 * u64::from(left)));
    let told =
        Told { method: METHOD, ids: [text(1), text(2)], gateway: texts.get(3).copied(), left };
    let mut overrides = Overrides::default();
    let own = Override { code: 9, reason: "OWN".into(), retry_after: left };
    overrides.insert("999-999".into(), own);

    let error = error(*kind, usize::from(*more), text(0), text(4));
    let (status, reason) = status_of(&error, &told, &overrides);
    let [message_max, details_max] = STATUS_MAX;
    assert!(status.message().len() <= message_max, "{}", status.message().len());
    assert!(status.details().len() <= details_max, "{error:?}: {}", status.details().len());
    let decoded = pb::Status::decode(status.details()).expect("a status");
    assert_eq!((decoded.code, &*decoded.message), (status.code() as i32, status.message()));
    let details = status.get_error_details();
    let info = details.error_info().expect("in every error");
    assert_eq!(info.reason, reason);
    assert_eq!(info.metadata["outcome"], error.outcome().as_str());
    assert_eq!(status_of(&error, &told, &overrides).0.details(), status.details());

    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|value| value.to_str().expect("a number").parse::<i64>());
    let pushback = pushback.map(|value| value.expect("a number"));
    if error.outcome() == Outcome::Unknown {
        assert_eq!(pushback, Some(-1), "no library repeats it");
        assert!(details.retry_info().is_none());
    }
    if let (Some(delay), Some(left)) = (pushback.and_then(|ms| u64::try_from(ms).ok()), left) {
        assert!(Duration::from_millis(delay) <= left, "nobody waits so long");
    }
    match reason::find(&reason) {
        Some(listed) => assert_eq!(status.code(), listed.code),
        None => assert_eq!((&*reason, status.code() as i32), ("OWN", 9)),
    }

    let shown = info.metadata.values().map(String::as_str).chain([status.message()]);
    for text in shown {
        assert!(!text.contains(char::is_control), "{text:?}");
        let secret = GUID.as_bytes().windows(24).map(|part| str::from_utf8(part).expect("ASCII"));
        assert!(secret.into_iter().all(|part| !text.contains(part)), "{text:?}");
    }
    let response = status.into_http::<()>();
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + 32
    };
    let trailers: usize = response.headers().iter().map(line).sum();
    assert!(trailers <= TRAILERS_MAX, "{error:?}: {trailers} bytes of trailers");
}

fn error(kind: u8, more: usize, text: &str, other: &str) -> CallError {
    let sent = match kind % 16 {
        0 => CallError::NoAnswer(text.into()),
        1 => CallError::Deadline(
            [Stage::SignIn, Stage::Answer, Stage::ReadBack, Stage::Store][more % 4],
        ),
        2 => CallError::HttpStatus { status: u16::try_from(300 + more).unwrap_or(500) },
        3 => {
            let answer = if more.is_multiple_of(2) { refusal(more, text) } else { None };
            let answer = answer.map_or(CallError::HttpStatus { status: 404 }, CallError::Refused);
            CallError::NoSuchInterface { interface: "getAgentStatus", answer: answer.into() }
        }
        4 => CallError::GatewayBusy {
            status: [429, 503][more % 2],
            retry_after: Some(Duration::from_secs(u64::try_from(text.len() * more).unwrap_or(1))),
        },
        5 => CallError::BadReply(text.into()),
        6 => CallError::Observed {
            state: AgentState::from_code(i32::try_from(more).unwrap_or(0)),
            not_applied: more.is_multiple_of(2),
            cause: CallError::NoAnswer(text.into()).into(),
        },
        7 => CallError::Internal,
        8..=11 => refusal(more, text).map_or(CallError::Internal, CallError::Refused),
        _ => {
            let refused = refusal(more, other).filter(|_| kind.is_multiple_of(2));
            let tried = if kind % 16 < 14 { Vec::new() } else { vec![other.to_owned(); more % 4] };
            return not_sent(obstacle(more, text), refused, tried);
        }
    };
    if kind < 128 { sent } else { not_sent(Obstacle::from(sent), None, Vec::new()) }
}

/// A refusal, as it is read of a gateway's answer that has a Guid in it.
fn refusal(more: usize, text: &str) -> Option<Refusal> {
    let retcode = match LISTED.get(more % (LISTED.len() + 8)) {
        Some(listed) => listed.code,
        None if more.is_multiple_of(2) => "999-999",
        None => text,
    };
    let at = (0..=more).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let message = format!("{}{GUID}.Node1{}", &text[..at], &text[at..]);
    let body = json!({ "retcode": retcode, "message": message }).to_string();
    let refused: Option<Retcode> = Envelope::read(body.as_bytes(), None).ok()?.refused;
    let message = Envelope::read(body.as_bytes(), None).ok()?.message;
    let node = Some("n".repeat(more % 33).into());
    Some(Refusal { retcode: refused?, message, node, http_status: 200 })
}

fn obstacle(more: usize, text: &str) -> Obstacle {
    let time = Duration::from_millis(u64::try_from(more * text.len() * 10).unwrap_or(1));
    let limit = NonZeroUsize::new(more * more).unwrap_or(NonZeroUsize::MAX);
    match more % 24 {
        0 => {
            let violation = FieldViolation { field: "agent_ids", description: text.into() };
            Obstacle::Invalid(vec![violation; more / 4])
        }
        1 => Unreadable::Malformed(text.into()).into(),
        2 => Unreadable::Compressed(text.into()).into(),
        3 => Unreadable::ContentType(text.into()).into(),
        4 => Unreadable::HttpMethod(text.into()).into(),
        5 => Unreadable::RefusedByHttp2(Some(text.into())).into(),
        6 => Obstacle::CallerUnknown(Unidentified::Signature),
        7 => Obstacle::CallerUnknown(Unidentified::KeysMissing),
        8 => Obstacle::CallerNotAllowed,
        9 => Obstacle::TenantUnknown,
        10 => Obstacle::RequestIdReused,
        11 => Obstacle::InterfaceMissing { interface: "getAgentStatus", edition: "2014" },
        12 => Obstacle::SessionMissing,
        13 => Obstacle::SessionNotFound,
        14 => Obstacle::CredentialsMissing,
        15 => Obstacle::Unreachable { causes: text.into(), retry_in: Some(time) },
        16 => Obstacle::Deadline(Wait::Queue),
        17 | 18 => Obstacle::Overloaded { share: Share::ALL[text.len() % Share::ALL.len()], limit },
        19 => Obstacle::SignInsQueued { due_in: time },
        20 => Obstacle::TakenOver { retry_in: time },
        21 => Obstacle::StreamIdle(time),
        22 => Obstacle::StoreUnavailable(StoreTrouble::RefusesWrites),
        _ => Obstacle::SignInWithoutGuid,
    }
}
