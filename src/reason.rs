//! The reasons of errors: the part of the contract that callers compare with.
//!
//! A reason has one code, which never changes. `docs/calling/errors.md` shows this table to
//! callers. Tests check that the table, the document, the comments in `proto/` and the program
//! agree.

mod table;

use tonic::Code;

pub use self::table::{
    ACCOUNT_LOCKED, AGENT_ALREADY_SIGNED_IN, AGENT_NOT_SIGNED_IN, AGENT_STATE_REFUSED,
    AGENT_SWITCHOVER, AGENT_TAKEN_OVER, ALL, BRIDGE_FAILED, CALLER_NOT_ALLOWED, CALLER_UNKNOWN,
    CHANGE_NOT_APPLIED, COMPRESSION_UNSUPPORTED, CONNECTION_AGED, CREDENTIALS_MISSING,
    CREDENTIALS_REJECTED, DEADLINE, FORCE_NOT_ALLOWED, GATEWAY_BAD_REPLY, GATEWAY_BUSY,
    GATEWAY_HTTP_STATUS, GATEWAY_INTERFACE_MISSING, GATEWAY_NO_ANSWER, GATEWAY_OPERATION_FAILED,
    GATEWAY_PROXY_FAILED, GATEWAY_REJECTED_PARAMETER, GATEWAY_UNREACHABLE, HTTP2_REFUSED,
    INTERFACE_NOT_IN_EDITION, INVALID_REQUEST, ISSUER_UNAVAILABLE, MESSAGE_MALFORMED,
    MESSAGE_TOO_LARGE, METHOD_UNKNOWN, NOT_GRPC, OPERATION_IN_PROGRESS, PLATFORM_UNAVAILABLE,
    REQUEST_BROKEN_OFF, REQUEST_ID_REUSED, REQUEST_ID_UNKNOWN, SERVER_OVERLOADED, SESSION_EXPIRED,
    SESSION_GUID_LOST, SESSION_MISSING, SESSION_NOT_FOUND, SHUTTING_DOWN, SIGN_IN_WITHOUT_GUID,
    SIGN_INS_QUEUED, STORE_UNAVAILABLE, STREAM_IDLE, TENANT_LIMIT_REACHED, TENANT_OVERLOADED,
    TENANT_UNKNOWN, UNLISTED_RETCODE,
};
use crate::call::Outcome;

/// A reason, and what callers may rely on for each error that has it.
#[derive(Debug)]
pub struct Reason {
    /// `ErrorInfo.reason`.
    pub name: &'static str,
    /// The gRPC code of each such error.
    pub code: Code,
    /// The outcomes that such an error may have.
    pub outcomes: &'static [Outcome],
    /// Whether another attempt may succeed without any other action.
    pub retry: Retry,
    /// The detail message beside `ErrorInfo` and `RetryInfo`.
    pub details: Details,
    /// What the caller can do.
    pub advice: &'static str,
}

/// What an error says about another attempt. An error with an unknown outcome never has
/// `RetryInfo`, whatever its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No `RetryInfo`: something has to be done first, or nothing is known.
    No,
    /// `RetryInfo` says when to try again, and so does `grpc-retry-pushback-ms`.
    After,
    /// `RetryInfo` says when. That is after the deadline, so gRPC's own retries are told not to
    /// try.
    AfterDeadline,
}

/// A detail message of `google.rpc` beside `ErrorInfo` and `RetryInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// None.
    None,
    /// `BadRequest` with every bad field.
    BadRequest,
    /// `PreconditionFailure` with this type.
    Precondition(&'static str),
    /// `ResourceInfo` with this type.
    Resource(&'static str),
    /// `QuotaFailure`.
    Quota,
}

/// The reason with this name, if the table has it.
pub fn find(name: &str) -> Option<&'static Reason> {
    ALL.iter().copied().find(|reason| reason.name == name)
}

#[cfg(test)]
mod tests;
