//! What happened in the last minute, from counters that are there anyway.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::tenant::{Counts, Tenants};

/// The counters of the last minute, looked at now and then.
#[derive(Debug)]
pub(super) struct Rates {
    tenants: Tenants,
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    /// In the order of the tenants.
    counts: Vec<Counts>,
}

const PACE: Duration = Duration::from_secs(5);
/// One more than a minute has, so that the oldest is a minute old.
const KEPT: usize = 13;

impl Rates {
    pub(super) fn new(tenants: Tenants) -> Self {
        let first = Sample::of(&tenants);
        Self { tenants, samples: Mutex::new([first].into()) }
    }

    /// Looks at the counters for as long as it is waited for.
    pub(super) async fn follow(&self) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sample = Sample::of(&self.tenants);
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() == KEPT {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// How much of the last minute is known, and what each tenant did in it.
    pub(super) fn last_minute(&self) -> (Duration, Vec<Counts>) {
        let now = Sample::of(&self.tenants);
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = samples.front() else { return Default::default() };
        let counts = now.counts.iter().zip(&oldest.counts).map(|(now, then)| *now - *then);
        (now.at.duration_since(oldest.at), counts.collect())
    }
}

impl Sample {
    fn of(tenants: &Tenants) -> Self {
        let counts = tenants.all().map(|tenant| tenant.counts()).collect();
        Self { at: Instant::now(), counts }
    }
}
