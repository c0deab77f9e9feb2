//! Traces: where the time of a call goes, for a collector that takes OTLP.
//!
//! A call's spans are made only if it is recorded; one that is not costs a look at its caller's
//! `traceparent` and some random numbers, and without `[traces]` nothing. `tracing`'s own spans
//! would have to be made, entered and left at each step of every call, and serve the log alone.
//!
//! [`Tracer::begin`] makes the span of a whole call, [`Trace::child`] those of its parts. A
//! [`Trace`] goes along with the call, explicitly: its work moves to another task on its way.

mod export;
mod headers;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Uri};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{SpanBuilder, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::time::Instant;

pub use opentelemetry::trace::{SpanKind, TraceId};

/// Makes the spans of calls, or none where no traces are wanted.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Active>>);

#[derive(Debug)]
struct Active {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    to_gateway: bool,
}

/// A place in a trace, under which spans can be made; of no effect by default.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Position>>);

struct Position {
    active: Arc<Active>,
    context: Context,
    recorded: bool,
}

/// A part of a call that takes time; it ends when this is dropped.
#[derive(Debug, Default)]
#[must_use = "a span that is dropped at once tells of no time"]
pub struct Span {
    trace: Trace,
    /// Whether it is recorded, and by this.
    open: bool,
}

/// Why traces cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("traces: {0}")]
pub struct TracerError(String);

/// Where traces go, and of how many calls.
#[derive(Debug)]
pub struct Collector {
    /// It takes OTLP over gRPC; scheme, host and port. `traces.endpoint`.
    pub endpoint: Uri,
    /// Sent with every export, such as a token. `traces.headers_file`.
    pub headers: HeaderMap,
    /// Of calls whose caller does not say whether they are to be recorded, the part that is, from
    /// 0 to 1. `traces.sample`.
    pub sample: f64,
    /// Whether a caller's `traceparent` decides if its call is recorded. `traces.follow_callers`.
    pub follow_callers: bool,
    /// Whether gateways are sent a `traceparent`. `traces.to_gateway`.
    pub to_gateway: bool,
    /// Spans that wait for being exported; more are dropped.
    pub queue: NonZeroUsize,
    /// How often they are exported, unless there are many.
    pub interval: Duration,
    /// How long an export may take, and a connection to be made.
    pub timeout: Duration,
}

// === impl TracerError ===

impl TracerError {
    /// For this cause, in words.
    pub fn new(cause: String) -> Self {
        Self(cause)
    }
}

// === impl Tracer ===

impl Tracer {
    /// Begins the span of a call that `arrived` then, under its caller's if there is one in
    /// `headers` (W3C Trace Context).
    pub fn begin(&self, name: &'static str, headers: &HeaderMap, arrived: Instant) -> Span {
        let Some(active) = &self.0 else { return Span::default() };
        let caller = headers::read(headers);
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_start_time(SystemTime::now() - arrived.elapsed());
        active.span(builder, &caller)
    }
}

impl Active {
    fn span(self: &Arc<Self>, builder: SpanBuilder, parent: &Context) -> Span {
        let context = parent.with_span(self.tracer.build_with_context(builder, parent));
        let recorded = context.span().is_recording();
        let position = Position { active: self.clone(), context, recorded };
        Span { trace: Trace(Some(Arc::new(position))), open: recorded }
    }
}

// === impl Trace ===

impl Trace {
    /// Begins a span of a part of the call.
    pub fn child(&self, name: impl FnOnce() -> String, kind: SpanKind) -> Span {
        match &self.0 {
            Some(position) if position.recorded => {
                let builder = SpanBuilder::from_name(name()).with_kind(kind);
                position.active.span(builder, &position.context)
            }
            _ => Span { trace: self.clone(), open: false },
        }
    }

    /// What finds the trace, for a log line.
    pub fn id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|position| position.context.span().span_context().trace_id())
    }

    /// Adds what makes a gateway's own spans a part of the trace, if it is to know of it.
    pub fn tell_gateway(&self, headers: &mut HeaderMap) {
        if let Some(Position { active, context, .. }) = self.0.as_deref()
            && active.to_gateway
        {
            headers::write(context.span().span_context(), headers);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.id()).finish()
    }
}

// === impl Span ===

impl Span {
    /// Where its parts belong.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Notes a fact; `value` is asked for only if the call is recorded. It must be no secret.
    pub fn set<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = self.open() {
            context.span().set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Marks it as failed, and says why.
    pub fn fail(&self, description: impl FnOnce() -> String) {
        if let Some(context) = self.open() {
            context.span().set_status(Status::error(description()));
        }
    }

    fn open(&self) -> Option<&Context> {
        let position = self.trace.0.as_deref().filter(|_| self.open);
        position.map(|position| &position.context)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = self.open() {
            context.span().end();
        }
    }
}
