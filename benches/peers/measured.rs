//! What a load costs the server that answers it.

use std::{pin::pin, time::Duration};

use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Failure,
    load::{Load, Until},
    site::Server,
};

/// How many connections there are, and how many callers on each.
pub(crate) type AtOnce = (usize, usize);

/// The figures of loads of one kind on one server.
#[derive(Default)]
pub(crate) struct Figures {
    /// Microseconds of a processor for each call, in parts of the loads that are long enough to measure them.
    cpu: Vec<f64>,
    /// Of each load: calls a second, and the microseconds that half and 99 % of them took at most.
    rates: Vec<f64>,
    medians: Vec<f64>,
    slow: Vec<f64>,
}

const PART: Duration = Duration::from_millis(200);
/// Opens connections to the gateway, and fills caches.
const WARMING: Duration = Duration::from_millis(500);

impl Figures {
    /// Adds those of a load that lasts so long.
    pub(crate) async fn add(
        &mut self,
        server: &Server,
        (connections, callers): AtOnce,
        lasts: Duration,
    ) -> Result<(), Failure> {
        let load = Load::connect(server.target.clone(), connections).await?;
        load.at_once(callers, Until { calls: u64::MAX, time: WARMING }).await?;
        let mut calling = pin!(load.at_once(callers, Until { calls: u64::MAX, time: lasts }));
        let (mut ticks, mut before) = (interval(PART), None);
        // A part that is shorter says little.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let times = loop {
            select! {
                times = &mut calling => break times?,
                _ = ticks.tick() => {
                    let now = (server.running.busy()?, load.ended());
                    let before = before.replace(now);
                    self.cpu.extend(before.and_then(|before| cpu_of_a_call(before, now)));
                }
            }
        };
        self.rates.push(times.len() as f64 / lasts.as_secs_f64());
        let times = micros(times);
        self.medians.push(part_below(&times, 0.5));
        self.slow.push(part_below(&times, 0.99));
        Ok(())
    }

    /// Calls a second, and the microseconds that half and 99 % of them took at most: the medians of all loads.
    pub(crate) fn speed(&self) -> [f64; 3] {
        [&self.rates, &self.medians, &self.slow].map(|of_loads| part_below(&sorted(of_loads), 0.5))
    }

    /// Microseconds of a processor for each call: the median.
    pub(crate) fn cpu(&self) -> f64 {
        part_below(&sorted(&self.cpu), 0.5)
    }

    /// What the least disturbed tenth takes of that at most, which is what to compare where others use the machine too.
    pub(crate) fn quiet(&self) -> f64 {
        part_below(&sorted(&self.cpu), 0.1)
    }
}

fn cpu_of_a_call(before: (Duration, u64), now: (Duration, u64)) -> Option<f64> {
    let calls = now.1.checked_sub(before.1).filter(|calls| *calls > 0)?;
    Some(now.0.saturating_sub(before.0).as_secs_f64() * 1e6 / calls as f64)
}

/// These times in microseconds, shortest first.
pub(crate) fn micros(times: impl IntoIterator<Item = Duration>) -> Vec<f64> {
    let times: Vec<_> = times.into_iter().map(|time| time.as_secs_f64() * 1e6).collect();
    sorted(&times)
}

/// The value that this part of the sorted ones is not above. All values are kept, so it is exact.
pub(crate) fn part_below(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values
}
