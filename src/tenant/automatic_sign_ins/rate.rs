//! The rate of automatic sign-ins: of one process, or of all replicas together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::queue::Intervals;
use crate::tenant::SharedSignIns;

/// Spreads sign-ins evenly: this many a second, over all who share the limit. It hands out moments:
/// each is the time at which one sign-in may begin.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// The time from one moment to the next, in nanoseconds.
    interval: AtomicU64,
    /// Hands out moments to all replicas; `None` if there are no others.
    shared: Option<Arc<dyn SharedSignIns>>,
    ahead: Mutex<Ahead>,
}

/// Moments that this process has taken and not used yet.
#[derive(Debug)]
struct Ahead {
    /// When the first of them is.
    next: Instant,
    count: u32,
}

/// A replica takes at most this fraction of a second's moments at once (a tenth). More would save
/// round trips. But if a replica ends without using its moments, the others lose them.
const BATCHES_PER_SECOND: u32 = 10;
/// A replica that has got no moment for so long takes one of its own. That is far longer than it takes to get one beside
/// others who need as many, and makes the rate at most a tenth higher.
const NONE_MAX: Duration = Duration::from_secs(5);
/// The same, in intervals for each replica.
const NONE_TIMES_MAX: u32 = 10;
/// The longest pause before the store is asked for moments again, since its clock may have been set
/// back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A moment that is used at most this late counts as used in time. Timers are late by a
/// millisecond, which would lower a high rate noticeably. They are late by a tenth of a second if a
/// container has used up its part of the processor.
const LATE_MAX: Duration = Duration::from_millis(100);

impl RateLimit {
    pub(super) fn per_second(times: u32, shared: Option<Arc<dyn SharedSignIns>>) -> Self {
        let interval = nanoseconds(times).into();
        Self { interval, shared, ahead: Mutex::new(Ahead { next: Instant::now(), count: 0 }) }
    }

    /// Hands out moments to all replicas; `None` if there are no others.
    pub(super) fn shared(&self) -> Option<&Arc<dyn SharedSignIns>> {
        self.shared.as_ref()
    }

    /// The time from one moment to the next.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval.load(Ordering::Relaxed))
    }

    /// The times from one moment of this process to its next one.
    pub(super) fn intervals(&self) -> Intervals {
        let replicas = self.shared.as_ref().map_or(1, |shared| shared.replicas());
        let shortest = self.interval();
        Intervals { expected: shortest.saturating_mul(replicas), shortest }
    }

    /// Changes the rate. Moments that were taken before stay.
    pub(super) fn set_per_second(&self, times: u32) {
        self.interval.store(nanoseconds(times), Ordering::Relaxed);
    }

    /// Waits for the next free moment. `waiting` is the number of moments needed, including this
    /// one.
    pub(super) async fn moment(&self, waiting: usize) {
        let mut ahead = self.ahead.lock().await;
        let late = Instant::now().checked_sub(LATE_MAX);
        // Moments that nobody used in time are dropped. Otherwise they would be used all at once
        // now.
        while ahead.count > 0 && late.is_some_and(|late| ahead.next < late) {
            ahead.next += self.interval();
            ahead.count -= 1;
        }
        if ahead.count == 0 {
            *ahead = self.take(ahead.next, waiting).await;
        }
        sleep_until(ahead.next).await;
        ahead.next += self.interval();
        ahead.count -= 1;
    }

    /// Takes at least one more moment. `next` is the first that follows those taken before.
    async fn take(&self, next: Instant, waiting: usize) -> Ahead {
        let interval = self.interval();
        let Some(shared) = &self.shared else { return self.own(next, 1) };
        let most = (Duration::from_secs(1) / BATCHES_PER_SECOND).div_duration_f64(interval);
        // The clamp keeps the value within the range of the type.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let most = most.clamp(1.0, 10_000.0) as u32;
        let wanted = u32::try_from(waiting).unwrap_or(u32::MAX).clamp(1, most);
        // Somebody else may have written into the store, so that it never gives any.
        let longest = NONE_MAX.max(interval * shared.replicas().saturating_mul(NONE_TIMES_MAX));
        let until = Instant::now() + longest;
        loop {
            match shared.sign_in_moments(wanted, interval).await {
                Ok(taken) if taken.count > 0 => {
                    let next = Instant::now() + taken.wait;
                    return Ahead { next, count: taken.count };
                }
                // The other replicas have taken all moments of the near future.
                Ok(none) if Instant::now() < until => {
                    sleep(none.wait.min(LOOK_AGAIN).max(interval)).await;
                }
                Ok(_none) => return self.own(next, shared.replicas()),
                Err(error) => {
                    debug!(%error, "the rate of sign-ins is not shared for now");
                    return self.own(next, shared.replicas());
                }
            }
        }
    }

    /// Takes a moment from this process's own part of the rate (one of `replicas` equal parts),
    /// because the store does not answer.
    fn own(&self, next: Instant, replicas: u32) -> Ahead {
        let now = Instant::now();
        // `next` is already one interval after the moment before it.
        let next = next + self.interval() * replicas.saturating_sub(1);
        let is_late = now.checked_sub(LATE_MAX).is_some_and(|earliest| next < earliest);
        Ahead { next: if is_late { now } else { next }, count: 1 }
    }
}

fn nanoseconds(times_per_second: u32) -> u64 {
    1_000_000_000 / u64::from(times_per_second.max(1))
}

#[cfg(test)]
mod tests;
