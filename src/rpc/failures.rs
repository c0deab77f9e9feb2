use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use tonic::Code;

use super::{
    about::{About, visible},
    row::code_name,
    status::Refused,
};
use crate::call::{CallError, Obstacle, Outcome, Wait};

/// The last calls that failed through the fault of a gateway or of the bridge, for people.
#[derive(Debug, Default)]
pub struct Failures(Mutex<VecDeque<Failure>>);

/// One of them. Agents are in the log alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When it was answered.
    #[serde(serialize_with = "crate::time::as_rfc3339")]
    pub time: SystemTime,
    /// In the caller's words.
    pub tenant: String,
    /// Such as `SetBusy`.
    pub method: &'static str,
    /// Such as `UNAVAILABLE`.
    pub code: &'static str,
    /// Such as `GATEWAY_UNREACHABLE`.
    pub reason: String,
    /// What is known of the agent.
    #[serde(serialize_with = "spelled")]
    pub outcome: Outcome,
    /// The gateway's, if it refused an attempt.
    pub retcode: Option<String>,
    /// What happened, in words.
    pub error: String,
    /// The gateway's own text, if it refused with one.
    pub gateway_message: Option<String>,
}

const KEPT: usize = 20;
const TEXT_MAX: usize = 300;

impl Failures {
    /// The last ones, newest first.
    pub fn last(&self) -> Vec<Failure> {
        self.kept().iter().rev().cloned().collect()
    }

    pub(super) fn note(&self, error: &CallError, about: &About, refused: &Refused) {
        if !is_ours(error, refused.status.code()) {
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

/// Whether somebody who runs gateways or the bridge wants to hear of it.
fn is_ours(error: &CallError, code: Code) -> bool {
    let as_it_should_be = matches!(
        error.obstacle(),
        Some(
            Obstacle::ShuttingDown
                | Obstacle::ConnectionAged
                | Obstacle::Deadline(Wait::Watching)
                | Obstacle::Unreadable(_)
        )
    );
    let ours = matches!(
        code,
        Code::Unknown
            | Code::Internal
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    );
    ours && !as_it_should_be
}

fn spelled<S: Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(outcome.as_str())
}
