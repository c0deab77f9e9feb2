//! Metrics of exported spans.
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counts the spans of recorded calls by what became of them.
#[derive(Clone, Debug)]
pub struct SpanMetrics {
    /// Spans that the collector accepted.
    pub exported: Counter,
    /// Spans that the collector rejected, or did not accept in time.
    pub failed: Counter,
    /// Spans that were dropped since too many waited.
    pub dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

impl SpanMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register("ccgw_spans", "Spans of recorded calls", family.clone());
        let counter = |result| family.get_or_create_owned(&Labels { result });
        Self {
            exported: counter("exported"),
            failed: counter("failed"),
            dropped: counter("dropped"),
        }
    }
}
