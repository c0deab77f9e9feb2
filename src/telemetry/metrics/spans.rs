use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What becomes of the spans of recorded calls.
#[derive(Clone, Debug)]
pub struct SpanMetrics {
    /// The collector took them.
    pub exported: Counter,
    /// It did not, or not in time.
    pub failed: Counter,
    /// Too many waited for being exported.
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
