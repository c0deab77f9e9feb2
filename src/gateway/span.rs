//! The span of one exchange with a gateway.

use super::{Envelope, Exchanged, address::Address, reply::Reply, request::Request};
use crate::{
    call::CallError,
    retcode::{ACCEPTED, Retcode},
    telemetry::trace::{Span, SpanKind},
};

/// Begins the span. What is sent from now on belongs to it.
pub(super) fn begin(request: &mut Request<'_>) -> Span {
    let interface = request.interface();
    let name = || format!("gateway {}", interface.log_name);
    let span = request.trace.child(name, SpanKind::Client);
    span.set("http.request.method", || interface.method.to_string());
    span.set("url.template", || format!("/{}/{{agentid}}{}", interface.family, interface.tail));
    request.trace = span.trace().clone();
    span
}

/// Adds the address that was asked.
pub(super) fn asked(span: &Span, address: &Address) {
    span.set("server.address", || address.uri().host().unwrap_or_default().to_owned());
    if let Some(port) = address.uri().port_u16() {
        span.set("server.port", || i64::from(port));
    }
}

/// Adds the result of the exchange. Leaves out the session's Guid and the gateway's text.
pub(super) fn end(span: &Span, verdict: &Result<Reply, CallError>, result: Exchanged) {
    if let Ok(reply) = verdict {
        span.set("http.response.status_code", || i64::from(reply.status.as_u16()));
        if let Ok(Envelope { refused, .. }) = &reply.envelope {
            let retcode = || refused.as_ref().map_or(ACCEPTED, Retcode::as_str).to_owned();
            span.set("ccgw.retcode", retcode);
        }
    }
    if result != Exchanged::Accepted {
        span.set("error.type", || result.as_str());
        span.fail(|| verdict.as_ref().err().map(ToString::to_string).unwrap_or_default());
    }
}
