//! One log line for each call.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{debug, field, info, warn};

use super::{
    Shared,
    about::About,
    audited::{Audited, AuditedAgents, Ended, Failed},
    error_report::{Recipient, code_name},
    status::{self, Refused},
};
use crate::{
    access::{Access, Caller, PeerAddress},
    call::{CallError, Deadline, Obstacle, Outcome, Share, Wait},
    telemetry::{
        metrics::{CallMetrics, Metrics},
        trace::{Span, Trace, TraceId},
    },
    tenant::Tenant,
};

/// How the names of the contract's methods begin.
const CONTRACT: &str = "ccgateway.agent.v1.";
/// Anybody who can connect can send requests that are refused, and they must not fill the log.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(60);

/// Logs, counts and traces one call. Does so too if the caller goes away and this is dropped.
pub(super) struct CallLog {
    about: About,
    peer: Option<Arc<PeerAddress>>,
    /// What its caller may do, and so who it is.
    access: Option<Arc<Access>>,
    started: Started,
    /// Set if the call belongs into the audit log.
    audited: Option<Audited>,
    written: bool,
}

/// What is known of a call when it begins.
pub(super) struct Started {
    pub(super) at: Instant,
    /// How long its caller waits, if the caller says so.
    pub(super) timeout: Option<Duration>,
    pub(super) counted: Counted,
    pub(super) span: Span,
}

/// Where a call is counted.
pub(super) struct Counted {
    pub(super) method: Arc<CallMetrics>,
    /// None if the caller names no tenant of the configuration.
    pub(super) tenant: Option<Arc<Tenant>>,
}

// === impl CallLog ===

impl CallLog {
    /// Begins the record of a call that has just come.
    pub(super) fn new(about: About, caller: Option<Caller>, started: Started) -> Self {
        let (peer, access) = caller.map(|caller| (caller.peer, caller.access)).unzip();
        let Started { counted, span, .. } = &started;
        counted.method.begin();
        span.set("rpc.system.name", || "grpc");
        span.set("rpc.method", || about.method);
        span.set("ccgw.tenant.id", || about.tenant_id.clone());
        span.set("ccgw.agent.id", || about.agent_id.clone());
        if let Some(peer) = &peer {
            span.set("network.peer.address", || peer.ip().to_string());
            span.set("network.peer.port", || i64::from(peer.addr.port()));
        }
        Self { about, peer, access, started, audited: None, written: false }
    }

    /// The same, with a line in the audit log too.
    pub(super) fn audited(mut self, audited: Option<Audited>) -> Self {
        self.audited = audited;
        self
    }

    /// Where the results of a batch are noted for the audit log; `None`: it has no line there.
    pub(super) fn audited_agents(&self) -> Option<AuditedAgents> {
        self.audited.as_ref().map(Audited::agents)
    }

    /// The trace for spans of the call's parts.
    pub(super) fn trace(&self) -> Trace {
        self.started.span.trace().clone()
    }

    /// Records that the call succeeded.
    pub(super) fn accepted(mut self) {
        self.end(Code::Ok);
        self.audit("OK", None);
        self.log("OK");
    }

    /// Records that the call failed. Returns the status for the caller.
    pub(super) fn refuse(self, error: &CallError, shared: &Shared) -> Status {
        let Started { at, timeout, .. } = self.started;
        let left = timeout.map(|timeout| {
            let start_by = Deadline::new(at, timeout).start_by();
            start_by.saturating_duration_since(Instant::now())
        });
        let gateway = self.started.counted.tenant.as_ref().and_then(|tenant| tenant.gateway());
        // Whoever may not use a tenant does not learn whether there is one.
        let nobody = About { method: self.about.method, ..About::default() };
        let (about, gateway) =
            if error.is_about_the_caller() { (&nobody, None) } else { (&self.about, gateway) };
        let to = Recipient { about, gateway, left };
        let refused = status::refuse(error, &to, &shared.overrides);
        if let Some(Obstacle::Overloaded { share, .. }) = error.obstacle() {
            self.over_limit(*share, &shared.observed.metrics);
        }
        let tenant = self.started.counted.tenant.as_ref().map(|tenant| tenant.id());
        let whose = (tenant, self.is_of_stranger());
        shared.observed.failures.note(error, &self.about, &refused, whose);
        self.refused(error, &refused, shared);
        refused.status
    }

    fn over_limit(&self, share: Share, metrics: &Metrics) {
        let counted = &self.started.counted;
        if let Some(tenant) = &counted.tenant {
            tenant.metrics().overloaded(share);
        }
        // Exactly those that alerts on failed calls have to leave out.
        let is_counted = self.about.method.starts_with(CONTRACT) && !counted.streams();
        match &counted.tenant {
            _ if !share.is_callers_own() || !is_counted => {}
            Some(tenant) => tenant.metrics().over_own_share(),
            None => metrics.tenants.over_own_share(),
        }
    }

    /// Counts a gap: the caller is being told that it has missed events.
    pub(super) fn gap(&self) {
        if let Some(tenant) = &self.started.counted.tenant {
            tenant.metrics().event_gap();
        }
    }

    fn refused(mut self, error: &CallError, refused: &Refused, shared: &Shared) {
        self.end(refused.status.code());
        let server_fault = is_server_fault(refused.status.code()) && !self.is_ordinary_end(error);
        self.explain(error, refused, server_fault);
        let (About { method, tenant_id, agent_id }, elapsed_ms) = (&self.about, self.elapsed_ms());
        let (code, reason) = (code_name(refused.status.code()), &*refused.reason);
        let outcome = error.outcome().as_str();
        let retcode = error.last_refusal().map(|refusal| refusal.retcode.as_str());
        self.audit(code, Some(&Failed { reason: Some(reason), outcome, retcode }));
        let error_kind = error.obstacle();
        let is_told = matches!(
            error_kind,
            Some(Obstacle::Unreadable(_) | Obstacle::CallerUnknown(_) | Obstacle::CallerNotAllowed)
        );
        let shows_cause = server_fault || is_told;
        let error = shows_cause.then(|| error.to_string());
        let (peer, caller, trace) = self.shown();
        macro_rules! line {
            ($write:ident) => {
                $write!(
                    method,
                    peer,
                    ccgw.caller = caller,
                    ccgw.tenant.id = tenant_id,
                    ccgw.agent.id = agent_id,
                    code,
                    ccgw.reason = reason,
                    ccgw.outcome = outcome,
                    ccgw.retcode = retcode,
                    elapsed_ms,
                    trace.id = trace,
                    error,
                    "call"
                )
            };
        }
        match error_kind {
            // Debug only: anybody who can connect can send such requests, and they must not fill
            // the log.
            Some(Obstacle::Unreadable(_) | Obstacle::CallerUnknown(_)) => line!(debug),
            // For the same reason. One now and then is shown, since it may be of somebody whose token was
            // not looked at.
            _ if self.is_of_stranger() && !shared.strangers.is_due(TELL_EVERY) => line!(debug),
            _ if server_fault => line!(warn),
            _ => line!(info),
        }
    }

    /// Writes the log line of a call that succeeded, or whose caller has left.
    fn log(&self, code: &'static str) {
        let (About { method, tenant_id, agent_id }, elapsed_ms) = (&self.about, self.elapsed_ms());
        let (peer, caller, trace) = self.shown();
        info!(
            method,
            peer,
            ccgw.caller = caller,
            ccgw.tenant.id = tenant_id,
            ccgw.agent.id = agent_id,
            code,
            elapsed_ms,
            trace.id = trace,
            "call"
        );
    }

    fn end(&mut self, code: Code) {
        self.written = true;
        let Started { at, counted, span, .. } = &self.started;
        counted.method.end(code.into(), at.elapsed());
        // Streams are left out. They regularly end with an error, when their connection has reached
        // its age.
        if let Some(tenant) = counted.tenant.as_ref().filter(|_| !counted.streams()) {
            tenant.metrics().answered(code.into());
        }
        span.set("rpc.response.status_code", || code_name(code));
    }

    /// Whether nobody knows who its caller is.
    fn is_of_stranger(&self) -> bool {
        self.access.as_ref().is_none_or(|access| access.principals().is_empty())
    }

    /// Whether a stream has ended in an ordinary way: at its deadline, since its caller asked nothing
    /// more, or because its connection or this replica ends.
    fn is_ordinary_end(&self, error: &CallError) -> bool {
        use Obstacle::{ConnectionAged, Deadline as Passed, ShuttingDown, StreamIdle};
        match error.obstacle() {
            Some(ShuttingDown | ConnectionAged | Passed(Wait::Watching)) => {
                self.started.counted.streams()
            }
            Some(StreamIdle(_)) => true,
            _ => false,
        }
    }

    /// Adds to the trace what the caller is told.
    fn explain(&self, error: &CallError, refused: &Refused, server_fault: bool) {
        let span = &self.started.span;
        span.set("ccgw.reason", || refused.reason.clone());
        span.set("ccgw.outcome", || error.outcome().as_str());
        if let Some(refusal) = error.last_refusal() {
            span.set("ccgw.retcode", || refusal.retcode.to_string());
        }
        if server_fault {
            span.set("error.type", || code_name(refused.status.code()));
            span.fail(|| error.to_string());
        }
    }

    /// Adds the call to the audit log, if it belongs there.
    fn audit(&self, code: &str, failed: Option<&Failed<'_>>) {
        if let Some(audited) = &self.audited {
            let (_, caller, trace) = self.shown();
            let ended = Ended {
                caller,
                peer: self.peer(),
                trace_id: trace.map(|trace| trace.to_string()),
                elapsed_ms: self.elapsed_ms(),
            };
            audited.write(&self.about, code, ended, failed);
        }
    }

    /// The peer, the caller and the trace id for the log line.
    fn shown(
        &self,
    ) -> (Option<field::DisplayValue<&str>>, Option<&str>, Option<field::DisplayValue<TraceId>>)
    {
        let caller = self.access.as_ref().map(|access| access.shown());
        let caller = caller.filter(|caller| !caller.is_empty());
        (self.peer().map(field::display), caller, self.trace_id())
    }

    fn peer(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| &*peer.shown)
    }

    /// The trace id for the log line, if the call is traced.
    fn trace_id(&self) -> Option<field::DisplayValue<TraceId>> {
        self.started.span.trace().id().map(field::display)
    }

    fn elapsed_ms(&self) -> f64 {
        (self.started.at.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }
}

impl Counted {
    /// Whether the answer is a stream.
    fn streams(&self) -> bool {
        self.method.streams()
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if !self.written {
            self.end(Code::Cancelled);
            // What was written of it goes on without its caller, and nobody waits for what comes of it.
            let outcome = Outcome::Unknown.as_str();
            self.audit("CANCELLED", Some(&Failed { reason: None, outcome, retcode: None }));
            self.log("CANCELLED");
        }
    }
}

/// Whether the gateway or the bridge is at fault. Their operators then need the cause in the log.
fn is_server_fault(code: Code) -> bool {
    matches!(code, Code::Unknown | Code::Internal | Code::Unavailable | Code::DeadlineExceeded)
}
