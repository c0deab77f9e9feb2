//! What the bridge tells in the details of an error.

use std::{collections::BTreeMap, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    call::Outcome,
    reason::{self, Reason},
    rpc::{ERROR_DOMAIN, KEY_OBSERVED_STATE, KEY_OUTCOME, KEY_RETCODE, proto::ActivityState},
};

/// What the bridge tells in the details of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Told {
    /// Why, as a name that does not change. A newer bridge, or its operator, may have names that this version does not know.
    pub reason: String,
    /// The metadata of the `ErrorInfo`; `docs/calling/errors.md` has the keys.
    pub metadata: BTreeMap<String, String>,
    /// After how long another attempt may succeed.
    pub retry_delay: Option<Duration>,
    /// Fields of the request, and limits, each with what is wrong with it.
    pub violations: Vec<Violation>,
    /// What has to be so before the call can succeed.
    pub unmet: Vec<Unmet>,
}

/// A field of a request, or the owner of a limit, with what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field, or whose limit it is.
    pub on: String,
    /// What is wrong.
    pub description: String,
}

/// A condition that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmet {
    /// What kind of condition, such as `AGENT_STATE`.
    pub kind: String,
    /// Who has to meet it, such as `tenants/acme/agents/1001`.
    pub subject: String,
}

impl Told {
    /// What a status tells; `None` if it is not of the bridge, but of a proxy or of a gRPC library.
    pub fn of(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
        Some(Self {
            reason: info.reason.clone(),
            metadata: info.metadata.clone().into_iter().collect(),
            retry_delay: details.retry_info().and_then(|retry| retry.retry_delay),
            violations: violations(&details),
            unmet: unmet(&details),
        })
    }

    /// What is known about the agent. An outcome that this version does not know is [`Outcome::Unknown`].
    pub fn outcome(&self) -> Outcome {
        let told = self.metadata.get(KEY_OUTCOME);
        told.and_then(|told| Outcome::find(told)).unwrap_or(Outcome::Unknown)
    }

    /// The retcode with which the gateway refused, if it did.
    pub fn retcode(&self) -> Option<&str> {
        self.metadata.get(KEY_RETCODE).map(String::as_str)
    }

    /// What the agent was doing when the bridge asked after an answer was lost, if it could.
    pub fn observed_state(&self) -> Option<ActivityState> {
        let told = self.metadata.get(KEY_OBSERVED_STATE)?;
        ActivityState::from_str_name(told)
    }

    /// What callers may rely on for each error with this reason; `None` for a reason that this version does not know.
    pub fn listed_reason(&self) -> Option<&'static Reason> {
        reason::find(&self.reason)
    }
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let fields = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
    let fields = fields.map(|field| (&field.field, &field.description));
    let quotas = details.quota_failure().into_iter().flat_map(|quota| &quota.violations);
    let quotas = quotas.map(|quota| (&quota.subject, &quota.description));
    let both = fields.chain(quotas);
    both.map(|(on, what)| Violation { on: on.clone(), description: what.clone() }).collect()
}

fn unmet(details: &ErrorDetails) -> Vec<Unmet> {
    let failures = details.precondition_failure().into_iter();
    let failures = failures.flat_map(|failure| &failure.violations);
    failures.map(|of| Unmet { kind: of.r#type.clone(), subject: of.subject.clone() }).collect()
}
