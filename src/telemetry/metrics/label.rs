//! Label values, and counters by label value.
use std::{fmt::Debug, sync::Arc};

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter};

/// A label value. There are few of them, and the module that counts supplies them.
pub trait Label: Copy + Debug {
    /// The spelling in metrics.
    fn as_str(self) -> &'static str;
}

/// A label whose values are numbered, so that a metric is found by an index.
pub trait Numbered: Label + 'static {
    /// How many values there are.
    const COUNT: usize;

    /// The number of this one, which is less than [`COUNT`](Self::COUNT).
    fn number(self) -> usize;
}

/// A counter for each value of a label. They are looked up once.
#[derive(Clone, Debug)]
pub struct Counters<L>(Vec<(L, Counter)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TenantLabels {
    pub(super) tenant: Arc<str>,
}

impl<L: Label + PartialEq> Counters<L> {
    pub(super) fn new(values: &[L], counter: impl Fn(&'static str) -> Counter) -> Self {
        Self(values.iter().map(|value| (*value, counter(value.as_str()))).collect())
    }

    /// Adds one to the counter of this value.
    pub fn inc(&self, value: L) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == value) {
            counter.inc();
        }
    }
}
