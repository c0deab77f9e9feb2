//! What the audit log has of a call.

use std::{fmt, time::SystemTime};

use super::about::{About, visible};
use crate::telemetry::audit::{Audit, AuditLine};

/// A call that belongs into the audit log.
pub(super) struct Audited {
    audit: Audit,
    arguments: String,
}

/// How a call has ended.
pub(super) struct Ended<'a> {
    pub(super) caller: Option<&'a str>,
    pub(super) peer: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) elapsed_ms: f64,
}

/// Why a call has failed.
pub(super) struct Failed<'a> {
    pub(super) reason: &'a str,
    pub(super) outcome: &'a str,
    pub(super) retcode: Option<&'a str>,
}

/// The longest text of a request, in bytes. One for 500 agents has about half of that.
const ARGUMENTS_MAX: usize = 16 * 1024;

impl Audited {
    /// Takes what the line says of the request. Its `Debug` shows no secret.
    pub(super) fn new(audit: Audit, request: &impl fmt::Debug) -> Self {
        Self { audit, arguments: visible(&format!("{request:?}"), ARGUMENTS_MAX) }
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
            code,
            reason: failed.map(|failed| failed.reason),
            outcome: failed.map(|failed| failed.outcome),
            retcode: failed.and_then(|failed| failed.retcode),
            trace_id,
            elapsed_ms,
        });
    }
}
