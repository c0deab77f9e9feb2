//! Metrics without a series before they are used.

use std::{fmt::Debug, hash::Hash, sync::OnceLock};

use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};

/// A metric of a family. Its series begins when it is used for the first time, so that what never
/// happens is not exported: a hundred tenants with all codes and all times would be more than a scraper
/// takes. Afterwards using it costs no lookup.
#[derive(Debug)]
pub(super) struct Late<L, M> {
    family: Family<L, M>,
    labels: L,
    found: OnceLock<M>,
}

impl<L: Clone + Eq + Hash, M: Clone> Late<L, M> {
    pub(super) fn new(family: &Family<L, M>, labels: L) -> Self {
        Self { family: family.clone(), labels, found: OnceLock::new() }
    }

    /// The metric, which is exported from now on.
    pub(super) fn get(&self) -> &M {
        self.found.get_or_init(|| self.family.get_or_create_owned(&self.labels))
    }
}

impl<L: Clone + Eq + Hash> Late<L, Counter> {
    /// The value, also if the counter is not exported yet.
    pub(super) fn count(&self) -> u64 {
        self.found.get().map_or(0, Counter::get)
    }
}

impl<L: Clone + Eq + Hash> Late<L, Histogram> {
    pub(super) fn observe(&self, value: f64) {
        self.get().observe(value);
    }
}

/// The codes of which a counter is exported from the start: OK, so that the rate of calls is never missing, and
/// RESOURCE_EXHAUSTED, since alerts subtract a part of these calls, and a series that begins with many of them has no rate.
const FROM_THE_START: [usize; 2] = [0, 8];

/// A counter for each gRPC code, by its number.
pub(super) fn by_code<L: Clone + Eq + Hash>(
    family: &Family<L, Counter>,
    labels: impl Iterator<Item = L>,
) -> Vec<Late<L, Counter>> {
    let counters: Vec<_> = labels.map(|labels| Late::new(family, labels)).collect();
    for counter in FROM_THE_START.into_iter().filter_map(|code| counters.get(code)) {
        let _exported = counter.get();
    }
    counters
}
