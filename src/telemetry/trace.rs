//! Traces of calls, which show where their time goes. They are sent to a collector that takes OTLP.
//!
//! Spans are made only for calls that are recorded. A call that is not recorded costs one look at
//! its `traceparent` and some random numbers. Without `[traces]` it costs nothing. `tracing`'s own
//! spans would have to be made, entered and left at each step of every call.
//!
//! [`Tracer::begin`] makes the span of a whole call, and [`Trace::child`] those of its parts. A
//! [`Trace`] is passed along with the call explicitly, since the work of a call moves to another
//! task.

mod check;
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

pub use self::check::{CollectorProblem, ask_collector};
pub use opentelemetry::trace::{SpanKind, TraceId};

/// Makes the spans of calls. Makes none if no traces are wanted.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Active>>);

#[derive(Debug)]
struct Active {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    to_gateway: bool,
    tracestate_to_gateway: bool,
}

/// A position in a trace under which spans can be made. The default makes none.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Position>>);

struct Position {
    active: Arc<Active>,
    context: Context,
    recorded: bool,
}

/// The time of one part of a call. The span ends when this is dropped.
#[derive(Debug, Default)]
#[must_use = "a span that is dropped at once tells of no time"]
pub struct Span {
    trace: Trace,
    /// Whether this value is the one that records and ends the span.
    open: bool,
}

/// Why traces cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("traces: {0}")]
pub struct TracerError(String);

/// The destination of traces, and which calls are recorded.
#[derive(Debug)]
pub struct Collector {
    /// The address: scheme, host and port. It takes OTLP over gRPC. `traces.endpoint`.
    pub endpoint: Uri,
    /// Headers that are sent with every export, for example with a token. `traces.headers_file`.
    pub headers: HeaderMap,
    /// The fraction of calls that is recorded, from 0 to 1. Used if the caller does not decide.
    /// `traces.sample`.
    pub sample: f64,
    /// Whether a caller's `traceparent` decides if its call is recorded. `traces.follow_callers`.
    pub follow_callers: bool,
    /// Whether requests to gateways get a `traceparent`. `traces.to_gateway`.
    pub to_gateway: bool,
    /// Whether they get the caller's `tracestate` with it. `traces.tracestate_to_gateway`.
    pub tracestate_to_gateway: bool,
    /// The most spans that may wait for export. More are dropped.
    pub queue: NonZeroUsize,
    /// How often spans are exported. With many spans it happens sooner.
    pub interval: Duration,
    /// How long an export may take, and the same for opening the connection.
    pub timeout: Duration,
}

// === impl TracerError ===

impl TracerError {
    /// An error with this cause.
    pub fn new(cause: String) -> Self {
        Self(cause)
    }
}

// === impl Tracer ===

impl Tracer {
    /// Begins the span of a call that came at `arrived`. Its parent is the caller's span, if
    /// `headers` name one (W3C Trace Context).
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
    /// Begins a span for a part of the call.
    pub fn child(&self, name: impl FnOnce() -> String, kind: SpanKind) -> Span {
        match &self.0 {
            Some(position) if position.recorded => {
                let builder = SpanBuilder::from_name(name()).with_kind(kind);
                position.active.span(builder, &position.context)
            }
            _ => Span { trace: self.clone(), open: false },
        }
    }

    /// The trace's id, for log lines.
    pub fn id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|position| position.context.span().span_context().trace_id())
    }

    /// Adds the `traceparent` for a gateway, if the configuration wants gateways to get one.
    pub fn tell_gateway(&self, headers: &mut HeaderMap) {
        if let Some(Position { active, context, .. }) = self.0.as_deref()
            && active.to_gateway
        {
            let span = context.span();
            headers::write(span.span_context(), active.tracestate_to_gateway, headers);
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
    /// The position for spans of this span's parts.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Sets an attribute. `value` is only computed if the call is recorded. It must not be a
    /// secret.
    pub fn set<V: Into<Value>>(&self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(context) = self.open() {
            context.span().set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Marks the span as failed, with a description.
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
