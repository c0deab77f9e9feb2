//! What every method does around its own work: a deadline and a place before it, a status and a log
//! line after it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    Method, Observed, Shared,
    about::{About, Addressed, ID_MAX, visible},
    audited::{Audited, AuditedAgents},
    call_log::{CallLog, Counted, Started},
    timeout,
};
use crate::{
    access::{Access, Caller, Right},
    call::{CallError, Deadline, Obstacle, Unidentified},
    tenant::{CallerId, Context, ServerPlace, Tenant},
};

/// What a method gets beside its request.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    /// The tenant that the caller names; `None`: it names none of the configuration.
    pub(super) tenant: Option<Arc<Tenant>>,
    pub(super) context: Context,
    /// Where the audit log's line of a batch gets what came of each agent; `None`: there is no line.
    pub(super) audited: Option<AuditedAgents>,
    /// How long the caller waits. `None` if it does not say.
    timeout: Option<Duration>,
    _place: Option<ServerPlace>,
}

/// What came with a request beside its message. The metadata is dropped, since callers could
/// otherwise make the bridge hold it in memory as long as a call goes on.
pub(super) struct Arrival {
    /// How long the caller waits. `None` if it does not say.
    pub(super) timeout: Option<Duration>,
    pub(super) peer: Option<IpAddr>,
    /// When the request came.
    pub(super) at: Instant,
    /// What the caller may do; `None` if its connection has not said who it is.
    pub(super) access: Option<Arc<Access>>,
    /// The tenant that the caller names, if it has the right that the method needs there. `None`: it
    /// names none of the configuration.
    pub(super) tenant: Result<Option<Arc<Tenant>>, Obstacle>,
}

// === impl Call ===

impl Call {
    /// The deadline for a confirmation. It is the caller's own one, if the caller set one.
    /// Otherwise the caller waits for `within` in addition to the default deadline.
    pub(super) fn confirmed_by(&self, within: Duration) -> Deadline {
        let deadline = self.context.deadline;
        match self.timeout {
            Some(_) => deadline,
            None => Deadline::new(deadline.arrived(), self.shared.default_deadline.get() + within),
        }
    }
}

// === impl Arrival ===

impl Arrival {
    /// Whose share of what the tenant's callers have in common the call takes.
    fn caller(&self) -> CallerId {
        let known = self.access.as_ref().and_then(|access| access.number());
        let of_address = || self.peer.map(CallerId::of_address);
        known.map(CallerId::known).or_else(of_address).unwrap_or(CallerId::BRIDGE)
    }
}

// === impl Shared ===

impl Shared {
    /// Answers `request` with the result of `work`, if its caller has `right` at the tenant.
    pub(super) async fn answer<Q, A, W>(
        self: &Arc<Self>,
        right: Right,
        method: Method,
        request: Request<Q>,
        work: impl FnOnce(Call, Q) -> W,
    ) -> Result<Response<A>, Status>
    where
        Q: Addressed,
        W: Future<Output = Result<A, CallError>>,
    {
        let (arrival, record, message) = self.arrival(right, method, request);
        let result = match self.admit(arrival, &record) {
            Ok(call) => work(call, message).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => {
                record.accepted();
                Ok(Response::new(answer))
            }
            Err(error) => Err(record.refuse(&error, self)),
        }
    }

    /// Takes a request apart. Also returns the record that has to be closed when the request is
    /// answered. The tenant is looked up only if the caller has `right` there.
    pub(super) fn arrival<Q: Addressed>(
        &self,
        right: Right,
        method: Method,
        request: Request<Q>,
    ) -> (Arrival, CallLog, Q) {
        let (metadata, mut extensions, message) = request.into_parts();
        let caller = extensions.remove::<Caller>();
        let access = caller.as_ref().map(|caller| &*caller.access);
        let tenant = self.tenant(access, message.tenant_id(), right);
        let found = tenant.as_ref().ok().and_then(Option::as_ref);
        let named = || visible(message.tenant_id(), ID_MAX);
        let tenant_id = found.map_or_else(named, |tenant| tenant.id().to_string());
        let agent_id = visible(message.agent_id(), ID_MAX);
        let about = About { method: method.name(), tenant_id, agent_id };
        // A malformed one does not come so far (`request_head`).
        let timeout = metadata.get(timeout::HEADER);
        let timeout = timeout.and_then(|value| timeout::parse(value.as_encoded_bytes()));
        let at = caller.as_ref().map_or_else(Instant::now, |caller| caller.arrived);
        let Observed { metrics, tracer, .. } = &*self.observed;
        let started = Started {
            at,
            timeout,
            counted: Counted {
                method: metrics.calls.of(Some(method.number())),
                tenant: found.cloned(),
            },
            span: tracer.begin(method.name(), metadata.as_ref(), at),
        };
        let peer = caller.as_ref().map(|caller| caller.peer.ip());
        let access = caller.as_ref().map(|caller| caller.access.clone());
        let audit = self.observed.audit.as_ref().filter(|_| right.changes());
        let audited = audit.map(|audit| Audited::new(audit.clone(), &message));
        let record = CallLog::new(about, caller, started).audited(audited);
        (Arrival { timeout, peer, at, access, tenant }, record, message)
    }

    /// The tenant that a caller means by `id`. A request is refused if its connection has
    /// not said who its caller is, and if its caller has lost the right since the request began.
    fn tenant(
        &self,
        access: Option<&Access>,
        id: &str,
        right: Right,
    ) -> Result<Option<Arc<Tenant>>, Obstacle> {
        let access = access.ok_or(Obstacle::CallerUnknown(Unidentified::Nothing))?;
        let Some(id) = access.tenant(id, right)? else { return Ok(None) };
        // A reload puts rules in force before tenants. So whoever finds a new tenant here is judged by its rules.
        let tenant = self.tenants.named(id);
        access.taken_back(id, right).map_or(Ok(tenant), Err)
    }

    /// Takes a place among the server's calls. A call that names no tenant needs none, since it is
    /// refused before it waits for anything.
    fn admit(self: &Arc<Self>, arrival: Arrival, record: &CallLog) -> Result<Call, CallError> {
        let caller = arrival.caller();
        let Arrival { timeout, at, tenant, .. } = arrival;
        let tenant = tenant.map_err(CallError::unasked)?;
        let place = tenant.as_ref().map(|tenant| tenant.enter_server(caller)).transpose();
        let place = place.map_err(CallError::unasked)?;
        let deadline = Deadline::new(at, timeout.unwrap_or_else(|| self.default_deadline.get()));
        let (context, audited) =
            (Context { deadline, trace: record.trace(), caller }, record.audited_agents());
        Ok(Call { shared: self.clone(), tenant, context, audited, timeout, _place: place })
    }
}
