//! The span of one exchange with a gateway.

use super::{address::Address, reply::Reply, request::Request};
use crate::{
    call::CallError,
    retcode::Retcode,
    telemetry::trace::{Span, SpanKind},
};

/// Begins it; what is sent from now on belongs to it.
pub(super) fn begin(request: &mut Request<'_>) -> Span {
    let interface = request.interface();
    let name = || format!("gateway {}", interface.log_name);
    let span = request.trace.child(name, SpanKind::Client);
    span.set("http.request.method", || interface.method.to_string());
    span.set("url.template", || format!("/{}/{{agentid}}{}", interface.family, interface.tail));
    request.trace = span.trace().clone();
    span
}

/// Notes which address was asked.
pub(super) fn asked(span: &Span, address: &Address) {
    span.set("server.address", || address.uri().host().unwrap_or_default().to_owned());
    if let Some(port) = address.uri().port_u16() {
        span.set("server.port", || i64::from(port));
    }
}

/// Notes what came of it, with the `result` that metrics count. The session's Guid is no part of
/// that, and neither is the gateway's text.
pub(super) fn end(span: &Span, verdict: &Result<Reply, CallError>, result: &'static str) {
    if let Ok(reply) = verdict {
        span.set("http.response.status_code", || i64::from(reply.status.as_u16()));
        if let Ok(envelope) = &reply.envelope {
            let retcode = || Retcode::refusal(&envelope.retcode);
            span.set("ccgw.retcode", || {
                retcode().map_or_else(|| "0".into(), |code| code.to_string())
            });
        }
    }
    if result != "ok" {
        span.set("error.type", || result);
        span.fail(|| verdict.as_ref().err().map(ToString::to_string).unwrap_or_default());
    }
}
