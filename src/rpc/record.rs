//! One log line for each call.

use std::{net::SocketAddr, sync::Arc};

use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{field, info, warn};

use super::status::{self, Refused, code_name};
use crate::{call::CallError, metrics::CallMetrics, retcode::Overrides};

/// Whom a call is about, in the caller's words: bounded, and harmless in a log.
pub(super) struct About {
    pub(super) method: &'static str,
    pub(super) tenant_id: String,
    pub(super) agent_id: String,
}

/// One log line for one call; also for one whose caller goes away.
pub(super) struct Record {
    about: About,
    peer: Option<SocketAddr>,
    started: Instant,
    metrics: Option<Arc<CallMetrics>>,
    written: bool,
}

// === impl Record ===

impl Record {
    /// Of a call that came then.
    pub(super) fn new(
        about: About,
        peer: Option<SocketAddr>,
        started: Instant,
        metrics: Option<Arc<CallMetrics>>,
    ) -> Self {
        if let Some(metrics) = &metrics {
            metrics.begin();
        }
        Self { about, peer, started, metrics, written: false }
    }

    pub(super) fn accepted(mut self) {
        self.end(Code::Ok);
        let (About { method, tenant_id, agent_id }, elapsed_ms) = (&self.about, self.elapsed_ms());
        let peer = self.peer.map(field::display);
        info!(
            method,
            peer,
            tenant.id = tenant_id,
            agent.id = agent_id,
            code = "OK",
            elapsed_ms,
            "call"
        );
    }

    /// The status that a failed call is answered with.
    pub(super) fn refuse(self, error: &CallError, overrides: &Overrides) -> Status {
        let refused = status::refuse(error, &self.about, overrides);
        self.refused(error, &refused);
        refused.status
    }

    fn refused(mut self, error: &CallError, refused: &Refused) {
        self.end(refused.status.code());
        let (About { method, tenant_id, agent_id }, elapsed_ms) = (&self.about, self.elapsed_ms());
        let (code, reason) = (code_name(refused.status.code()), &*refused.reason);
        let outcome = error.outcome().as_str();
        let retcode = error.refusal().map(|refusal| refusal.retcode.as_str());
        let ours = matches!(
            refused.status.code(),
            Code::Unknown | Code::Internal | Code::Unavailable | Code::DeadlineExceeded
        );
        // What lies with the gateway or the bridge is for whoever runs them, with its cause.
        let error = ours.then(|| error.to_string());
        let peer = self.peer.map(field::display);
        macro_rules! line {
            ($write:ident) => {
                $write!(
                    method,
                    peer,
                    tenant.id = tenant_id,
                    agent.id = agent_id,
                    code,
                    reason,
                    outcome,
                    retcode,
                    elapsed_ms,
                    error,
                    "call"
                )
            };
        }
        if ours { line!(warn) } else { line!(info) }
    }

    fn end(&mut self, code: Code) {
        self.written = true;
        if let Some(metrics) = &self.metrics {
            metrics.end(code.into(), self.started.elapsed());
        }
    }

    fn elapsed_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.written {
            self.end(Code::Cancelled);
            let (About { method, tenant_id, agent_id }, elapsed_ms) =
                (&self.about, self.elapsed_ms());
            let peer = self.peer.map(field::display);
            info!(
                method,
                peer,
                tenant.id = tenant_id,
                agent.id = agent_id,
                code = "CANCELLED",
                elapsed_ms,
                "call"
            );
        }
    }
}

/// `text` without control characters, which could forge log lines, and cut to `max` bytes.
pub(super) fn visible(text: &str, max: usize) -> String {
    let mut visible = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        if visible.len() + c.len_utf8() > max {
            break;
        }
        visible.push(c);
    }
    visible
}
