//! What every method does around its own work: a deadline and a place before it, a status and a log
//! line after it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap};

use super::{
    Observed, Shared,
    about::{About, visible},
    call_log::{CallLog, Counted, Started},
    timeout,
};
use crate::{
    call::{CallError, Caller, Deadline},
    telemetry::trace::Trace,
    tenant::{Context, ServerPlace, Tenant},
};

/// A request that names a tenant and an agent.
pub(super) trait Addressed {
    fn tenant_id(&self) -> &str;
    fn agent_id(&self) -> &str;
}

macro_rules! addressed {
    ($($request:ident),+) => {$(
        impl Addressed for super::proto::$request {
            fn tenant_id(&self) -> &str {
                &self.tenant_id
            }

            fn agent_id(&self) -> &str {
                &self.agent_id
            }
        }
    )+};
}

addressed!(
    GetStateRequest,
    RegisterSessionRequest,
    SignInRequest,
    SignOutRequest,
    GetSessionRequest
);

impl Addressed for super::proto::WatchEventsRequest {
    fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// The agent's id if the request names just one.
    fn agent_id(&self) -> &str {
        if let [agent_id] = &*self.agent_ids { agent_id } else { "" }
    }
}

/// What a method gets beside its request.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    /// The tenant that the caller names; `None`: it names none of the configuration.
    pub(super) tenant: Option<Arc<Tenant>>,
    pub(super) context: Context,
    /// How long the caller waits. `None` if it does not say.
    timeout: Option<Duration>,
    _place: Option<ServerPlace>,
}

/// What came with a request beside its message. The metadata is dropped, since callers could
/// otherwise make the bridge hold it in memory as long as a call goes on.
pub(super) struct Arrival {
    /// How long the caller waits. `None` if it does not say.
    pub(super) timeout: Option<Duration>,
    pub(super) peer: Option<SocketAddr>,
    /// When the request came.
    pub(super) at: Instant,
}

/// The longest id in logs and details, in bytes.
pub(super) const ID_MAX: usize = 64;

// === impl Arrival ===

impl Arrival {
    fn new(metadata: &MetadataMap, extensions: &Extensions) -> Self {
        let (peer, at) = match extensions.get() {
            Some(&Caller { peer, arrived }) => (Some(peer), arrived),
            None => (None, Instant::now()),
        };
        // A malformed one does not come so far (`request_head`).
        let timeout = metadata.get(timeout::HEADER);
        let timeout = timeout.and_then(|value| timeout::parse(value.as_encoded_bytes()));
        Self { timeout, peer, at }
    }
}

// === impl Call ===

impl Call {
    /// The deadline for a confirmation. It is the caller's own one, if the caller set one.
    /// Otherwise the caller waits for `within` in addition to the default deadline.
    pub(super) fn confirmed_by(&self, within: Duration) -> Deadline {
        let deadline = self.context.deadline;
        match self.timeout {
            Some(_) => deadline,
            None => Deadline::new(deadline.arrived(), self.shared.default_deadline + within),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Answers `request` with the result of `work`.
    pub(super) async fn answer<Q, A, W>(
        self: &Arc<Self>,
        method: &'static str,
        request: Request<Q>,
        work: impl FnOnce(Call, Q) -> W,
    ) -> Result<Response<A>, Status>
    where
        Q: Addressed,
        W: Future<Output = Result<A, CallError>>,
    {
        let (arrival, record, message) = self.arrival(method, request);
        let result = match self.admit(&arrival, record.tenant(), record.trace()) {
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
    /// answered.
    pub(super) fn arrival<Q: Addressed>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> (Arrival, CallLog, Q) {
        let (metadata, extensions, message) = request.into_parts();
        let arrival = Arrival::new(&metadata, &extensions);
        let tenant = self.tenants.named(message.tenant_id());
        let named = || visible(message.tenant_id(), ID_MAX);
        let tenant_id = tenant.map_or_else(named, |tenant| tenant.id().to_string());
        let agent_id = visible(message.agent_id(), ID_MAX);
        let about = About { method, tenant_id, agent_id };
        let Observed { metrics, tracer, .. } = &*self.observed;
        let started = Started {
            at: arrival.at,
            timeout: arrival.timeout,
            counted: Counted { method: metrics.calls.of(method), tenant: tenant.cloned() },
            span: tracer.begin(method, metadata.as_ref(), arrival.at),
        };
        let record = CallLog::new(about, arrival.peer, started);
        (arrival, record, message)
    }

    /// Takes a place among the server's calls. A call that names no tenant needs none, since it is
    /// refused before it waits for anything.
    fn admit(
        self: &Arc<Self>,
        arrival: &Arrival,
        tenant: Option<&Arc<Tenant>>,
        trace: Trace,
    ) -> Result<Call, CallError> {
        let timeout = arrival.timeout;
        let place = tenant.map(|tenant| tenant.enter_server()).transpose();
        let place = place.map_err(CallError::unasked)?;
        let deadline = Deadline::new(arrival.at, timeout.unwrap_or(self.default_deadline));
        let context = Context { deadline, trace };
        let (shared, tenant) = (self.clone(), tenant.cloned());
        Ok(Call { shared, tenant, context, timeout, _place: place })
    }
}
