//! Metrics without a series before they are used, so that what never happens is not exported: a hundred tenants with all
//! codes and all times would be more than a scraper takes. Afterwards using one costs no lookup.

use std::{fmt::Debug, hash::Hash, sync::OnceLock, time::Duration};

use prometheus_client::metrics::counter::Counter;

use super::{Code, family::Family, own::Own, times::Histogram};

/// A histogram of a family.
#[derive(Debug)]
pub(super) struct Late<L> {
    family: Family<L, Histogram>,
    labels: L,
    found: OnceLock<Histogram>,
}

impl<L: Clone + Eq + Hash> Late<L> {
    pub(super) fn new(family: &Family<L, Histogram>, labels: L) -> Self {
        Self { family: family.clone(), labels, found: OnceLock::new() }
    }

    pub(super) fn observe(&self, took: Duration) {
        self.found.get_or_init(|| self.family.get_or_create(&self.labels)).observe(took);
    }
}

/// Labels of which one is a gRPC code.
pub(super) trait WithCode: Clone + Eq + Hash {
    /// The same with this code.
    fn with_code(&self, code: &'static str) -> Self;
}

/// A counter for each gRPC code.
#[derive(Debug)]
pub(super) struct ByCode<L> {
    family: Family<L, Counter>,
    /// With any code.
    labels: L,
    codes: &'static [Code],
    /// By the number of the code.
    found: Box<[OnceLock<Own>]>,
}

/// The codes of which a counter is exported from the start: OK, so that the rate of calls is never missing, and
/// RESOURCE_EXHAUSTED, since alerts subtract a part of these calls, and a series that begins with many of them has no rate.
const FROM_THE_START: [usize; 2] = [0, 8];

impl<L: WithCode> ByCode<L> {
    pub(super) fn new(family: &Family<L, Counter>, labels: L, codes: &'static [Code]) -> Self {
        let found = codes.iter().map(|_| OnceLock::new()).collect();
        let counters = Self { family: family.clone(), labels, codes, found };
        for code in FROM_THE_START {
            let _exported = counters.counter(code);
        }
        counters
    }

    /// Counts a call that was answered with the code of this number.
    pub(super) fn inc(&self, code: i32) {
        if let Some(counter) = usize::try_from(code).ok().and_then(|code| self.counter(code)) {
            counter.inc();
        }
    }

    /// How many calls were answered with each code, without those that were counted before by others.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Code, u64)> {
        let counts = self.found.iter().map(|found| found.get().map_or(0, Own::get));
        self.codes.iter().zip(counts)
    }

    /// The counter of a code, which is exported from now on.
    fn counter(&self, code: usize) -> Option<&Own> {
        let (code, found) = (self.codes.get(code)?, self.found.get(code)?);
        let labels = || self.labels.with_code(code.name);
        Some(found.get_or_init(|| Own::new(self.family.get_or_create(&labels()))))
    }
}
