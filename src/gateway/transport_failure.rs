//! What a transport error says about the request.

use super::connection::Closing;
use crate::call::{CallError, Untouched};

/// Why there is no answer. The variants differ in whether the request had left.
#[derive(Debug)]
pub(super) enum Failure {
    /// It had not, and may be sent to another address; the cause in words.
    NotSent(Untouched, String),
    /// It had not, and this keeps it from being sent at all.
    Kept(CallError),
    /// It had, or may have; the cause in words.
    Sent(String),
    /// The same: its time is over, and the gateway may still be at it.
    Late(String, Closing),
}
