//! Chooses the reason for each error. `crate::reason` says what follows from a reason.

use std::time::Duration;

use crate::{
    call::{CallError, Obstacle, Share, Unidentified, Unreadable, Wait},
    reason::{self, Reason},
    retcode::Kind,
    rpc::error_report::ErrorReport,
};

const SOON: Duration = Duration::from_secs(1);
/// When an issuer's keys that could not be read are read again.
const KEYS_AGAIN: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(5);

/// The report on an error.
pub(super) fn choose_reason(error: &CallError) -> ErrorReport<'_> {
    match error {
        CallError::NotSent(unsent) => obstacle(unsent.obstacle(), "nothing was sent"),
        CallError::Refused(refusal) => refused(refusal.retcode.kind()),
        CallError::AfterRefusal(_, unsent) => obstacle(unsent.obstacle(), "the agent is as it was"),
        CallError::NoAnswer(_) => ErrorReport::from(&reason::GATEWAY_NO_ANSWER),
        // Such an error says itself what was waited for, and what that means for the agent.
        CallError::Deadline(_) => ErrorReport::from(&reason::DEADLINE).with_advice(""),
        CallError::GatewayBusy { retry_after, .. } => {
            ErrorReport::from(&reason::GATEWAY_BUSY).retry_after(retry_after.unwrap_or(SOON))
        }
        CallError::HttpStatus { status } => http_status(*status),
        CallError::NoSuchInterface { answer, .. } => no_such_interface(answer),
        CallError::Observed { not_applied: true, .. } => {
            ErrorReport::from(&reason::CHANGE_NOT_APPLIED).retry_after(SOON)
        }
        CallError::Observed { cause, .. } => choose_reason(cause),
        CallError::BadReply(_) => ErrorReport::from(&reason::GATEWAY_BAD_REPLY),
        CallError::Internal => ErrorReport::from(&reason::BRIDGE_FAILED),
    }
}

/// The report on an obstacle. `so` says what the obstacle means for the agent.
fn obstacle<'a>(obstacle: &'a Obstacle, so: &'static str) -> ErrorReport<'a> {
    match obstacle {
        Obstacle::Invalid(_) => {
            ErrorReport::from(&reason::INVALID_REQUEST).with_advice("see the field violations")
        }
        Obstacle::Unreadable(why) => ErrorReport::from(unreadable(why)),
        Obstacle::CallerUnknown(Unidentified::KeysMissing) => {
            ErrorReport::from(&reason::ISSUER_UNAVAILABLE).retry_after(KEYS_AGAIN)
        }
        Obstacle::CallerUnknown(_) => ErrorReport::from(&reason::CALLER_UNKNOWN),
        Obstacle::CallerNotAllowed => ErrorReport::from(&reason::CALLER_NOT_ALLOWED),
        Obstacle::RequestIdReused => ErrorReport::from(&reason::REQUEST_ID_REUSED),
        Obstacle::RequestIdUnknown => ErrorReport::from(&reason::REQUEST_ID_UNKNOWN),
        Obstacle::TenantUnknown => ErrorReport::from(&reason::TENANT_UNKNOWN),
        // The texts of both errors say what to do.
        Obstacle::SessionMissing => ErrorReport::from(&reason::SESSION_MISSING).with_advice(""),
        Obstacle::SessionNotFound => ErrorReport::from(&reason::SESSION_NOT_FOUND).with_advice(""),
        Obstacle::InterfaceMissing { .. } => ErrorReport::from(&reason::INTERFACE_NOT_IN_EDITION),
        Obstacle::CredentialsMissing => ErrorReport::from(&reason::CREDENTIALS_MISSING),
        Obstacle::Unreachable { retry_in, .. } => {
            let report = ErrorReport::from(&reason::GATEWAY_UNREACHABLE);
            report.retry_after(retry_in.unwrap_or(SOON)).with_advice(so)
        }
        // The caller wanted this end.
        Obstacle::Deadline(Wait::Watching) => ErrorReport::from(&reason::DEADLINE).with_advice(""),
        Obstacle::Deadline(_) => ErrorReport::from(&reason::DEADLINE).with_advice(so),
        // A second brings back as many requests as the limit has, and so at least one.
        Obstacle::Overloaded { share: Share::ConnectionRequests, .. } => {
            ErrorReport::from(&reason::SERVER_OVERLOADED).retry_after(SOON)
        }
        Obstacle::Overloaded { share, .. } => ErrorReport::from(overloaded(*share)),
        Obstacle::SignInsQueued { due_in } => {
            ErrorReport::from(&reason::SIGN_INS_QUEUED).retry_after(*due_in)
        }
        Obstacle::TakenOver { .. } => ErrorReport::from(&reason::AGENT_TAKEN_OVER),
        Obstacle::GuidLost { retry_in } => {
            ErrorReport::from(&reason::SESSION_GUID_LOST).retry_after(*retry_in)
        }
        Obstacle::SignInWithoutGuid => ErrorReport::from(&reason::SIGN_IN_WITHOUT_GUID),
        Obstacle::ShuttingDown => {
            ErrorReport::from(&reason::SHUTTING_DOWN).retry_after(Duration::ZERO)
        }
        Obstacle::ConnectionAged => {
            ErrorReport::from(&reason::CONNECTION_AGED).retry_after(Duration::ZERO)
        }
        Obstacle::StreamIdle(_) => {
            ErrorReport::from(&reason::STREAM_IDLE).retry_after(Duration::ZERO)
        }
        Obstacle::StoreUnavailable(_) => {
            ErrorReport::from(&reason::STORE_UNAVAILABLE).retry_after(SOON)
        }
        Obstacle::Tried { then, .. } => self::obstacle(then, so),
        Obstacle::Unprepared(error) => choose_reason(error),
    }
}

fn overloaded(share: Share) -> &'static Reason {
    match share {
        Share::ServerCalls
        | Share::ServerReading
        | Share::ServerReflection
        | Share::ConnectionRequests => &reason::SERVER_OVERLOADED,
        // These limits do not become free again by themselves soon: somebody has to give up a
        // place.
        Share::TenantSessions | Share::TenantWatches => &reason::TENANT_LIMIT_REACHED,
        Share::TenantCalls
        | Share::CallerCalls
        | Share::TenantRequests
        | Share::HostRequests
        | Share::AgentQueue => &reason::TENANT_OVERLOADED,
    }
}

/// The reason for requests that no method has seen.
fn unreadable(why: &Unreadable) -> &'static Reason {
    match why {
        Unreadable::MethodUnknown => &reason::METHOD_UNKNOWN,
        Unreadable::Compressed(_) => &reason::COMPRESSION_UNSUPPORTED,
        Unreadable::TooLarge => &reason::MESSAGE_TOO_LARGE,
        Unreadable::Malformed(_) => &reason::MESSAGE_MALFORMED,
        Unreadable::BrokenOff => &reason::REQUEST_BROKEN_OFF,
        Unreadable::RefusedByHttp2(_) => &reason::HTTP2_REFUSED,
        Unreadable::ContentType(_) | Unreadable::HttpMethod(_) | Unreadable::Http1 => {
            &reason::NOT_GRPC
        }
    }
}

/// The report on an HTTP status without an envelope.
fn http_status(status: u16) -> ErrorReport<'static> {
    match status {
        300..=399 => ErrorReport::from(&reason::GATEWAY_HTTP_STATUS).with_advice(
            "it redirects the bridge, for example to a login page: check the tenant's base_urls; the \
             agent may have changed",
        ),
        401 | 403 => ErrorReport::from(&reason::GATEWAY_HTTP_STATUS).with_advice(
            "something in front of the gateway requires authentication: check the tenant's base_urls and \
             tls.client_certificate_file; the agent may have changed",
        ),
        404 | 405 => ErrorReport::from(&reason::GATEWAY_INTERFACE_MISSING),
        408 | 502..=504 => ErrorReport::from(&reason::GATEWAY_PROXY_FAILED),
        _ => ErrorReport::from(&reason::GATEWAY_HTTP_STATUS),
    }
}

/// The report on an answer that means that the gateway has no such interface. A retcode of the table
/// keeps its reason, since it has the same one for every method.
fn no_such_interface(answer: &CallError) -> ErrorReport<'static> {
    let report = match answer {
        CallError::Refused(refusal) if refusal.retcode.kind() != Kind::Unlisted => {
            refused(refusal.retcode.kind())
        }
        _ => ErrorReport::from(&reason::INTERFACE_NOT_IN_EDITION),
    };
    report.with_advice("check the tenant's edition and base_urls")
}

/// The report on a refusal by the gateway.
fn refused(kind: Kind) -> ErrorReport<'static> {
    match kind {
        Kind::ParameterRejected => ErrorReport::from(&reason::GATEWAY_REJECTED_PARAMETER),
        Kind::SessionExpired | Kind::SessionMoved => ErrorReport::from(&reason::SESSION_EXPIRED),
        Kind::AgentNotSignedIn | Kind::AgentSignedOut => {
            ErrorReport::from(&reason::AGENT_NOT_SIGNED_IN)
        }
        Kind::StateRefused => ErrorReport::from(&reason::AGENT_STATE_REFUSED),
        Kind::OperationFailed => ErrorReport::from(&reason::GATEWAY_OPERATION_FAILED),
        Kind::Switchover => ErrorReport::from(&reason::AGENT_SWITCHOVER).retry_after(LATER),
        Kind::OperationInProgress | Kind::SignInInProgress => {
            ErrorReport::from(&reason::OPERATION_IN_PROGRESS)
        }
        Kind::AlreadySignedIn => ErrorReport::from(&reason::AGENT_ALREADY_SIGNED_IN),
        Kind::ForceNotAllowed => ErrorReport::from(&reason::FORCE_NOT_ALLOWED),
        Kind::PlatformUnavailable => {
            ErrorReport::from(&reason::PLATFORM_UNAVAILABLE).retry_after(LATER)
        }
        Kind::CredentialsRejected => ErrorReport::from(&reason::CREDENTIALS_REJECTED),
        Kind::AccountLocked => ErrorReport::from(&reason::ACCOUNT_LOCKED),
        Kind::PollsDisabled | Kind::Unlisted => ErrorReport::from(&reason::UNLISTED_RETCODE),
    }
}
