//! What the audit log has of a call.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::about::{About, visible};
use crate::{
    call::Outcome,
    telemetry::audit::{Audit, AuditLine, AuditedAgent},
};

/// A call that belongs into the audit log.
pub(super) struct Audited {
    audit: Audit,
    arguments: String,
    agents: AuditedAgents,
}

/// What has come of the agents of a batch so far, in the order of its request.
#[derive(Clone, Default)]
pub(super) struct AuditedAgents(Arc<Mutex<Vec<AuditedAgent>>>);

/// How a call has ended.
pub(super) struct Ended<'a> {
    pub(super) caller: Option<&'a str>,
    pub(super) peer: Option<&'a str>,
    pub(super) trace_id: Option<String>,
    pub(super) elapsed_ms: f64,
}

/// Why a call has failed.
pub(super) struct Failed<'a> {
    /// `None`: its caller has left, and so was told nothing.
    pub(super) reason: Option<&'a str>,
    pub(super) outcome: &'a str,
    pub(super) retcode: Option<&'a str>,
}

/// The longest text of a request, in bytes. One for 500 agents has about half of that.
const ARGUMENTS_MAX: usize = 16 * 1024;

impl Audited {
    /// Takes what the line says of the request. Its `Debug` shows no secret.
    pub(super) fn new(audit: Audit, request: &impl fmt::Debug) -> Self {
        let arguments = visible(&format!("{request:?}"), ARGUMENTS_MAX);
        Self { audit, arguments, agents: AuditedAgents::default() }
    }

    /// Where the results of a batch are noted.
    pub(super) fn agents(&self) -> AuditedAgents {
        self.agents.clone()
    }

    /// Adds the line.
    pub(super) fn write(
        &self,
        about: &About,
        code: &str,
        ended: Ended<'_>,
        failed: Option<&Failed<'_>>,
    ) {
        let Ended { caller, peer, trace_id, elapsed_ms } = ended;
        self.audit.write(&AuditLine {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            caller,
            peer,
            method: about.method,
            tenant: &about.tenant_id,
            agent: &about.agent_id,
            arguments: &self.arguments,
            agents: &self.agents.noted(),
            code,
            reason: failed.and_then(|failed| failed.reason),
            outcome: failed.map(|failed| failed.outcome),
            retcode: failed.and_then(|failed| failed.retcode),
            trace_id,
            elapsed_ms,
        });
    }
}

impl AuditedAgents {
    /// Lists the agents of a batch. Nothing is sent for any of them yet. They are listed as what they are if
    /// the caller leaves before their turn.
    pub(super) fn list(&self, agents: impl Iterator<Item = String>) {
        let (code, outcome) = ("CANCELLED", Some(Outcome::NotSent.as_str()));
        let listed = |agent| AuditedAgent { agent, code, reason: None, outcome, retcode: None };
        *self.noted() = agents.map(listed).collect();
    }

    /// Notes that something may have been sent for an agent, by its place in the request.
    pub(super) fn begin(&self, place: usize) {
        if let Some(agent) = self.noted().get_mut(place) {
            agent.outcome = Some(Outcome::Unknown.as_str());
        }
    }

    /// Notes what has come of an agent, by its place in the request.
    pub(super) fn end(&self, place: usize, ended: AuditedAgent) {
        if let Some(agent) = self.noted().get_mut(place) {
            *agent = ended;
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<AuditedAgent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
