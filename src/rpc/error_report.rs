//! How an error is reported, and to whom.

use std::time::Duration;

use tonic::Code;

use super::about::About;
use crate::{
    config::Override,
    reason::{self, Details, Reason, Retry},
};

/// The call that an error is reported to.
pub(super) struct Recipient<'a> {
    pub(super) about: &'a About,
    /// The host of the tenant's gateway. None if the caller names no configured tenant.
    pub(super) gateway: Option<&'a str>,
    /// How long the caller still waits. None if it has no deadline.
    pub(super) left: Option<Duration>,
}

/// How an error is reported.
pub(super) struct ErrorReport<'a> {
    pub(super) code: Code,
    pub(super) reason: &'a str,
    pub(super) details: Details,
    pub(super) retry: Retry,
    /// How long to wait before another attempt, if `retry` says that one may help.
    pub(super) delay: Duration,
    /// What the caller can do. Completes the message.
    pub(super) advice: &'static str,
}

/// The usual delay before another attempt: by then a place may be free or the agent's turn over.
const SHORTLY: Duration = Duration::from_millis(500);

impl From<&'static Reason> for ErrorReport<'_> {
    fn from(reason: &'static Reason) -> Self {
        let Reason { name, code, retry, details, advice, .. } = *reason;
        Self { code, reason: name, details, retry, delay: SHORTLY, advice }
    }
}

impl<'a> ErrorReport<'a> {
    /// The same with another delay.
    pub(super) fn retry_after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same with advice that fits the case better than that of the table.
    pub(super) fn with_advice(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// The report that the operator has configured for a retcode. It has the details of its reason,
    /// if the table has that reason.
    pub(super) fn overridden(reading: &'a Override) -> Self {
        let listed = reason::find(&reading.reason);
        let details = listed.map_or(Details::None, |listed| listed.details);
        let retries = listed.is_some_and(|listed| listed.retry != Retry::No);
        let retry = if reading.retry_after.is_some() || retries { Retry::After } else { Retry::No };
        let delay = reading.retry_after.unwrap_or(SHORTLY);
        let code = Code::from_i32(reading.code.into());
        Self { code, reason: &reading.reason, details, retry, delay, advice: "" }
    }
}

/// A code's name in `google.rpc.Code`.
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
