//! Checks how calls fail.

use std::{collections::HashMap, fmt::Debug};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::hides_secrets;

/// The decoded status of a failed call.
#[derive(Debug)]
pub struct Refusal {
    /// The status' code.
    pub code: Code,
    /// The reason in its `ErrorInfo`.
    pub reason: String,
    /// The metadata of its `ErrorInfo`, such as the outcome.
    pub metadata: HashMap<String, String>,
    /// All its details.
    pub details: ErrorDetails,
    /// The status' message.
    pub message: String,
    /// The value of `grpc-retry-pushback-ms`, if it is there.
    pub pushback: Option<String>,
}

impl From<Status> for Refusal {
    #[track_caller]
    fn from(status: Status) -> Self {
        hides_secrets("an error", &format!("{status:?}"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            message: status.message().to_owned(),
            pushback: pushback.map(|value| value.to_str().expect("text").to_owned()),
            details,
        }
    }
}

/// Asserts that the call failed with this code, reason and outcome.
#[track_caller]
pub fn refused<T: Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
    outcome: &str,
) -> Refusal {
    let refusal = Refusal::from(result.expect_err("the call should have failed"));
    let seen = (refusal.code, refusal.reason.as_str(), refusal.metadata["outcome"].as_str());
    assert_eq!(seen, (code, reason, outcome), "{}", refusal.message);
    refusal
}
