//! What happened, as a gRPC status: the one table.

use std::time::Duration;

use tonic::{Code, Status};

use super::{
    details::{self, MESSAGE_MAX},
    record::{About, visible},
};
use crate::{
    call::{CallError, FieldViolation, Obstacle, Refusal, Share, Unreadable, Wait},
    retcode::{Kind, Overrides},
};

/// A status as it goes to the caller, with the reason that its details give.
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) reason: String,
}

/// One row of the table.
pub(super) struct Row<'a> {
    pub(super) code: Code,
    pub(super) reason: &'a str,
    pub(super) more: More<'a>,
    /// What the caller can do; completes the message.
    advice: &'static str,
}

/// The details beside `ErrorInfo`.
#[derive(Clone, Copy)]
pub(super) enum More<'a> {
    Nothing,
    BadRequest(&'a [FieldViolation]),
    /// The type of the precondition that is not met.
    Precondition(&'static str),
    RetryAfter(Duration),
    /// The same where that is after the caller's deadline, whether or not the caller says when
    /// that is.
    NotBefore(Duration),
    UnknownTenant,
    Quota(Share),
}

/// When another attempt may find a free place or turn.
pub(super) const SHORTLY: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

/// The table. Callers rely on every code and reason in it.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn row(error: &CallError) -> Row<'_> {
    use Code::{DeadlineExceeded, Internal, Unavailable, Unknown};
    use More::{Nothing, RetryAfter};

    const LOOK: &str = "the agent may have changed: look before trying again";
    let (code, reason, more, advice) = match error {
        CallError::NotSent(unsent)      => return obstacle(unsent.obstacle(), "nothing was sent"),
        CallError::Refused(refusal)     => refused(refusal.retcode.kind()),
        CallError::AfterRefusal(_, unsent) => return obstacle(unsent.obstacle(), "the agent is as it was"),
        CallError::NoAnswer(_)          => (Unknown, "GATEWAY_NO_ANSWER", Nothing, LOOK),
        CallError::Deadline(_)          => (DeadlineExceeded, "DEADLINE", Nothing, ""),
        CallError::GatewayBusy { retry_after, .. }
                                        => (Unavailable, "GATEWAY_BUSY", RetryAfter(retry_after.unwrap_or(SOON)), "the request was not carried out: try again then"),
        CallError::HttpStatus { status } => http_status(*status),
        CallError::BadReply(_)          => (Internal, "GATEWAY_BAD_REPLY", Nothing, LOOK),
        CallError::Internal             => (Internal, "BRIDGE_FAILED", Nothing, LOOK),
    };
    Row { code, reason, more, advice }
}

/// The table's rows for what keeps a request from being sent, or from being sent again. `so` says
/// what that means for the agent.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn obstacle<'a>(obstacle: &'a Obstacle, so: &'static str) -> Row<'a> {
    use Code::{DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound};
    use Code::{ResourceExhausted, Unavailable};
    use More::{BadRequest, Nothing, NotBefore, Precondition, Quota, RetryAfter, UnknownTenant};

    let (code, reason, more, advice) = match obstacle {
        Obstacle::Invalid(fields)       => (InvalidArgument, "INVALID_REQUEST", BadRequest(fields), "see the field violations"),
        Obstacle::Unreadable(why)       => unreadable(why),
        Obstacle::TenantUnknown         => (NotFound, "TENANT_UNKNOWN", UnknownTenant, "check tenant_id"),
        Obstacle::SessionMissing        => (FailedPrecondition, "SESSION_MISSING", Precondition("SESSION"), ""),
        Obstacle::CredentialsMissing    => (FailedPrecondition, "CREDENTIALS_MISSING", Precondition("CREDENTIALS"), "give the password"),
        Obstacle::Unreachable(_)        => (Unavailable, "GATEWAY_UNREACHABLE", RetryAfter(SOON), so),
        Obstacle::Deadline(Wait::Watching)
                                        => (DeadlineExceeded, "DEADLINE", Nothing, ""),
        Obstacle::Deadline(_)           => (DeadlineExceeded, "DEADLINE", Nothing, so),
        Obstacle::Overloaded { share: share @ (Share::ServerCalls | Share::ServerReading | Share::ServerReflection), .. }
                                        => (ResourceExhausted, "SERVER_OVERLOADED", Quota(*share), "try again shortly"),
        Obstacle::Overloaded { share, .. }
                                        => (ResourceExhausted, "TENANT_OVERLOADED", Quota(*share), "try again shortly"),
        Obstacle::SignInsQueued { due_in }
                                        => (ResourceExhausted, "SIGN_INS_QUEUED", NotBefore(*due_in), "the agent keeps its place: try again then"),
        Obstacle::TakenOver { .. }      => (FailedPrecondition, "AGENT_TAKEN_OVER", Precondition("SESSION"), "stop the other client, or take the agent over with SignIn and force"),
        Obstacle::SignInWithoutGuid     => (FailedPrecondition, "SIGN_IN_WITHOUT_GUID", Precondition("SESSION"), "ask whoever runs the bridge: a proxy may take off Set-GUID, and a gateway without Guids needs auth_mode = \"none\""),
        Obstacle::ShuttingDown          => (Unavailable, "SHUTTING_DOWN", RetryAfter(Duration::ZERO), "try again at once"),
        Obstacle::ConnectionAged        => (Unavailable, "CONNECTION_AGED", RetryAfter(Duration::ZERO), "go on with a new connection; a watch goes on after the last sequence"),
        Obstacle::StoreUnavailable(_)   => (Unavailable, "STORE_UNAVAILABLE", RetryAfter(SOON), "try again shortly"),
        Obstacle::Tried { then, .. }    => return self::obstacle(then, so),
        Obstacle::Unprepared(error)     => return row(error),
    };
    Row { code, reason, more, advice }
}

/// The table's rows for requests that no method has seen.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn unreadable(why: &Unreadable) -> (Code, &'static str, More<'static>, &'static str) {
    use More::Nothing;

    match why {
        Unreadable::MethodUnknown => (Code::Unimplemented, "METHOD_UNKNOWN", Nothing, "compare the caller's proto with the bridge's"),
        Unreadable::Compressed    => (Code::Unimplemented, "COMPRESSION_UNSUPPORTED", Nothing, "send it uncompressed"),
        Unreadable::TooLarge      => (Code::OutOfRange, "MESSAGE_TOO_LARGE", Nothing, "send less at once"),
        Unreadable::Malformed(_)  => (Code::Internal, "MESSAGE_MALFORMED", Nothing, "compare the caller's proto with the bridge's"),
        Unreadable::BrokenOff     => (Code::Cancelled, "REQUEST_BROKEN_OFF", Nothing, ""),
        Unreadable::RefusedByHttp2 => (Code::Internal, "HTTP2_REFUSED", Nothing, ""),
        Unreadable::NotGrpc(_)    => (Code::Unknown, "NOT_GRPC", Nothing, "call it with gRPC"),
    }
}

/// The table's rows for answers without an envelope.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn http_status(status: u16) -> (Code, &'static str, More<'static>, &'static str) {
    let (code, advice) = match status {
        300..=399 => (Code::Internal, "it sends the bridge elsewhere, as to a login page: check the tenant's base_urls; the agent may have changed"),
        401 | 403 => (Code::Internal, "something before the gateway wants to know who asks: check the tenant's base_urls and tls.client_certificate; the agent may have changed"),
        404 | 405 => (Code::Internal, "there is no such interface: check the tenant's base_urls; an older gateway may not have it"),
        408 | 502..=504 => (Code::Unknown, "a proxy says so, and the gateway may have acted: look before trying again"),
        _         => (Code::Internal, "check the tenant's base_urls; the agent may have changed: look before trying again"),
    };
    (code, "GATEWAY_HTTP_STATUS", More::Nothing, advice)
}

/// The table's rows for the gateway's own refusals.
#[rustfmt::skip] // one row a line, so that the table reads as a table
fn refused(kind: Kind) -> (Code, &'static str, More<'static>, &'static str) {
    use Code::{Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument};
    use Code::{Unavailable, Unknown};
    use More::{Nothing, Precondition, RetryAfter};

    match kind {
        Kind::ParameterRejected   => (InvalidArgument, "GATEWAY_REJECTED_PARAMETER", Nothing, "correct the request"),
        Kind::SessionExpired      => (FailedPrecondition, "SESSION_EXPIRED", Precondition("SESSION"), "sign the agent in again or register its new Guid"),
        Kind::AgentNotSignedIn    => (FailedPrecondition, "AGENT_NOT_SIGNED_IN", Precondition("SIGNED_IN"), "sign the agent in first"),
        Kind::StateRefused        => (FailedPrecondition, "AGENT_STATE_REFUSED", Precondition("AGENT_STATE"), "the agent must be in a state that allows it"),
        Kind::OperationFailed     => (Internal, "GATEWAY_OPERATION_FAILED", Nothing, "ask whoever runs the gateway"),
        Kind::Switchover          => (Unavailable, "AGENT_SWITCHOVER", RetryAfter(LATER), "try again when the switch-over is done"),
        Kind::CallRepeated        => (Aborted, "CALL_REPEATED", RetryAfter(SHORTLY), "another call for this agent was open; try again"),
        Kind::AlreadySignedIn     => (AlreadyExists, "AGENT_ALREADY_SIGNED_IN", Nothing, "register its Guid, or sign in with force to take the agent over"),
        Kind::PlatformUnavailable => (Unavailable, "PLATFORM_UNAVAILABLE", RetryAfter(LATER), "try again later"),
        Kind::CredentialsRejected => (FailedPrecondition, "CREDENTIALS_REJECTED", Precondition("CREDENTIALS"), "correct the agent's password before trying again"),
        Kind::AccountLocked       => (FailedPrecondition, "ACCOUNT_LOCKED", Precondition("CREDENTIALS"), "whoever runs the platform has to unlock the account"),
        Kind::Unlisted            => (Unknown, "UNLISTED_RETCODE", Nothing, "the operator can map it under [retcodes]"),
    }
}

/// The status of a failed call; the operator's own reading of a retcode comes before the table.
/// `left` is what the caller has left until its deadline; `None`: it has none.
pub(super) fn refuse(
    error: &CallError,
    about: &About,
    overrides: &Overrides,
    left: Option<Duration>,
) -> Refused {
    let mut row = row(error);
    if let Some(own) = error.refusal().and_then(|refusal| overrides.get(&refusal.retcode)) {
        row = Row {
            code: Code::from_i32(own.code.into()),
            reason: &own.reason,
            more: own.retry_after.map_or(More::Nothing, More::RetryAfter),
            advice: "",
        };
    }
    let message = message(error, row.advice);
    let status = details::status(message, error, about, &row, left);
    Refused { status, reason: row.reason.to_owned() }
}

fn message(error: &CallError, advice: &str) -> String {
    const CAUSE_MAX: usize = 300;
    const GATEWAY_TEXT_MAX: usize = 120;
    let mut message = visible(&error.to_string(), CAUSE_MAX);
    if let Some(text) = error.last_refusal().and_then(own_words) {
        message.push_str("; the gateway says: ");
        message.push_str(&visible(text, GATEWAY_TEXT_MAX));
    }
    if !advice.is_empty() {
        message.push_str("; ");
        message.push_str(advice);
    }
    visible(&message, MESSAGE_MAX)
}

/// What the gateway says beyond the retcode's known meaning.
fn own_words(refusal: &Refusal) -> Option<&str> {
    let known = refusal.retcode.listed().map_or("", |listed| listed.meaning);
    let text = refusal.message.as_str();
    (!text.is_empty() && text != known).then_some(text)
}

/// A code as `google.rpc.Code` spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        call::{Stage, StoreTrouble, Untouched},
        retcode::{LISTED, Override, Retcode},
    };

    fn about() -> About {
        let (tenant_id, agent_id) = ("acme".to_owned(), "1001".to_owned());
        About { method: "ccgateway.agent.v1.AgentState/SetBusy", tenant_id, agent_id }
    }

    fn refusal(retcode: &str) -> CallError {
        let retcode = Retcode::refusal(retcode).expect("a refusal");
        let node = Some("AgentGateway1".into());
        CallError::Refused(Refusal { retcode, message: "no right to invite".into(), node })
    }

    fn not_sent(obstacle: Obstacle) -> CallError {
        Untouched::at_the_start().because(obstacle)
    }

    fn after_refusal(obstacle: Obstacle) -> CallError {
        let retcode = Retcode::refusal("000-003").expect("a refusal");
        let refusal = Refusal { retcode, message: "no such Guid".into(), node: None };
        Untouched::after(refusal).because(obstacle)
    }

    fn status(error: &CallError) -> Status {
        refuse(error, &about(), &Overrides::default(), None).status
    }

    #[test]
    fn no_library_is_told_to_wait_beyond_its_callers_deadline() {
        let error = not_sent(Obstacle::Unreachable(String::new()));
        for (left, expected) in [
            (None, "1000"),
            (Some(Duration::from_secs(60)), "1000"),
            (Some(Duration::from_millis(1100)), "1000"),
            (Some(Duration::from_millis(1099)), "-1"),
            (Some(Duration::ZERO), "-1"),
        ] {
            let status = refuse(&error, &about(), &Overrides::default(), left).status;
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            assert_eq!(pushback.and_then(|value| value.to_str().ok()), Some(expected), "{left:?}");
            let retry = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
            assert_eq!(retry, Some(SOON), "the details stay");
        }
    }

    /// Code, reason, outcome, `RetryInfo` in milliseconds and pushback.
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
        assert_eq!(info.domain, "cc-gateway");
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
    fn every_outcome_has_its_row() {
        use Code::{DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound};
        use Code::{ResourceExhausted, Unavailable, Unknown};
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
            &not_sent(Obstacle::CredentialsMissing),
            (FailedPrecondition, "CREDENTIALS_MISSING", unsent, None, None),
        );
        check(
            &not_sent(Obstacle::Unreachable(text())),
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
            check(
                &CallError::Deadline(stage),
                (DeadlineExceeded, "DEADLINE", unknown, None, never),
            );
        }
        check(&busy(429, None), (Unavailable, "GATEWAY_BUSY", refused, Some(1000), Some("1000")));
        check(
            &busy(503, Some(7)),
            (Unavailable, "GATEWAY_BUSY", refused, Some(7000), Some("7000")),
        );
        for (code, outcome, pushback, statuses) in [
            (Unknown, unknown, never, &[408, 502, 503, 504][..]),
            (Internal, refused, None, &[404, 405]),
            (Internal, unknown, never, &[301, 400, 401, 403, 500, 501, 505, 599]),
        ] {
            for &status in statuses {
                check(
                    &CallError::HttpStatus { status },
                    (code, "GATEWAY_HTTP_STATUS", outcome, None, pushback),
                );
            }
        }
        check(&CallError::BadReply(text()), (Internal, "GATEWAY_BAD_REPLY", unknown, None, never));
        for share in [Share::ServerCalls, Share::ServerReading, Share::ServerReflection] {
            check(
                &overloaded(share),
                (ResourceExhausted, "SERVER_OVERLOADED", unsent, Some(500), Some("500")),
            );
        }
        for share in [
            Share::TenantCalls,
            Share::TenantRequests,
            Share::HostRequests,
            Share::AgentQueue,
            Share::TenantSessions,
            Share::TenantWatches,
        ] {
            check(
                &overloaded(share),
                (ResourceExhausted, "TENANT_OVERLOADED", unsent, Some(500), Some("500")),
            );
        }
        check(
            &not_sent(Obstacle::ShuttingDown),
            (Unavailable, "SHUTTING_DOWN", unsent, Some(1), Some("1")),
        );
        check(
            &not_sent(Obstacle::ConnectionAged),
            (Unavailable, "CONNECTION_AGED", unsent, Some(1), Some("1")),
        );
        for trouble in
            [StoreTrouble::Silent, StoreTrouble::RefusesReads, StoreTrouble::RefusesWrites]
        {
            check(
                &not_sent(Obstacle::StoreUnavailable(trouble)),
                (Unavailable, "STORE_UNAVAILABLE", unsent, Some(1000), Some("1000")),
            );
        }
        check(&CallError::Internal, (Internal, "BRIDGE_FAILED", unknown, None, never));
    }

    #[test]
    fn agents_who_have_to_be_signed_in_have_their_rows() {
        use Code::{DeadlineExceeded, FailedPrecondition, ResourceExhausted};
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
    }

    /// The assignments that callers rely on; every other retcode is reported as it came.
    fn assigned(retcode: &str) -> Seen {
        use Code::{Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument};
        use Code::{Unavailable, Unknown};
        let (code, reason, retry) = match retcode {
            "000-002" | "000-006" | "100-001" | "100-011" | "100-012" | "100-013" | "100-014"
            | "100-016" => (InvalidArgument, "GATEWAY_REJECTED_PARAMETER", None),
            "000-003" => (FailedPrecondition, "SESSION_EXPIRED", None),
            "100-006" | "100-008" => (FailedPrecondition, "AGENT_NOT_SIGNED_IN", None),
            "100-009" | "100-010" => (FailedPrecondition, "AGENT_STATE_REFUSED", None),
            "100-007" => (Internal, "GATEWAY_OPERATION_FAILED", None),
            "000-004" | "105-001" | "105-002" | "105-003" | "105-004" | "105-005" | "105-006"
            | "105-007" => (Unavailable, "AGENT_SWITCHOVER", Some("5000")),
            "000-007" | "100-021" => (Aborted, "CALL_REPEATED", Some("500")),
            "100-002" | "100-015" => (AlreadyExists, "AGENT_ALREADY_SIGNED_IN", None),
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
    }

    #[test]
    fn the_operators_reading_comes_before_the_table() {
        let mut overrides = Overrides::default();
        let own = |retry_after| Override { code: 9, reason: "LICENCE".into(), retry_after };
        overrides.insert("999-001".into(), own(None));
        overrides.insert("100-009".into(), own(Some(Duration::from_secs(3))));
        for (retcode, retry) in [("999-001", None), ("100-009", Some(Duration::from_secs(3)))] {
            let refused = refuse(&refusal(retcode), &about(), &overrides, None);
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
            let mut errors = vec![
                not_sent(Obstacle::Invalid(vec![violation; fields])),
                not_sent(Obstacle::Unreachable(text.clone())),
                CallError::BadReply(text.clone()),
            ];
            if let Some(retcode) = Retcode::refusal(&retcode) {
                let node = Some("n".repeat(32).into());
                errors.push(CallError::Refused(Refusal { retcode, message: text, node }));
            }
            for error in &errors {
                let status = status(error);
                prop_assert!(status.message().len() <= MESSAGE_MAX);
                prop_assert!(status.details().len() <= details::DETAILS_MAX);
                let decoded = tonic_types::pb::Status::decode(status.details());
                prop_assert_eq!(decoded.unwrap().message, status.message());
            }
        }
    }
}
