//! Answers that tonic gives by itself, for calls that did not reach a method.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, Response, uri::PathAndQuery};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::{
    about::About,
    call_log::{CallLog, Counted, Started},
    unhandled::{METHODS, Unhandled},
};
use crate::call::{CallError, Obstacle, Unreadable};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// The method's name in logs and metrics, if the path names no method of the contract.
const UNKNOWN: &str = "unknown";

impl Unhandled {
    /// Checks an answer on its way out. If no method has made it, it is logged and counted, and
    /// gets the details that every error has.
    ///
    /// Methods answer with a status in the trailers, or with details in the headers. So two header
    /// lookups are enough for most answers.
    pub fn complete(
        &self,
        path: Option<&PathAndQuery>,
        (peer, at): (SocketAddr, Instant),
        response: Response<Body>,
    ) -> Response<Body> {
        let headers = response.headers();
        if response.status().is_success()
            && (!headers.contains_key(GRPC_STATUS) || headers.contains_key(DETAILS))
        {
            return response;
        }
        let path = path.map_or("", |path| path.path().trim_start_matches('/'));
        let method = METHODS.into_iter().find(|method| *method == path);
        let Some(why) = why(method, &response) else { return response };
        let answers = response.status().is_success();
        let record = self.record_of(method.unwrap_or(UNKNOWN), (peer, at));
        let status = record.refuse(&CallError::unasked(Obstacle::Unreadable(why)), &self.0);
        // An answer that is not gRPC stays as it is, since its caller does not speak gRPC.
        if answers { status.into_http() } else { response }
    }

    /// Records a request of `peer` that h2 has refused by itself, or whose connection ended before
    /// a service got it. Nothing else is known of it.
    pub fn note_undispatched(&self, peer: SocketAddr) {
        let record = self.record_of(UNKNOWN, (peer, Instant::now()));
        let _nobody_hears_it = record
            .refuse(&CallError::unasked(Obstacle::Unreadable(Unreadable::RefusedByHttp2)), &self.0);
    }

    fn record_of(&self, method: &'static str, (peer, at): (SocketAddr, Instant)) -> CallLog {
        let observed = &self.0.observed;
        let tenant_id = self.0.tenants.only().map(|tenant| tenant.id().to_string());
        let about =
            About { method, tenant_id: tenant_id.unwrap_or_default(), agent_id: String::new() };
        let calls = &observed.metrics.calls;
        let started = Started {
            at,
            timeout: None,
            // Not counted for a tenant, since the request's tenant is unknown.
            counted: Counted {
                method: calls.of(method).or_else(|| calls.of(UNKNOWN)),
                tenant: None,
            },
            span: observed.tracer.begin(method, &HeaderMap::new(), at),
        };
        CallLog::new(about, Some(peer), started)
    }
}

/// Why the request reached no method. `None` if it did.
fn why(method: Option<&'static str>, response: &Response<Body>) -> Option<Unreadable> {
    if !response.status().is_success() {
        return Some(Unreadable::NotGrpc(response.status().as_u16()));
    }
    let status = Status::from_header_map(response.headers())?;
    match status.code() {
        Code::Unimplemented if method.is_none() => Some(Unreadable::MethodUnknown),
        Code::Unimplemented => Some(Unreadable::Compressed),
        Code::OutOfRange => Some(Unreadable::TooLarge),
        Code::Internal => Some(Unreadable::Malformed(status.message().to_owned())),
        // Health and reflection answer without details, which is fine.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_has_answered_is_left_alone() {
        let answer = |status: Status| why(Some(METHODS[0]), &status.into_http());
        assert_eq!(answer(Status::not_found("no such service")), None);
        assert_eq!(answer(Status::ok("")), None);
        assert_eq!(answer(Status::unimplemented("gzip")), Some(Unreadable::Compressed));
    }
}
