//! Which reason an error has. `crate::reason` says what follows from each.

use std::time::Duration;

use crate::{
    call::{CallError, Obstacle, Share, Unreadable, Wait},
    reason::{self, Reason},
    retcode::Kind,
    rpc::row::Row,
};

const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

pub(super) fn row(error: &CallError) -> Row<'_> {
    match error {
        CallError::NotSent(unsent) => obstacle(unsent.obstacle(), "nothing was sent"),
        CallError::Refused(refusal) => refused(refusal.retcode.kind()),
        CallError::AfterRefusal(_, unsent) => obstacle(unsent.obstacle(), "the agent is as it was"),
        CallError::NoAnswer(_) => Row::from(&reason::GATEWAY_NO_ANSWER),
        // It says itself what was waited for, and what that means for the agent.
        CallError::Deadline(_) => Row::from(&reason::DEADLINE).saying(""),
        CallError::GatewayBusy { retry_after, .. } => {
            Row::from(&reason::GATEWAY_BUSY).after(retry_after.unwrap_or(SOON))
        }
        CallError::HttpStatus { status } => http_status(*status),
        CallError::BadReply(_) => Row::from(&reason::GATEWAY_BAD_REPLY),
        CallError::Internal => Row::from(&reason::BRIDGE_FAILED),
    }
}

/// What keeps a request from being sent, or from being sent again. `so` says what that means for the
/// agent.
fn obstacle<'a>(obstacle: &'a Obstacle, so: &'static str) -> Row<'a> {
    match obstacle {
        Obstacle::Invalid(_) => {
            Row::from(&reason::INVALID_REQUEST).saying("see the field violations")
        }
        Obstacle::Unreadable(why) => Row::from(unreadable(why)),
        Obstacle::TenantUnknown => Row::from(&reason::TENANT_UNKNOWN),
        // Both say themselves what to do.
        Obstacle::SessionMissing => Row::from(&reason::SESSION_MISSING).saying(""),
        Obstacle::SessionNotFound => Row::from(&reason::SESSION_NOT_FOUND).saying(""),
        Obstacle::InterfaceMissing { .. } => Row::from(&reason::INTERFACE_NOT_IN_EDITION),
        Obstacle::CredentialsMissing => Row::from(&reason::CREDENTIALS_MISSING),
        Obstacle::Unreachable(_) => Row::from(&reason::GATEWAY_UNREACHABLE).after(SOON).saying(so),
        // Its caller wanted it so.
        Obstacle::Deadline(Wait::Watching) => Row::from(&reason::DEADLINE).saying(""),
        Obstacle::Deadline(_) => Row::from(&reason::DEADLINE).saying(so),
        Obstacle::Overloaded { share, .. } => Row::from(overloaded(*share)),
        Obstacle::SignInsQueued { due_in } => Row::from(&reason::SIGN_INS_QUEUED).after(*due_in),
        Obstacle::TakenOver { .. } => Row::from(&reason::AGENT_TAKEN_OVER),
        Obstacle::SignInWithoutGuid => Row::from(&reason::SIGN_IN_WITHOUT_GUID),
        Obstacle::ShuttingDown => Row::from(&reason::SHUTTING_DOWN).after(Duration::ZERO),
        Obstacle::ConnectionAged => Row::from(&reason::CONNECTION_AGED).after(Duration::ZERO),
        Obstacle::StoreUnavailable(_) => Row::from(&reason::STORE_UNAVAILABLE).after(SOON),
        Obstacle::Tried { then, .. } => self::obstacle(then, so),
        Obstacle::Unprepared(error) => row(error),
    }
}

fn overloaded(share: Share) -> &'static Reason {
    match share {
        Share::ServerCalls | Share::ServerReading | Share::ServerReflection => {
            &reason::SERVER_OVERLOADED
        }
        // Their places are not free again shortly: somebody has to give one up.
        Share::TenantSessions | Share::TenantWatches => &reason::TENANT_LIMIT_REACHED,
        Share::TenantCalls | Share::TenantRequests | Share::HostRequests | Share::AgentQueue => {
            &reason::TENANT_OVERLOADED
        }
    }
}

/// Requests that no method has seen.
fn unreadable(why: &Unreadable) -> &'static Reason {
    match why {
        Unreadable::MethodUnknown => &reason::METHOD_UNKNOWN,
        Unreadable::Compressed => &reason::COMPRESSION_UNSUPPORTED,
        Unreadable::TooLarge => &reason::MESSAGE_TOO_LARGE,
        Unreadable::Malformed(_) => &reason::MESSAGE_MALFORMED,
        Unreadable::BrokenOff => &reason::REQUEST_BROKEN_OFF,
        Unreadable::RefusedByHttp2 => &reason::HTTP2_REFUSED,
        Unreadable::NotGrpc(_) => &reason::NOT_GRPC,
    }
}

/// Answers without an envelope.
fn http_status(status: u16) -> Row<'static> {
    match status {
        300..=399 => Row::from(&reason::GATEWAY_HTTP_STATUS).saying(
            "it sends the bridge elsewhere, as to a login page: check the tenant's base_urls; the \
             agent may have changed",
        ),
        401 | 403 => Row::from(&reason::GATEWAY_HTTP_STATUS).saying(
            "something before the gateway wants to know who asks: check the tenant's base_urls and \
             tls.client_certificate_file; the agent may have changed",
        ),
        404 | 405 => Row::from(&reason::GATEWAY_INTERFACE_MISSING),
        408 | 502..=504 => Row::from(&reason::GATEWAY_PROXY_FAILED),
        _ => Row::from(&reason::GATEWAY_HTTP_STATUS),
    }
}

/// The gateway's own refusals.
fn refused(kind: Kind) -> Row<'static> {
    match kind {
        Kind::ParameterRejected => Row::from(&reason::GATEWAY_REJECTED_PARAMETER),
        Kind::SessionExpired | Kind::SessionMoved => Row::from(&reason::SESSION_EXPIRED),
        Kind::AgentNotSignedIn | Kind::AgentSignedOut => Row::from(&reason::AGENT_NOT_SIGNED_IN),
        Kind::StateRefused => Row::from(&reason::AGENT_STATE_REFUSED),
        Kind::OperationFailed => Row::from(&reason::GATEWAY_OPERATION_FAILED),
        Kind::Switchover => Row::from(&reason::AGENT_SWITCHOVER).after(LATER),
        Kind::OperationInProgress | Kind::SignInInProgress => {
            Row::from(&reason::OPERATION_IN_PROGRESS)
        }
        Kind::AlreadySignedIn => Row::from(&reason::AGENT_ALREADY_SIGNED_IN),
        Kind::ForceNotAllowed => Row::from(&reason::FORCE_NOT_ALLOWED),
        Kind::PlatformUnavailable => Row::from(&reason::PLATFORM_UNAVAILABLE).after(LATER),
        Kind::CredentialsRejected => Row::from(&reason::CREDENTIALS_REJECTED),
        Kind::AccountLocked => Row::from(&reason::ACCOUNT_LOCKED),
        Kind::PollsDisabled | Kind::Unlisted => Row::from(&reason::UNLISTED_RETCODE),
    }
}
