//! Answers requests whose message has not been read and will not be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::Full;
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tracing::warn;

use super::{
    DefaultDeadline, Method, Shared,
    about::About,
    call_log::{CallLog, Counted, Started, TELL_EVERY},
    request_head::{self, ACCEPTED_ENCODINGS, RequestHead},
    timeout,
};
use crate::{
    access::{Access, Caller, PeerAddress},
    call::{CallError, Deadline, Obstacle, Unidentified, Unreadable},
    reason,
};

/// Answers requests that no method handles, in the way in which methods answer failed calls: with a
/// status from the table, a log line and counters.
#[derive(Clone, Debug)]
pub struct Unhandled(pub(super) Arc<Shared>);

/// What clients of other protocols are told.
pub const WHAT_IS_SPOKEN: &str = "\
This port speaks gRPC: HTTP/2 from its first byte, POST, and content-type application/grpc.
It does not serve gRPC-Web, Connect, REST or HTTP/1.
";

/// The method's name in logs and metrics, if the path names no method.
const UNKNOWN: &str = "unknown";
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Unhandled {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The deadline of calls whose callers set none, to be changed with the tenants.
    pub fn default_deadline(&self) -> Arc<DefaultDeadline> {
        self.0.default_deadline.clone()
    }

    /// Checks the head of a request, before anything else is done with it. `method` is what its path names.
    /// Only health may be asked for by callers whom nobody knows: balancers ask for it, and it tells of tenants
    /// only those who may use them.
    ///
    /// # Errors
    ///
    /// Why the request reaches no method. [`Unhandled::refuse`] makes an answer of that.
    pub fn check(
        &self,
        head: &Parts,
        method: Option<Method>,
        identified: Result<(), Unidentified>,
    ) -> Result<RequestHead, CallError> {
        let read = request_head::check(head, method).map_err(CallError::unasked)?;
        match identified {
            Err(why) if !read.method.is_health() => {
                Err(CallError::unasked(Obstacle::CallerUnknown(why)))
            }
            _ => Ok(read),
        }
    }

    /// When a request with these headers that came at `arrived` has to be answered: by its caller's
    /// deadline, or else by the default one.
    pub fn answer_by(&self, headers: &HeaderMap, arrived: Instant) -> Instant {
        let timeout = own_timeout(headers).unwrap_or_else(|| self.0.default_deadline.get());
        Deadline::new(arrived, timeout).answer_by()
    }

    /// When a stream with these headers that came at `arrived` has to end, if its caller set a
    /// deadline.
    pub fn deadline(&self, headers: &HeaderMap, arrived: Instant) -> Option<Instant> {
        arrived.checked_add(own_timeout(headers)?)
    }

    /// Refuses a request of `method` with `error`; `None`: its path names none that its caller may know of.
    /// Its agent is unknown, since its message has not been read. Its tenant is unknown too, unless there is
    /// only one that its caller may use.
    pub fn refuse(
        &self,
        head: &Parts,
        method: Option<Method>,
        error: &CallError,
    ) -> Response<Body> {
        let response = self.refuse_stream(head, method, error).into_http();
        match error.obstacle() {
            Some(Obstacle::Unreadable(why)) => {
                with_http(response, why, head.method == http::Method::HEAD)
            }
            _ => response,
        }
    }

    /// Refuses a request that is a stream, after its answer has begun.
    pub fn refuse_stream(&self, head: &Parts, method: Option<Method>, error: &CallError) -> Status {
        let caller = head.extensions.get::<Caller>().cloned();
        self.record(method, &head.headers, caller).refuse(error, &self.0)
    }

    /// Records a request of `peer` that h2 has refused by itself, or whose connection ended before
    /// a service got it. Nothing else is known of it but the cause, if h2 has told it. Such a request
    /// is of a client that somebody has to correct, and its caller is told little; so now and then one
    /// is told here at a level that is shown.
    pub fn note_undispatched(&self, peer: &Arc<PeerAddress>, cause: Option<String>) {
        if let Some(cause) = cause.as_deref().filter(|_| self.0.refusals.is_due(TELL_EVERY)) {
            warn!(
                peer = %peer.shown,
                error = cause,
                "HTTP/2 has refused a request for its headers; others within a minute are only counted"
            );
        }
        self.note(peer.clone(), Unreadable::RefusedByHttp2(cause));
    }

    /// Counts more such requests.
    pub fn count_undispatched(&self, requests: u64) {
        let metrics = self.0.observed.metrics.calls.of(None);
        for _ in 0..requests {
            metrics.begin();
            metrics.end(reason::HTTP2_REFUSED.code.into(), Duration::ZERO);
        }
    }

    /// Records a request of `peer` that was HTTP/1.
    pub fn note_http_1(&self, peer: SocketAddr) {
        self.note(Arc::new(peer.into()), Unreadable::Http1);
    }

    fn note(&self, peer: Arc<PeerAddress>, why: Unreadable) {
        let (arrived, access) = (Instant::now(), Access::nobody().into());
        let record = self.record(None, &HeaderMap::new(), Some(Caller { peer, arrived, access }));
        let _nobody_hears_it = record.refuse(&CallError::unasked(why.into()), &self.0);
    }

    /// The record of a request that reaches no method.
    pub(super) fn record(
        &self,
        method: Option<Method>,
        headers: &HeaderMap,
        caller: Option<Caller>,
    ) -> CallLog {
        let name = method.map_or(UNKNOWN, Method::name);
        let at = caller.as_ref().map_or_else(Instant::now, |caller| caller.arrived);
        let only = caller.as_ref().and_then(|caller| caller.access.only_tenant());
        let tenant = only.and_then(|id| self.0.tenants.named(id));
        let tenant_id = tenant.as_ref().map(|tenant| tenant.id().to_string()).unwrap_or_default();
        let about = About { method: name, tenant_id, agent_id: String::new() };
        let observed = &self.0.observed;
        let counted = Counted {
            method: observed.metrics.calls.of(method.map(Method::number)),
            // Health checks, for example, belong to no tenant.
            tenant: tenant.filter(|_| method.is_some_and(Method::is_of_contract)),
        };
        let timeout = own_timeout(headers);
        // Whoever can connect must not decide what is recorded.
        let is_stranger = caller.as_ref().is_none_or(|it| it.access.principals().is_empty());
        let nothing = HeaderMap::new();
        let traced = if is_stranger { &nothing } else { headers };
        let span = observed.tracer.begin(name, traced, at);
        let started = Started { at, timeout, counted, span };
        CallLog::new(about, caller, started)
    }
}

/// Adds what HTTP itself says of a request that cannot be read. Its status is in the headers in any
/// case, as every client of gRPC expects it. An answer to HEAD has no text.
fn with_http(mut response: Response<Body>, why: &Unreadable, is_head: bool) -> Response<Body> {
    match why {
        Unreadable::ContentType(_) => {
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            if is_head {
                return response;
            }
            response.map(|_empty| Body::new(Full::from(WHAT_IS_SPOKEN)))
        }
        Unreadable::HttpMethod(_) => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        Unreadable::Compressed(_) => {
            response.headers_mut().insert(ACCEPT_ENCODING, ACCEPTED_ENCODINGS);
            response
        }
        _ => response,
    }
}

fn own_timeout(headers: &HeaderMap) -> Option<Duration> {
    timeout::parse(headers.get(timeout::HEADER)?.as_bytes())
}
