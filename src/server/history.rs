//! What tenants did lately, from counters that exist anyway.
//!
//! A thread of its own looks at them every ten seconds, so calls pay nothing for it, and no thread that serves callers
//! goes through all tenants. What is kept of a tenant has a fixed length.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use crate::{
    id::TenantId,
    telemetry::metrics::Times,
    tenant::{Counts, Tenant, Tenants},
};

/// What all tenants did in the last minute, and in the last ten.
#[derive(Debug)]
pub(super) struct History {
    tenants: Tenants,
    kept: Mutex<Kept>,
}

/// What one tenant did lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lately {
    /// In the last minute.
    pub(super) counts: Counts,
    /// How long the gateway took for the requests of calls in the last minute.
    pub(super) times: Times,
    /// In the last ten minutes, oldest first; at most [`BARS`]. A tenant that is new has fewer.
    pub(super) bars: Vec<Bar>,
}

/// The calls of one [`BAR`] of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bar {
    /// All of them.
    pub(super) calls: u32,
    /// As [`Counts::refused`].
    pub(super) refused: u32,
    /// As [`Counts::failed`].
    pub(super) failed: u32,
}

#[derive(Debug, Default)]
struct Kept {
    /// When the readings were taken, oldest first.
    taken: VecDeque<Instant>,
    /// How many more have to come before a bar ends.
    until_bar: usize,
    pasts: BTreeMap<TenantId, Box<Past>>,
}

/// What is kept of one tenant.
#[derive(Debug, Default)]
struct Past {
    /// The totals of the last minute, oldest first. Fewer than were taken if the tenant came later.
    readings: VecDeque<Reading>,
    /// The totals when the last bar ended.
    before_bar: Counts,
    bars: VecDeque<Bar>,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// When the tenant began whose totals they are.
    began: Instant,
    counts: Counts,
    times: Times,
}

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(10);
/// One more than fits into a minute, so that the oldest is a minute old.
const READINGS: usize = 7;
const READINGS_PER_BAR: usize = 2;
/// The time of one bar.
pub(super) const BAR: Duration = Duration::from_secs(20);
/// Ten minutes of them.
pub(super) const BARS: usize = 30;

// === impl History ===

impl History {
    pub(super) fn new(tenants: Tenants) -> Self {
        let history = Self { tenants, kept: Mutex::default() };
        history.read(Instant::now());
        history
    }

    /// Reads the counters again and again until dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let (tick, ticks) = sync_channel(1);
        let reading = move || self.read_at(&ticks);
        if let Err(error) = thread::Builder::new().name("history".to_owned()).spawn(reading) {
            warn!(%error, "no thread for the history of calls: the page shows none");
            return;
        }
        let mut intervals = interval(INTERVAL);
        intervals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        intervals.tick().await;
        loop {
            intervals.tick().await;
            // Where the last reading still goes on, this one is left out.
            let _busy = tick.try_send(Instant::now());
        }
    }

    fn read_at(&self, ticks: &Receiver<Instant>) {
        for at in ticks {
            self.read(at);
        }
    }

    fn read(&self, at: Instant) {
        let readings = self.tenants.all().into_iter();
        let readings = readings.map(|tenant| (tenant.id().clone(), Reading::of(&tenant))).collect();
        self.kept().add(at, readings);
    }

    /// The time that "the last minute" covers: less than a minute after the start.
    pub(super) fn window(&self) -> Duration {
        self.kept().taken.front().map(Instant::elapsed).unwrap_or_default()
    }

    /// What a tenant did lately, until now.
    pub(super) fn of(&self, tenant: &Tenant) -> Lately {
        let now = Reading::of(tenant);
        self.kept().lately(tenant.id(), now)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Adds a reading of each tenant that there is. What was kept of others is dropped, also of one that has come back since.
    fn add(&mut self, at: Instant, readings: Vec<(TenantId, Reading)>) {
        push(&mut self.taken, at, READINGS);
        let ends_bar = self.until_bar == 0;
        self.until_bar = if ends_bar { READINGS_PER_BAR - 1 } else { self.until_bar - 1 };
        let is_first = self.taken.len() == 1;
        let mut before = mem::take(&mut self.pasts);
        for (id, reading) in readings {
            let past = before.remove(&id).filter(|past| past.is_of(&reading));
            let mut past = past.unwrap_or_default();
            past.add(reading, ends_bar && !is_first);
            self.pasts.insert(id, past);
        }
    }

    fn lately(&self, id: &TenantId, now: Reading) -> Lately {
        let past = self.pasts.get(id).filter(|past| past.is_of(&now));
        // A tenant that was added later began with nothing.
        let was_there = past.filter(|past| past.readings.len() == self.taken.len());
        let oldest = was_there.and_then(|past| past.readings.front());
        let (counts, times) = oldest.map(|it| (it.counts, it.times)).unwrap_or_default();
        let bars = past.map(|past| past.bars.iter().copied().collect()).unwrap_or_default();
        Lately { counts: now.counts - counts, times: now.times - times, bars }
    }
}

impl Past {
    /// Whether it is of the tenant that has these totals now.
    fn is_of(&self, now: &Reading) -> bool {
        self.readings.back().is_some_and(|last| last.began == now.began)
    }

    fn add(&mut self, reading: Reading, ends_bar: bool) {
        push(&mut self.readings, reading, READINGS);
        if ends_bar {
            let bar = reading.counts - mem::replace(&mut self.before_bar, reading.counts);
            push(&mut self.bars, Bar::of(bar), BARS);
        }
    }
}

impl Reading {
    fn of(tenant: &Tenant) -> Self {
        let (began, counts) = (tenant.began(), tenant.counts());
        Self { began, counts, times: tenant.gateway_times() }
    }
}

impl Bar {
    fn of(counts: Counts) -> Self {
        let short = |count: u64| count.try_into().unwrap_or(u32::MAX);
        Self {
            calls: short(counts.calls),
            refused: short(counts.refused()),
            failed: short(counts.failed()),
        }
    }
}

/// Adds the newest, and drops the oldest where there are `most`.
fn push<T>(all: &mut VecDeque<T>, newest: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(newest);
}

#[cfg(test)]
mod tests;
