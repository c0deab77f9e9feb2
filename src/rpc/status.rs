//! Turns an error into a gRPC status.

mod choose_reason;

use prost::Message as _;
use tonic::Status;
use tonic_types::pb;

use self::choose_reason::choose_reason;
use super::{
    about::visible,
    details::{self, MESSAGE_MAX},
    error_report::{ErrorReport, Recipient},
};
use crate::{
    call::{CallError, Refusal},
    config::Overrides,
};

/// The status for the caller, and the reason that is in its details.
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) reason: String,
}

/// The status of a failed call. A retcode that the operator has configured is reported as
/// configured.
pub(super) fn refuse(error: &CallError, to: &Recipient<'_>, overrides: &Overrides) -> Refused {
    let own = error.refusal().and_then(|refusal| overrides.get(&refusal.retcode));
    let report = own.map_or_else(|| choose_reason(error), ErrorReport::overridden);
    let message = message(error, report.advice);
    let status = details::status(message, error, to, &report);
    Refused { status, reason: report.reason.to_owned() }
}

/// A status as a message of its own.
pub(super) fn message_of(status: &Status) -> pb::Status {
    pb::Status::decode(status.details()).unwrap_or_else(|_| pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
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

/// The gateway's text, if it says more than the retcode's known meaning.
fn own_words(refusal: &Refusal) -> Option<&str> {
    let known = refusal.retcode.listed().map_or("", |listed| listed.meaning);
    let text = refusal.message.as_str();
    (!text.is_empty() && text != known).then_some(text)
}

#[cfg(test)]
mod tests;
