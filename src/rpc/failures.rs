//! The calls that failed or were refused lately, for the status page.

mod groups;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use tonic::Code;

pub use self::groups::FailureGroup;
use self::groups::Groups;
use super::{
    about::{About, visible},
    error_report::code_name,
    observed::is_refusal,
    status::Refused,
};
use crate::{
    call::{CallError, Obstacle, Outcome, Wait},
    id::TenantId,
};

/// The calls that failed or were refused lately, for people. A call that succeeds leaves nothing here.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Those that failed because of a gateway or the bridge, oldest first.
    last: VecDeque<Failure>,
    /// The same and those that were refused, by what they have in common.
    groups: Groups,
    /// The same, each with its agent, oldest first.
    of_agents: VecDeque<AgentFailure>,
}

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

/// One call for one agent that failed or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentFailure {
    /// When the call was answered.
    #[serde(serialize_with = "crate::time::as_rfc3339")]
    pub time: SystemTime,
    /// The agent's tenant.
    #[serde(skip)]
    pub tenant: TenantId,
    /// The agent's id.
    #[serde(skip)]
    pub agent: String,
    /// For example `SetBusy`.
    pub method: &'static str,
    /// For example `FAILED_PRECONDITION`.
    pub code: &'static str,
    /// For example `STATE_REFUSED`.
    pub reason: String,
    /// What is known about the agent.
    #[serde(serialize_with = "spelled")]
    pub outcome: Outcome,
    /// The gateway's retcode, if it refused an attempt.
    pub retcode: Option<String>,
}

/// How many failures are kept.
const KEPT: usize = 20;
/// How many calls are kept with their agents, of all tenants: about 200 KB.
const OF_AGENTS: usize = 1024;
/// Longest text in bytes.
const TEXT_MAX: usize = 300;

impl Failures {
    /// The last failures, newest first.
    pub fn last(&self) -> Vec<Failure> {
        self.kept().last.iter().rev().cloned().collect()
    }

    /// The calls that failed or were refused, grouped, the group with the newest call first.
    pub fn groups(&self) -> Vec<FailureGroup> {
        self.kept().groups.newest_first()
    }

    /// The last calls for this agent that failed or were refused, newest first.
    pub fn of_agent(&self, tenant: &TenantId, agent: &str) -> Vec<AgentFailure> {
        let kept = self.kept();
        let newest_first = kept.of_agents.iter().rev();
        newest_first.filter(|one| one.tenant == *tenant && one.agent == agent).cloned().collect()
    }

    /// Adds the failure, if a gateway, the bridge or a full limit caused it, and a refusal, if it is one of this
    /// tenant. One of a stranger is only counted with others: anybody who can connect could push all others out.
    pub(super) fn note(
        &self,
        error: &CallError,
        about: &About,
        refused: &Refused,
        (tenant, is_of_stranger): (Option<&TenantId>, bool),
    ) {
        let code = refused.status.code();
        let is_failure = is_listed(error, code);
        // Callers without a tenant are refused for what they ask, which is no tenant's trouble. One that asks too much
        // is refused too, as in the counts of its tenant.
        let is_refusal = (is_refusal(code) && tenant.is_some()) || is_over_own_share(error);
        if !is_failure && !is_refusal {
            return;
        }
        let refusal = error.last_refusal();
        let message = refusal.map(|refusal| &refusal.message).filter(|text| !text.is_empty());
        let failure = Failure {
            time: SystemTime::now(),
            tenant: about.tenant_id.clone(),
            method: about.method.rsplit('/').next().unwrap_or(about.method),
            code: code_name(code),
            reason: refused.reason.clone(),
            outcome: error.outcome(),
            retcode: refusal.map(|refusal| refusal.retcode.as_str().to_owned()),
            error: visible(&error.to_string(), TEXT_MAX),
            gateway_message: message.map(|text| visible(text, TEXT_MAX)),
        };
        let mut kept = self.kept();
        kept.groups.add(grouped(&failure, tenant), is_refusal);
        if let Some(tenant) = tenant.filter(|_| !about.agent_id.is_empty()) {
            kept.note_of_agent(&failure, tenant, &about.agent_id);
        }
        if is_failure && !is_of_stranger {
            push(&mut kept.last, failure, KEPT);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn note_of_agent(&mut self, failure: &Failure, tenant: &TenantId, agent: &str) {
        let Failure { time, method, code, ref reason, outcome, ref retcode, .. } = *failure;
        let (reason, retcode) = (reason.clone(), retcode.clone());
        let (tenant, agent) = (tenant.clone(), agent.to_owned());
        let of_agent = AgentFailure { time, tenant, agent, method, code, reason, outcome, retcode };
        push(&mut self.of_agents, of_agent, OF_AGENTS);
    }
}

/// What stands for the failure in its group. Any text can be the name of a tenant that does not exist, so those have
/// a common one without a name.
fn grouped(failure: &Failure, tenant: Option<&TenantId>) -> Failure {
    let tenant = tenant.map(ToString::to_string).unwrap_or_default();
    Failure { tenant, ..failure.clone() }
}

/// Adds the newest, and drops the oldest where there are `most`.
fn push<T>(all: &mut VecDeque<T>, newest: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(newest);
}

/// Whether the caller alone has used up what it may have.
fn is_over_own_share(error: &CallError) -> bool {
    let obstacle = error.obstacle();
    matches!(obstacle, Some(Obstacle::Overloaded { share, .. }) if share.is_callers_own())
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{
        super::{error_report::Recipient, status},
        *,
    };
    use crate::{call::Share, config::Overrides};

    /// Both have the same reason.
    #[test]
    fn a_caller_that_asks_too_much_is_refused_and_one_that_finds_no_place_has_failed() {
        let (failures, tenant) = (Failures::default(), TenantId::parse("acme").expect("a name"));
        let method = "ccgateway.agent.v1.AgentState/SetBusy";
        let about = About { method, tenant_id: "acme".into(), agent_id: "1001".into() };
        for share in [Share::AgentQueue, Share::HostRequests] {
            let error =
                CallError::unasked(Obstacle::Overloaded { share, limit: NonZeroUsize::MIN });
            let to = Recipient { about: &about, gateway: None, left: None };
            let refused = status::refuse(&error, &to, &Overrides::default());
            failures.note(&error, &about, &refused, (Some(&tenant), false));
        }
        let groups = failures.groups().into_iter();
        let mut told: Vec<_> =
            groups.map(|group| (group.last.reason, group.refused, group.count)).collect();
        told.sort_unstable();
        let reason = || "TENANT_OVERLOADED".to_owned();
        assert_eq!(told, [(reason(), false, 1), (reason(), true, 1)]);
    }
}
