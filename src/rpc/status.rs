//! What happened, as a gRPC status.

mod rows;

use tonic::Status;

use self::rows::row;
use super::{
    about::visible,
    details::{self, MESSAGE_MAX},
    row::{Recipient, Row},
};
use crate::{
    call::{CallError, Refusal},
    config::Overrides,
};

/// A status as it goes to the caller, with the reason that its details give.
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) reason: String,
}

/// The status of a failed call; the operator's own reading of a retcode comes before the table.
pub(super) fn refuse(error: &CallError, to: &Recipient<'_>, overrides: &Overrides) -> Refused {
    let own = error.refusal().and_then(|refusal| overrides.get(&refusal.retcode));
    let row = own.map_or_else(|| row(error), Row::own);
    let message = message(error, row.advice);
    let status = details::status(message, error, to, &row);
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

#[cfg(test)]
mod tests;
