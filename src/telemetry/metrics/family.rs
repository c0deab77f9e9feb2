//! Metrics of many labels, for which no call waits while they are exported.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric},
};

/// A metric for each set of labels that was used.
///
/// The library's own family holds its lock until it has written all series. With thousands of tenants a call that uses
/// labels for the first time would wait long for that. Here only the handles are copied under the lock.
#[derive(Clone, Debug)]
pub(super) struct Family<L, M> {
    used: Arc<RwLock<HashMap<L, M>>>,
    make: fn() -> M,
}

impl<L: Clone + Eq + Hash, M: Clone> Family<L, M> {
    /// A family whose metrics are made by `make`.
    pub(super) fn new(make: fn() -> M) -> Self {
        Self { used: Arc::default(), make }
    }

    /// A handle of the metric with these labels, which is exported from now on.
    pub(super) fn get_or_create(&self, labels: &L) -> M {
        let known = self.used().get(labels).cloned();
        known.unwrap_or_else(|| {
            let mut used = self.used.write().unwrap_or_else(PoisonError::into_inner);
            used.entry(labels.clone()).or_insert_with(self.make).clone()
        })
    }

    fn used(&self) -> RwLockReadGuard<'_, HashMap<L, M>> {
        self.used.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Clone + Eq + Hash, M: Clone + Default> Default for Family<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M> EncodeMetric for Family<L, M>
where
    L: Clone + Eq + Hash + EncodeLabelSet,
    M: Clone + EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let copy = |(labels, metric): (&L, &M)| (labels.clone(), metric.clone());
        let series: Vec<_> = self.used().iter().map(copy).collect();
        for (labels, metric) in &series {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.used().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode, metrics::counter::Counter, registry::Registry,
    };

    use super::{super::label::TenantLabels, *};

    /// What is exported of a family, while calls use it.
    struct Exported {
        family: Family<TenantLabels, Counter>,
        text: String,
    }

    impl fmt::Write for Exported {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            assert!(self.family.used.try_write().is_ok(), "a first use would wait");
            self.text.push_str(part);
            Ok(())
        }
    }

    #[test]
    fn all_that_was_used_is_exported_and_a_first_use_does_not_wait_for_that() {
        let family = Family::<TenantLabels, Counter>::default();
        let mut registry = Registry::default();
        registry.register("calls", "Calls", family.clone());
        for tenant in ["acme", "other", "acme"] {
            family.get_or_create(&TenantLabels { tenant: tenant.into() }).inc();
        }
        let mut exported = Exported { family, text: String::new() };
        encode(&mut exported, &registry).expect("it is written");
        for line in ["calls_total{tenant=\"acme\"} 2\n", "calls_total{tenant=\"other\"} 1\n"] {
            assert!(exported.text.contains(line), "{}", exported.text);
        }
    }
}
