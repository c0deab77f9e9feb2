mod read_by_clients;
mod told;

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    call::{
        FieldViolation, Obstacle, Outcome, Share, Stage, StoreTrouble, Unidentified, Unreadable,
        Untouched, Wait,
    },
    config::Override,
    reason::{self, ALL, Details, Retry},
    retcode::{LISTED, Retcode},
    rpc::about::About,
    state::AgentState,
};

fn about() -> About {
    let (tenant_id, agent_id) = ("acme".to_owned(), "1001".to_owned());
    About { method: "ccgateway.agent.v1.AgentState/SetBusy", tenant_id, agent_id }
}

fn to(about: &About, left: Option<Duration>) -> Recipient<'_> {
    Recipient { about, gateway: Some("gateway.example"), left }
}

fn refusal(retcode: &str) -> CallError {
    let retcode = Retcode::refusal(retcode).expect("a refusal");
    let node = Some("AgentGateway1".into());
    CallError::Refused(Refusal {
        retcode,
        message: "no right to invite".into(),
        node,
        http_status: 200,
    })
}

fn unreachable(causes: String) -> Obstacle {
    Obstacle::Unreachable { causes, retry_in: None }
}

fn not_sent(obstacle: Obstacle) -> CallError {
    Untouched::at_the_start().because(obstacle)
}

fn after_refusal(obstacle: Obstacle) -> CallError {
    let retcode = Retcode::refusal("000-003").expect("a refusal");
    let refusal = Refusal { retcode, message: "no such Guid".into(), node: None, http_status: 200 };
    Untouched::after(refusal).because(obstacle)
}

fn status(error: &CallError) -> Status {
    refuse(error, &to(&about(), None), &Overrides::default()).status
}

#[test]
fn no_library_is_told_to_wait_beyond_its_callers_deadline() {
    let error = not_sent(unreachable(String::new()));
    for (left, expected) in [
        (None, "1000"),
        (Some(Duration::from_secs(60)), "1000"),
        (Some(Duration::from_millis(1100)), "1000"),
        (Some(Duration::from_millis(1099)), "-1"),
        (Some(Duration::ZERO), "-1"),
    ] {
        let status = refuse(&error, &to(&about(), left), &Overrides::default()).status;
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        assert_eq!(pushback.and_then(|value| value.to_str().ok()), Some(expected), "{left:?}");
        let retry = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        assert_eq!(retry, Some(Duration::from_secs(1)), "the details stay");
    }
}

/// Code, reason, outcome, `RetryInfo` in milliseconds, and pushback.
type Seen = (Code, &'static str, &'static str, Option<u128>, Option<&'static str>);

#[track_caller]
fn check(error: &CallError, expected: Seen) {
    let status = status(error);
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo is in every error");
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|value| value.to_str().unwrap());
    let outcome = info.metadata["outcome"].as_str();
    let seen = (
        status.code(),
        info.reason.as_str(),
        outcome,
        retry.map(|delay| delay.as_millis()),
        pushback,
    );
    assert_eq!(seen, expected, "{error:?}: {}", status.message());
    assert_eq!(info.domain, "ccgateway-bridge");
    assert_eq!(info.metadata["gateway"], "gateway.example");
    assert_eq!(info.metadata["tenant_id"], "acme");
    assert_eq!(info.metadata["agent_id"], "1001");
    assert_eq!(info.metadata["method"], about().method);
}

fn busy(status: u16, retry_after: Option<u64>) -> CallError {
    CallError::GatewayBusy { status, retry_after: retry_after.map(Duration::from_secs) }
}

fn overloaded(share: Share) -> CallError {
    not_sent(Obstacle::Overloaded { share, limit: std::num::NonZeroUsize::MIN })
}

#[test]
fn every_limit_has_its_row() {
    for share in Share::ALL {
        let (reason, delay, pushback) = match share {
            Share::ServerCalls | Share::ServerReading | Share::ServerReflection => {
                ("SERVER_OVERLOADED", Some(500), Some("500"))
            }
            Share::ConnectionRequests => ("SERVER_OVERLOADED", Some(1000), Some("1000")),
            Share::TenantCalls
            | Share::CallerCalls
            | Share::TenantRequests
            | Share::HostRequests
            | Share::AgentQueue => ("TENANT_OVERLOADED", Some(500), Some("500")),
            Share::TenantSessions | Share::TenantWatches => ("TENANT_LIMIT_REACHED", None, None),
        };
        let row = (Code::ResourceExhausted, reason, "not_sent", delay, pushback);
        check(&overloaded(share), row);
    }
}

#[test]
fn every_outcome_has_its_row() {
    use Code::{DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound};
    use Code::{Unavailable, Unknown};
    let (unsent, refused, unknown) = ("not_sent", "refused", "unknown");
    let never = Some("-1");
    let text = String::new;

    check(
        &not_sent(Obstacle::Invalid(vec![])),
        (InvalidArgument, "INVALID_REQUEST", unsent, None, None),
    );
    check(&not_sent(Obstacle::TenantUnknown), (NotFound, "TENANT_UNKNOWN", unsent, None, None));
    check(
        &not_sent(Obstacle::SessionMissing),
        (FailedPrecondition, "SESSION_MISSING", unsent, None, None),
    );
    check(
        &not_sent(Obstacle::SessionNotFound),
        (NotFound, "SESSION_NOT_FOUND", unsent, None, None),
    );
    check(
        &not_sent(Obstacle::CredentialsMissing),
        (FailedPrecondition, "CREDENTIALS_MISSING", unsent, None, None),
    );
    check(
        &not_sent(unreachable(text())),
        (Unavailable, "GATEWAY_UNREACHABLE", unsent, Some(1000), Some("1000")),
    );
    check(&CallError::NoAnswer(text()), (Unknown, "GATEWAY_NO_ANSWER", unknown, None, never));
    for wait in [Wait::Request, Wait::Queue, Wait::Store, Wait::Connection, Wait::Watching] {
        check(
            &not_sent(Obstacle::Deadline(wait)),
            (DeadlineExceeded, "DEADLINE", unsent, None, None),
        );
    }
    for stage in [Stage::SignIn, Stage::Answer, Stage::Store] {
        check(&CallError::Deadline(stage), (DeadlineExceeded, "DEADLINE", unknown, None, never));
    }
    check(&busy(429, None), (Unavailable, "GATEWAY_BUSY", refused, Some(1000), Some("1000")));
    check(&busy(503, Some(7)), (Unavailable, "GATEWAY_BUSY", refused, Some(7000), Some("7000")));
    for (code, reason, outcome, pushback, statuses) in [
        (Unknown, "GATEWAY_PROXY_FAILED", unknown, never, &[408, 502, 503, 504][..]),
        (Internal, "GATEWAY_INTERFACE_MISSING", refused, None, &[404, 405]),
        (
            Internal,
            "GATEWAY_HTTP_STATUS",
            unknown,
            never,
            &[301, 400, 401, 403, 500, 501, 505, 599],
        ),
    ] {
        for &status in statuses {
            check(&CallError::HttpStatus { status }, (code, reason, outcome, None, pushback));
        }
    }
    for (answer, code, reason) in [
        (CallError::HttpStatus { status: 404 }, Code::Unimplemented, "INTERFACE_NOT_IN_EDITION"),
        (refusal("999-999"), Code::Unimplemented, "INTERFACE_NOT_IN_EDITION"),
        (refusal("000-002"), InvalidArgument, "GATEWAY_REJECTED_PARAMETER"),
    ] {
        let (interface, answer) = ("getAgentStatus", Box::new(answer));
        let error = CallError::NoSuchInterface { interface, answer };
        check(&error, (code, reason, refused, None, None));
    }
    check(&CallError::BadReply(text()), (Internal, "GATEWAY_BAD_REPLY", unknown, None, never));
    check(
        &not_sent(Obstacle::ShuttingDown),
        (Unavailable, "SHUTTING_DOWN", unsent, Some(1), Some("1")),
    );
    check(
        &not_sent(Obstacle::ConnectionAged),
        (Unavailable, "CONNECTION_AGED", unsent, Some(1), Some("1")),
    );
    check(
        &not_sent(Obstacle::StreamIdle(Duration::from_secs(60))),
        (Unavailable, "STREAM_IDLE", unsent, Some(1), Some("1")),
    );
    for trouble in [StoreTrouble::Silent, StoreTrouble::RefusesReads, StoreTrouble::RefusesWrites] {
        check(
            &not_sent(Obstacle::StoreUnavailable(trouble)),
            (Unavailable, "STORE_UNAVAILABLE", unsent, Some(1000), Some("1000")),
        );
    }
    check(&CallError::Internal, (Internal, "BRIDGE_FAILED", unknown, None, never));
}

#[test]
fn only_a_token_that_was_checked_is_called_bad() {
    use Code::{Unauthenticated, Unavailable};
    let caller = |why| not_sent(Obstacle::CallerUnknown(why));
    let bad = (Unauthenticated, "CALLER_UNKNOWN", "not_sent", None, None);
    for why in [Unidentified::Nothing, Unidentified::Key, Unidentified::Signature] {
        check(&caller(why), bad);
    }
    let unchecked = (Unavailable, "ISSUER_UNAVAILABLE", "not_sent", Some(10_000), Some("10000"));
    check(&caller(Unidentified::KeysMissing), unchecked);
}

#[test]
fn agents_who_have_to_be_signed_in_have_their_rows() {
    use Code::{DeadlineExceeded, FailedPrecondition, ResourceExhausted, Unavailable};
    let (unsent, refused, unknown, never) = ("not_sent", "refused", "unknown", Some("-1"));
    check(
        &not_sent(Obstacle::SignInsQueued { due_in: Duration::from_secs(38) }),
        (ResourceExhausted, "SIGN_INS_QUEUED", unsent, Some(38_000), never),
    );
    check(
        &after_refusal(Obstacle::SignInsQueued { due_in: Duration::from_secs(38) }),
        (ResourceExhausted, "SIGN_INS_QUEUED", refused, Some(38_000), never),
    );
    check(
        &after_refusal(Obstacle::Deadline(Wait::Queue)),
        (DeadlineExceeded, "DEADLINE", refused, None, None),
    );
    check(
        &after_refusal(CallError::Deadline(Stage::SignIn).into()),
        (DeadlineExceeded, "DEADLINE", unknown, None, never),
    );
    check(
        &not_sent(Obstacle::TakenOver { retry_in: Duration::from_secs(60) }),
        (FailedPrecondition, "AGENT_TAKEN_OVER", unsent, None, None),
    );
    check(
        &not_sent(Obstacle::GuidLost { retry_in: Duration::from_secs(20) }),
        (Unavailable, "SESSION_GUID_LOST", unsent, Some(20_000), Some("20000")),
    );
}

/// The statuses of retcodes that callers rely on. Every other retcode is reported unchanged.
fn assigned(retcode: &str) -> Seen {
    use Code::{Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument};
    use Code::{Unavailable, Unknown};
    let (code, reason, retry) = match retcode {
        "000-002" | "000-006" | "100-001" | "100-011" | "100-012" | "100-013" | "100-014"
        | "100-016" => (InvalidArgument, "GATEWAY_REJECTED_PARAMETER", None),
        "000-003" | "105-005" | "105-006" | "105-007" => {
            (FailedPrecondition, "SESSION_EXPIRED", None)
        }
        "100-006" | "100-008" => (FailedPrecondition, "AGENT_NOT_SIGNED_IN", None),
        "100-009" | "100-010" => (FailedPrecondition, "AGENT_STATE_REFUSED", None),
        "100-007" => (Internal, "GATEWAY_OPERATION_FAILED", None),
        "000-004" | "105-001" | "105-002" | "105-003" | "105-004" => {
            (Unavailable, "AGENT_SWITCHOVER", Some("5000"))
        }
        "000-007" | "100-021" => (Aborted, "OPERATION_IN_PROGRESS", Some("500")),
        "100-002" => (AlreadyExists, "AGENT_ALREADY_SIGNED_IN", None),
        "100-015" => (FailedPrecondition, "FORCE_NOT_ALLOWED", None),
        "100-003" => (Unavailable, "PLATFORM_UNAVAILABLE", Some("5000")),
        "100-004" | "100-017" | "100-020" => (FailedPrecondition, "CREDENTIALS_REJECTED", None),
        "110-016" | "110-021" => (FailedPrecondition, "ACCOUNT_LOCKED", None),
        _ => (Unknown, "UNLISTED_RETCODE", None),
    };
    (code, reason, "refused", retry.map(|ms| ms.parse().unwrap()), retry)
}

#[test]
fn every_listed_retcode_has_its_row_and_unlisted_ones_are_reported_as_they_came() {
    for retcode in LISTED.iter().map(|listed| listed.code).chain(["-1", "999-999", "OK"]) {
        check(&refusal(retcode), assigned(retcode));
        let details = status(&refusal(retcode)).get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["retcode"], retcode);
        assert_eq!(metadata["gateway_message"], "no right to invite");
        assert_eq!(metadata["gateway_node"], "AgentGateway1");
    }
}

/// Every obstacle that keeps a request from being sent.
fn obstacles() -> Vec<Obstacle> {
    let violation = FieldViolation { field: "agent_id", description: String::new() };
    let limit = std::num::NonZeroUsize::MIN;
    let mut obstacles = vec![
        Obstacle::Invalid(vec![violation]),
        Obstacle::TenantUnknown,
        Obstacle::RequestIdReused,
        Obstacle::RequestIdUnknown,
        Obstacle::SessionMissing,
        Obstacle::SessionNotFound,
        Obstacle::CredentialsMissing,
        unreachable(String::new()),
        Obstacle::Deadline(Wait::Queue),
        Obstacle::SignInsQueued { due_in: Duration::from_secs(38) },
        Obstacle::TakenOver { retry_in: Duration::from_secs(60) },
        Obstacle::GuidLost { retry_in: Duration::from_secs(20) },
        Obstacle::SignInWithoutGuid,
        Obstacle::InterfaceMissing { interface: "getAgentStatus", edition: "2014" },
        Obstacle::CallerUnknown(Unidentified::Nothing),
        Obstacle::CallerUnknown(Unidentified::KeysMissing),
        Obstacle::CallerNotAllowed,
        Obstacle::ShuttingDown,
        Obstacle::ConnectionAged,
        Obstacle::StreamIdle(Duration::from_secs(60)),
        Obstacle::StoreUnavailable(StoreTrouble::Silent),
    ];
    obstacles.extend(Share::ALL.map(|share| Obstacle::Overloaded { share, limit }));
    let unreadable = [
        Unreadable::MethodUnknown,
        Unreadable::Compressed("zstd".into()),
        Unreadable::TooLarge,
        Unreadable::Malformed(String::new()),
        Unreadable::BrokenOff,
        Unreadable::RefusedByHttp2(None),
        Unreadable::ContentType(String::new()),
        Unreadable::HttpMethod("GET".into()),
        Unreadable::Http1,
    ];
    obstacles.extend(unreadable.map(Obstacle::Unreadable));
    obstacles
}

/// An error of each kind. Each obstacle occurs before anything was sent, and after a refusal.
fn errors() -> Vec<CallError> {
    let text = String::new;
    let mut errors = vec![
        CallError::NoAnswer(text()),
        CallError::Deadline(Stage::Answer),
        CallError::BadReply(text()),
        CallError::Internal,
        busy(429, None),
    ];
    errors.extend([301, 401, 404, 500, 502].map(|status| CallError::HttpStatus { status }));
    let answer = Box::new(CallError::HttpStatus { status: 404 });
    errors.push(CallError::NoSuchInterface { interface: "getAgentStatus", answer });
    errors.extend([true, false].map(|not_applied| {
        let (state, cause) = (AgentState::Idle, Box::new(CallError::NoAnswer(text())));
        CallError::Observed { state, not_applied, cause }
    }));
    errors.extend(LISTED.iter().map(|listed| refusal(listed.code)));
    errors.extend(obstacles().into_iter().map(not_sent));
    errors.extend(obstacles().into_iter().map(after_refusal));
    errors
}

/// The detail of a status beside `ErrorInfo` and `RetryInfo`.
fn details_of(status: &Status) -> Details {
    let details = status.get_error_details();
    let known = [
        details.bad_request().map(|_| Details::BadRequest),
        details.quota_failure().map(|_| Details::Quota),
        details.precondition_failure().map(|unmet| {
            let kinds = ["SESSION", "SIGNED_IN", "SIGNED_OUT", "AGENT_STATE", "CREDENTIALS"];
            let kind = kinds.into_iter().find(|kind| *kind == unmet.violations[0].r#type);
            Details::Precondition(kind.expect("a known type"))
        }),
        details.resource_info().map(|resource| {
            let kinds = ["tenant", "session"];
            let kind = kinds.into_iter().find(|kind| *kind == resource.resource_type);
            Details::Resource(kind.expect("a known type"))
        }),
    ];
    let mut known = known.into_iter().flatten();
    let first = known.next().unwrap_or(Details::None);
    assert_eq!(known.next(), None, "one kind is enough");
    first
}

#[test]
fn every_error_is_as_the_table_of_reasons_has_it() {
    let mut seen = Vec::new();
    for error in errors() {
        let refused = refuse(&error, &to(&about(), None), &Overrides::default());
        let reason = reason::find(&refused.reason).expect("a reason of the table");
        let (status, outcome) = (refused.status, error.outcome());
        assert_eq!(status.code(), reason.code, "{}", reason.name);
        assert_eq!(details_of(&status), reason.details, "{}", reason.name);
        let has_delay = status.get_error_details().retry_info().is_some();
        let may_help = reason.retry != Retry::No && outcome != Outcome::Unknown;
        assert_eq!(has_delay, may_help, "{}", reason.name);
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        let pushback = pushback.map(|value| value.to_str().expect("a number") == "-1");
        let expected = match reason.retry {
            _ if outcome == Outcome::Unknown => Some(true),
            Retry::No => None,
            Retry::After => Some(false),
            Retry::AfterDeadline => Some(true),
        };
        assert_eq!(pushback, expected, "{}: whether libraries are told never", reason.name);
        seen.push((reason.name, outcome));
    }
    for reason in ALL {
        for outcome in reason.outcomes {
            assert!(seen.contains(&(reason.name, *outcome)), "{} {outcome:?}", reason.name);
        }
    }
    // After a refusal, neither the request nor its tenant is checked any more.
    let before_all = |(name, outcome): &(&str, Outcome)| {
        let reason = reason::find(name).expect("seen");
        *outcome == Outcome::Refused && reason.outcomes == [Outcome::NotSent]
    };
    seen.retain(|pair| !before_all(pair));
    for (name, outcome) in seen {
        let reason = reason::find(name).expect("seen");
        assert!(reason.outcomes.contains(&outcome), "{name} {outcome:?} is not in the table");
    }
}

#[test]
fn a_limit_that_is_reached_is_named() {
    for share in Share::ALL {
        let details = status(&overloaded(share)).get_error_details();
        let metadata = &details.error_info().expect("told").metadata;
        assert_eq!((&*metadata["share"], &*metadata["limit"]), (share.as_str(), "1"));
    }
}

#[test]
fn preconditions_quotas_and_resources_name_their_subject() {
    let details = status(&refusal("100-009")).get_error_details();
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!(
        (violation.r#type.as_str(), violation.subject.as_str()),
        ("AGENT_STATE", "tenants/acme/agents/1001")
    );

    let details = status(&overloaded(Share::TenantRequests)).get_error_details();
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "tenants/acme");

    let details = status(&not_sent(Obstacle::TenantUnknown)).get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("tenant", "acme")
    );

    let details = status(&not_sent(Obstacle::SessionNotFound)).get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("session", "tenants/acme/agents/1001")
    );
}

#[test]
fn the_operators_reading_comes_before_the_table() {
    let mut overrides = Overrides::default();
    let own = |retry_after| Override { code: 9, reason: "LICENCE".into(), retry_after };
    overrides.insert("999-001".into(), own(None));
    overrides.insert("100-009".into(), own(Some(Duration::from_secs(3))));
    for (retcode, retry) in [("999-001", None), ("100-009", Some(Duration::from_secs(3)))] {
        let refused = refuse(&refusal(retcode), &to(&about(), None), &overrides);
        assert_eq!(refused.status.code(), Code::FailedPrecondition);
        assert_eq!(refused.reason, "LICENCE");
        let details = refused.status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "LICENCE");
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), retry);
    }
}

proptest! {
    #[test]
    fn statuses_fit_into_trailers_whatever_the_gateway_says(
        text in "\\PC{0,3000}",
        retcode in "\\PC{0,300}",
        fields in 0..60_usize,
    ) {
        let violation = FieldViolation { field: "agent_id", description: text.clone() };
        let mut tried = Untouched::at_the_start();
        tried.tried(text.clone());
        let (share, limit) = (Share::HostRequests, std::num::NonZeroUsize::MIN);
        let mut errors = vec![
            not_sent(Obstacle::Invalid(vec![violation; fields])),
            not_sent(unreachable(text.clone())),
            tried.because(Obstacle::Overloaded { share, limit }),
            tried.because(Obstacle::TenantUnknown),
            tried.because(Obstacle::SessionMissing),
            CallError::BadReply(text.clone()),
        ];
        if let Some(retcode) = Retcode::refusal(&retcode) {
            let node = Some("n".repeat(32).into());
            errors.push(CallError::Refused(Refusal { retcode, message: text, node, http_status: 200 }));
        }
        for error in &errors {
            let status = status(error);
            prop_assert!(status.message().len() <= MESSAGE_MAX);
            prop_assert!(status.details().len() <= details::DETAILS_MAX);
            let decoded = pb::Status::decode(status.details());
            prop_assert_eq!(decoded.unwrap().message, status.message());
        }
    }
}
