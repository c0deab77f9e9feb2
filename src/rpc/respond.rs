//! What every method does around its own work: a deadline before it, a status and a log line
//! after it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, TryAcquireError},
    time::Instant,
};
use tonic::{Code, Extensions, Request, Response, Status, metadata::MetadataMap};
use tracing::{field, info, warn};

use super::{
    Shared,
    status::{self, Refused, code_name},
    timeout,
};
use crate::call::{CallError, Caller, Deadline, FieldViolation, Share};

/// A request that says whom it is about.
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
    SetBusyRequest,
    RegisterSessionRequest,
    SignInRequest,
    SignOutRequest,
    GetSessionRequest
);

/// What a method's work is given beside the request.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) deadline: Deadline,
    _place: OwnedSemaphorePermit,
}

/// Whom a call is about, in the caller's words: bounded, and harmless in a log.
pub(super) struct About {
    pub(super) method: &'static str,
    pub(super) tenant_id: String,
    pub(super) agent_id: String,
}

/// One log line for one call; also for one whose caller goes away.
struct Record {
    about: About,
    peer: Option<SocketAddr>,
    started: Instant,
    written: bool,
}

const ID_MAX: usize = 64;

// === impl Shared ===

impl Shared {
    /// Answers `request` with what `work` makes of it.
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
        let (metadata, extensions, message) = request.into_parts();
        let peer = extensions.get::<Caller>().map(|caller| caller.peer);
        let record = Record::new(self.about(method, &message), peer);
        let result = match self.admit(&metadata, &extensions) {
            Ok(call) => work(call, message).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => {
                record.accepted();
                Ok(Response::new(answer))
            }
            Err(error) => {
                let refused = status::refuse(&error, &record.about, &self.overrides);
                record.refused(&error, &refused);
                Err(refused.status)
            }
        }
    }

    fn about(&self, method: &'static str, request: &impl Addressed) -> About {
        let tenant_id = match (request.tenant_id(), self.tenants.only()) {
            ("", Some(only)) => only.id().to_string(),
            (id, _) => visible(id, ID_MAX),
        };
        About { method, tenant_id, agent_id: visible(request.agent_id(), ID_MAX) }
    }

    fn admit(
        self: &Arc<Self>,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Call, CallError> {
        let timeout = match metadata.get("grpc-timeout") {
            None => self.default_deadline,
            Some(value) => timeout::parse(value.as_encoded_bytes()).ok_or_else(|| {
                let description = "must be 1 to 8 digits and one of H M S m u n".into();
                CallError::Invalid(vec![FieldViolation { field: "grpc-timeout", description }])
            })?,
        };
        let arrived = extensions.get::<Caller>().map_or_else(Instant::now, |caller| caller.arrived);
        let place = self.calls.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => {
                CallError::Overloaded { share: Share::ServerCalls, limit: self.calls_max }
            }
        })?;
        let deadline = Deadline::new(arrived, timeout);
        Ok(Call { shared: self.clone(), deadline, _place: place })
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

// === impl Record ===

impl Record {
    fn new(about: About, peer: Option<SocketAddr>) -> Self {
        Self { about, peer, started: Instant::now(), written: false }
    }

    fn accepted(mut self) {
        self.written = true;
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

    fn refused(mut self, error: &CallError, refused: &Refused) {
        self.written = true;
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

    fn elapsed_ms(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.written {
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
