//! Rates of the last minute, computed from counters that exist anyway.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    id::TenantId,
    tenant::{Counts, Tenant, Tenants},
};

/// Samples of the counters, over the last minute.
#[derive(Debug)]
pub(super) struct Rates {
    tenants: Tenants,
    samples: Mutex<VecDeque<Arc<Sample>>>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    counts: BTreeMap<TenantId, Counts>,
}

/// Time between two samples.
const SAMPLING_INTERVAL: Duration = Duration::from_secs(5);
/// One more than fits into a minute, so that the oldest is a minute old.
const SAMPLES: usize = 13;

impl Rates {
    pub(super) fn new(tenants: Tenants) -> Self {
        let first = Arc::new(Sample::of(&tenants));
        Self { tenants, samples: Mutex::new([first].into()) }
    }

    /// Takes samples until dropped. This goes through all tenants on a thread that serves callers, and reads a few
    /// atomics of each.
    pub(super) async fn follow(&self) {
        let mut ticks = interval(SAMPLING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sample = Arc::new(Sample::of(&self.tenants));
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// The time that the samples cover, and what each tenant did in it.
    pub(super) fn last_minute(&self) -> (Duration, BTreeMap<TenantId, Counts>) {
        let now = Sample::of(&self.tenants);
        let Some(oldest) = self.oldest() else { return Default::default() };
        let since = |(id, now): (TenantId, Counts)| {
            // A tenant that was added later began with nothing.
            let then = oldest.counts.get(&id).copied().unwrap_or_default();
            (id, now - then)
        };
        let counts = now.counts.into_iter().map(since).collect();
        (now.at.duration_since(oldest.at), counts)
    }

    fn oldest(&self) -> Option<Arc<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }
}

impl Sample {
    fn of(tenants: &Tenants) -> Self {
        let counts = |tenant: Arc<Tenant>| (tenant.id().clone(), tenant.counts());
        let counts = tenants.all().into_iter().map(counts).collect();
        Self { at: Instant::now(), counts }
    }
}
