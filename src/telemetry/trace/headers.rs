//! W3C Trace Context in headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::SpanContext,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A caller's headers, for the propagator.
struct Read<'a>(&'a HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// The trace that a caller's headers name. An empty context if they name none or are malformed.
pub(super) fn read(headers: &HeaderMap) -> Context {
    if headers.contains_key(TRACEPARENT) {
        return TraceContextPropagator::new().extract_with_context(&Context::new(), &Read(headers));
    }
    Context::new()
}

/// Adds the trace to headers that are sent on, and what callers have noted in it if `with_state`. The propagator is not used, since it formats each
/// byte by itself, and most calls that come here are not recorded.
pub(super) fn write(span: &SpanContext, with_state: bool, headers: &mut HeaderMap) {
    let trace = u128::from_be_bytes(span.trace_id().to_bytes());
    let parent = u64::from_be_bytes(span.span_id().to_bytes());
    let recorded = u8::from(span.is_sampled());
    let traceparent = format!("00-{trace:032x}-{parent:016x}-{recorded:02x}");
    if let Ok(traceparent) = HeaderValue::try_from(traceparent) {
        headers.insert(TRACEPARENT, traceparent);
    }
    let state = if with_state { span.trace_state().header() } else { String::new() };
    if let (false, Ok(state)) = (state.is_empty(), HeaderValue::try_from(state)) {
        headers.insert(TRACESTATE, state);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1_u128.., span in 1_u64.., recorded: bool, state: bool) {
            let flags = TraceFlags::default().with_sampled(recorded);
            let state = state.then(|| TraceState::from_key_value([("vendor", "1")]).unwrap());
            let (trace, span) = (TraceId::from(trace), SpanId::from(span));
            let written = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
            let mut headers = HeaderMap::new();
            write(&written, true, &mut headers);
            let read = read(&headers).span().span_context().clone();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn no_headers_are_too_bad(traceparent: Vec<u8>, tracestate: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)] {
                headers.extend(HeaderValue::from_bytes(&value).ok().map(|value| (name, value)));
            }
            read(&headers);
        }
    }
}
