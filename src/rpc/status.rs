//! What happened, as a gRPC status: the one table.

use std::time::Duration;

use tonic::{Code, Status};

use super::{
    details::{self, MESSAGE_MAX},
    record::{About, visible},
};
use crate::{
    call::{CallError, FieldViolation, Refusal, Share},
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
    /// The same where that is after the caller's deadline: a client library that waited for it
    /// would end with a bare DEADLINE_EXCEEDED, without the cause.
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
    use Code::{DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound};
    use Code::{ResourceExhausted, Unavailable, Unknown};
    use More::{BadRequest, Nothing, NotBefore, Precondition, Quota, RetryAfter, UnknownTenant};

    const LOOK: &str = "the agent may have changed: look before trying again";
    let balancer = "a balancer may stand before the gateway";
    let (code, reason, more, advice) = match error {
        CallError::Invalid(fields)      => (InvalidArgument, "INVALID_REQUEST", BadRequest(fields), "see the field violations"),
        CallError::TenantUnknown        => (NotFound, "TENANT_UNKNOWN", UnknownTenant, "check tenant_id"),
        CallError::SessionMissing       => (FailedPrecondition, "SESSION_MISSING", Precondition("SESSION"), ""),
        CallError::CredentialsMissing   => (FailedPrecondition, "CREDENTIALS_MISSING", Precondition("CREDENTIALS"), "give the password"),
        CallError::Refused(refusal)     => refused(refusal.retcode.kind()),
        CallError::Unreachable(_)       => (Unavailable, "GATEWAY_UNREACHABLE", RetryAfter(SOON), "nothing was sent"),
        CallError::NoAnswer(_)          => (Unknown, "GATEWAY_NO_ANSWER", Nothing, LOOK),
        CallError::Deadline(_)          => (DeadlineExceeded, "DEADLINE", Nothing, ""),
        CallError::HttpStatus { status: 429 | 502..=504, retry_after }
                                        => (Unavailable, "GATEWAY_HTTP_STATUS", RetryAfter(retry_after.unwrap_or(SOON)), balancer),
        CallError::HttpStatus { .. }    => (Internal, "GATEWAY_HTTP_STATUS", Nothing, "check the tenant's base_urls"),
        CallError::BadReply(_)          => (Internal, "GATEWAY_BAD_REPLY", Nothing, LOOK),
        CallError::Overloaded { share: share @ (Share::ServerCalls | Share::ServerReading | Share::ServerReflection), .. }
                                        => (ResourceExhausted, "SERVER_OVERLOADED", Quota(*share), "try again shortly"),
        CallError::Overloaded { share, .. }
                                        => (ResourceExhausted, "TENANT_OVERLOADED", Quota(*share), "try again shortly"),
        CallError::AfterRefusal(error)  => return row(error),
        CallError::SignInsQueued { due_in }
                                        => (ResourceExhausted, "SIGN_INS_QUEUED", NotBefore(*due_in), "the agent keeps its place: try again then"),
        CallError::TakenOver { .. }     => (FailedPrecondition, "AGENT_TAKEN_OVER", Precondition("SESSION"), "stop the other client, or take the agent over with SignIn and force"),
        CallError::ShuttingDown         => (Unavailable, "SHUTTING_DOWN", RetryAfter(Duration::ZERO), "try again at once"),
        CallError::ConnectionAged       => (Unavailable, "CONNECTION_AGED", RetryAfter(Duration::ZERO), "go on with a new connection; a watch goes on after the last sequence"),
        CallError::StoreUnavailable(_)  => (Unavailable, "STORE_UNAVAILABLE", RetryAfter(SOON), "try again shortly"),
        CallError::Internal             => (Internal, "BRIDGE_FAILED", Nothing, LOOK),
    };
    Row { code, reason, more, advice }
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
        Kind::Unlisted            => (Unknown, "UNLISTED_RETCODE", Nothing, "the operator can map it under [retcodes]"),
    }
}

/// The status of a failed call; the operator's own reading of a retcode comes before the table.
pub(super) fn refuse(error: &CallError, about: &About, overrides: &Overrides) -> Refused {
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
    Refused { status: details::status(message, error, about, &row), reason: row.reason.to_owned() }
}

fn message(error: &CallError, advice: &str) -> String {
    const CAUSE_MAX: usize = 300;
    const GATEWAY_TEXT_MAX: usize = 120;
    let mut message = visible(&error.to_string(), CAUSE_MAX);
    if let Some(text) = error.refusal().and_then(own_words) {
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
        call::{Stage, StoreTrouble},
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

    fn status(error: &CallError) -> Status {
        refuse(error, &about(), &Overrides::default()).status
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

    fn http(status: u16, retry_after: Option<u64>) -> CallError {
        CallError::HttpStatus { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn overloaded(share: Share) -> CallError {
        CallError::Overloaded { share, limit: std::num::NonZeroUsize::MIN }
    }

    #[test]
    fn every_outcome_has_its_row() {
        use Code::{DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound};
        use Code::{ResourceExhausted, Unavailable, Unknown};
        let (not_sent, refused, unknown) = ("not_sent", "refused", "unknown");
        let never = Some("-1");
        let text = String::new;

        check(
            &CallError::Invalid(vec![]),
            (InvalidArgument, "INVALID_REQUEST", not_sent, None, None),
        );
        check(&CallError::TenantUnknown, (NotFound, "TENANT_UNKNOWN", not_sent, None, None));
        check(
            &CallError::SessionMissing,
            (FailedPrecondition, "SESSION_MISSING", not_sent, None, None),
        );
        check(
            &CallError::CredentialsMissing,
            (FailedPrecondition, "CREDENTIALS_MISSING", not_sent, None, None),
        );
        check(
            &CallError::Unreachable(text()),
            (Unavailable, "GATEWAY_UNREACHABLE", not_sent, Some(1000), Some("1000")),
        );
        check(&CallError::NoAnswer(text()), (Unknown, "GATEWAY_NO_ANSWER", unknown, None, never));
        for stage in [Stage::Request, Stage::Queue, Stage::Connection, Stage::Watching] {
            check(
                &CallError::Deadline(stage),
                (DeadlineExceeded, "DEADLINE", not_sent, None, None),
            );
        }
        for stage in [Stage::SignIn, Stage::Answer] {
            check(
                &CallError::Deadline(stage),
                (DeadlineExceeded, "DEADLINE", unknown, None, never),
            );
        }
        for status in [429, 503] {
            check(
                &http(status, None),
                (Unavailable, "GATEWAY_HTTP_STATUS", refused, Some(1000), Some("1000")),
            );
            check(
                &http(status, Some(7)),
                (Unavailable, "GATEWAY_HTTP_STATUS", refused, Some(7000), Some("7000")),
            );
        }
        for status in [502, 504] {
            check(
                &http(status, Some(7)),
                (Unavailable, "GATEWAY_HTTP_STATUS", unknown, None, never),
            );
        }
        for status in [301, 400, 401, 403, 404, 500, 501] {
            check(&http(status, None), (Internal, "GATEWAY_HTTP_STATUS", unknown, None, never));
        }
        check(&CallError::BadReply(text()), (Internal, "GATEWAY_BAD_REPLY", unknown, None, never));
        for share in [Share::ServerCalls, Share::ServerReading, Share::ServerReflection] {
            check(
                &overloaded(share),
                (ResourceExhausted, "SERVER_OVERLOADED", not_sent, Some(500), Some("500")),
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
                (ResourceExhausted, "TENANT_OVERLOADED", not_sent, Some(500), Some("500")),
            );
        }
        check(
            &CallError::ShuttingDown,
            (Unavailable, "SHUTTING_DOWN", not_sent, Some(1), Some("1")),
        );
        check(
            &CallError::ConnectionAged,
            (Unavailable, "CONNECTION_AGED", not_sent, Some(1), Some("1")),
        );
        for trouble in
            [StoreTrouble::Silent, StoreTrouble::RefusesReads, StoreTrouble::RefusesWrites]
        {
            check(
                &CallError::StoreUnavailable(trouble),
                (Unavailable, "STORE_UNAVAILABLE", not_sent, Some(1000), Some("1000")),
            );
        }
        check(&CallError::Internal, (Internal, "BRIDGE_FAILED", unknown, None, never));
    }

    #[test]
    fn agents_who_have_to_be_signed_in_have_their_rows() {
        use Code::{DeadlineExceeded, FailedPrecondition, ResourceExhausted};
        let (not_sent, refused, unknown, never) = ("not_sent", "refused", "unknown", Some("-1"));
        check(
            &CallError::SignInsQueued { due_in: Duration::from_secs(38) },
            (ResourceExhausted, "SIGN_INS_QUEUED", not_sent, Some(38_000), never),
        );
        check(
            &CallError::SignInsQueued { due_in: Duration::from_secs(38) }.after_refusal(),
            (ResourceExhausted, "SIGN_INS_QUEUED", refused, Some(38_000), never),
        );
        check(
            &CallError::Deadline(Stage::Queue).after_refusal(),
            (DeadlineExceeded, "DEADLINE", refused, None, None),
        );
        check(
            &CallError::Deadline(Stage::Answer).after_refusal(),
            (DeadlineExceeded, "DEADLINE", unknown, None, never),
        );
        check(
            &CallError::TakenOver { retry_in: Duration::from_secs(60) },
            (FailedPrecondition, "AGENT_TAKEN_OVER", not_sent, None, None),
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

        let details = status(&CallError::TenantUnknown).get_error_details();
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
            let refused = refuse(&refusal(retcode), &about(), &overrides);
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
                CallError::Invalid(vec![violation; fields]),
                CallError::Unreachable(text.clone()),
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
