//! The last failed calls, for the status page.
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use tonic::Code;

use super::{
    about::{About, visible},
    error_report::code_name,
    status::Refused,
};
use crate::call::{CallError, Obstacle, Outcome, Wait};

/// The last calls that failed because of a gateway or the bridge, for people.
#[derive(Debug, Default)]
pub struct Failures(Mutex<VecDeque<Failure>>);

/// One failed call. It does not name the agent; the log does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When the call was answered.
    #[serde(serialize_with = "crate::time::as_rfc3339")]
    pub time: SystemTime,
    /// The tenant's id, as the caller wrote it.
    pub tenant: String,
    /// For example `SetBusy`.
    pub method: &'static str,
    /// For example `UNAVAILABLE`.
    pub code: &'static str,
    /// For example `GATEWAY_UNREACHABLE`.
    pub reason: String,
    /// What is known about the agent.
    #[serde(serialize_with = "spelled")]
    pub outcome: Outcome,
    /// The gateway's retcode, if it refused an attempt.
    pub retcode: Option<String>,
    /// What happened.
    pub error: String,
    /// The gateway's own text, if it refused with one.
    pub gateway_message: Option<String>,
}

/// How many failures are kept.
const KEPT: usize = 20;
/// Longest text in bytes.
const TEXT_MAX: usize = 300;

impl Failures {
    /// The last failures, newest first.
    pub fn last(&self) -> Vec<Failure> {
        self.kept().iter().rev().cloned().collect()
    }

    /// Adds the failure, if a gateway, the bridge or a full limit caused it.
    pub(super) fn note(&self, error: &CallError, about: &About, refused: &Refused) {
        if !is_listed(error, refused.status.code()) {
            return;
        }
        let refusal = error.last_refusal();
        let message = refusal.map(|refusal| &refusal.message).filter(|text| !text.is_empty());
        let failure = Failure {
            time: SystemTime::now(),
            tenant: about.tenant_id.clone(),
            method: about.method.rsplit('/').next().unwrap_or(about.method),
            code: code_name(refused.status.code()),
            reason: refused.reason.clone(),
            outcome: error.outcome(),
            retcode: refusal.map(|refusal| refusal.retcode.as_str().to_owned()),
            error: visible(&error.to_string(), TEXT_MAX),
            gateway_message: message.map(|text| visible(text, TEXT_MAX)),
        };
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(failure);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether operators of gateways or of the bridge should see the failure.
fn is_listed(error: &CallError, code: Code) -> bool {
    let is_expected = matches!(
        error.obstacle(),
        Some(
            Obstacle::ShuttingDown
                | Obstacle::ConnectionAged
                | Obstacle::StreamIdle(_)
                | Obstacle::Deadline(Wait::Watching)
                | Obstacle::Unreadable(_)
                // Anybody can send a token that nobody can check, and the log says why nobody can.
                | Obstacle::CallerUnknown(_)
        )
    );
    let is_serious = matches!(
        code,
        Code::Unknown
            | Code::Internal
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    );
    is_serious && !is_expected
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn spelled<S: Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(outcome.as_str())
}
