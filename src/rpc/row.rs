//! What an error is told as, and to whom.

use std::time::Duration;

use tonic::Code;

use super::about::About;
use crate::{
    config::Override,
    reason::{self, Details, Reason, Retry},
};

/// Who is told of an error, and about whom.
pub(super) struct Recipient<'a> {
    pub(super) about: &'a About,
    /// The host of the tenant's gateway. None: the caller names no tenant of the configuration.
    pub(super) gateway: Option<&'a str>,
    /// What the caller has left until its deadline. None: it has none.
    pub(super) left: Option<Duration>,
}

/// What an error is told as.
pub(super) struct Row<'a> {
    pub(super) code: Code,
    pub(super) reason: &'a str,
    pub(super) details: Details,
    pub(super) retry: Retry,
    /// How long to wait before another attempt, where `retry` says that one may help.
    pub(super) delay: Duration,
    /// What the caller can do; completes the message.
    pub(super) advice: &'static str,
}

/// When another attempt may find a free place or turn.
const SHORTLY: Duration = Duration::from_millis(500);

impl From<&'static Reason> for Row<'_> {
    fn from(reason: &'static Reason) -> Self {
        let Reason { name, code, retry, details, advice, .. } = *reason;
        Self { code, reason: name, details, retry, delay: SHORTLY, advice }
    }
}

impl<'a> Row<'a> {
    pub(super) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// With words that fit what has happened better than those of the table.
    pub(super) fn saying(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// The operator's own reading of a retcode. With a reason of the table it has its details too.
    pub(super) fn own(reading: &'a Override) -> Self {
        let listed = reason::find(&reading.reason);
        let details = listed.map_or(Details::None, |listed| listed.details);
        let retries = listed.is_some_and(|listed| listed.retry != Retry::No);
        let retry = if reading.retry_after.is_some() || retries { Retry::After } else { Retry::No };
        let delay = reading.retry_after.unwrap_or(SHORTLY);
        let code = Code::from_i32(reading.code.into());
        Self { code, reason: &reading.reason, details, retry, delay, advice: "" }
    }
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
