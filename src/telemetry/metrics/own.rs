//! What a tenant has counted itself.

use prometheus_client::metrics::counter::Counter;

/// A counter, with what it had counted before the tenant used it. The series of a tenant that was removed and comes back go
/// on where they were, and what the tenant of before has counted says nothing about how this one is.
#[derive(Debug)]
pub(super) struct Own {
    counter: Counter,
    before: u64,
}

impl Own {
    pub(super) fn new(counter: Counter) -> Self {
        let before = counter.get();
        Self { counter, before }
    }

    pub(super) fn inc(&self) {
        self.counter.inc();
    }

    /// How often this tenant has counted.
    pub(super) fn get(&self) -> u64 {
        self.counter.get().saturating_sub(self.before)
    }
}
