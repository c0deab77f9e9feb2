//! What a transport error means for the request.

use super::connection::Closing;
use crate::call::{CallError, Untouched};

/// Why there is no answer. The variants differ in whether the request was sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not sent, and may be sent to another address. Has the cause as a text.
    NotSent(Untouched, String),
    /// It was not sent, and must not be sent to another address either. Has the cause as a text if a connection
    /// could not be made all the same.
    Prevented(CallError, Option<String>),
    /// It was sent, or may have been. Has the cause as a text.
    Sent(String),
    /// As `Sent`, since the time limit passed. The gateway may still work on the request.
    Late(String, Closing),
}

impl Failure {
    /// The cause as a text.
    pub(super) fn into_cause(self) -> String {
        match self {
            Self::NotSent(_, cause) | Self::Sent(cause) | Self::Late(cause, _) => cause,
            Self::Prevented(error, _) => error.to_string(),
        }
    }
}
