//! Decides whether a call may send one more request after one that came to nothing. All calls of a tenant have a common
//! limit for that, so that a gateway in trouble does not get many times as many requests as there are calls.
//!
//! Whether a request can be sent again without being carried out twice is not decided here: it takes an
//! [`Untouched`](crate::call::Untouched).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::TenantMetrics;
use crate::config;

/// Why a call sends one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Another call for the agent was in its way.
    Overlap,
    /// Its Guid was refused, and there is a newer one.
    Guid,
    /// The address could not be reached, and there is another one.
    Address,
    /// The answer to a change was lost, and the gateway is asked what the agent is doing.
    ReadBack,
}

/// The repeats of one tenant.
#[derive(Debug)]
pub(super) struct Repeats {
    budget: Budget,
    metrics: Arc<TenantMetrics>,
}

/// A token bucket.
#[derive(Debug)]
struct Budget {
    per_second: f64,
    /// How much is left, and when that was computed.
    left: Mutex<(f64, Instant)>,
}

impl Repeat {
    /// The spelling in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Guid => "guid",
            Self::Address => "address",
            Self::ReadBack => "read_back",
        }
    }
}

impl Repeats {
    /// The repeats of a tenant: in a second as many as it may have requests at once, or sign-ins in a second, if that is
    /// more, since each sign-in follows a refused Guid. Twice as many in a burst.
    pub(super) fn new(config: &config::Tenant, metrics: Arc<TenantMetrics>) -> Self {
        let requests = u32::try_from(config.limits.requests.get()).unwrap_or(u32::MAX);
        let per_second = requests.max(config.keep.sign_ins_per_second);
        Self { budget: Budget::new(per_second.into()), metrics }
    }

    /// Whether one more request may be sent. It counts as sent then.
    pub(super) fn may(&self, repeat: Repeat) -> bool {
        let may = self.budget.take(Instant::now());
        self.metrics.repeat(repeat, may);
        may
    }

    #[cfg(test)]
    pub(super) fn of_test(metrics: TenantMetrics) -> Self {
        Self { budget: Budget::new(1.0), metrics: Arc::new(metrics) }
    }

    /// Leaves none for an hour.
    #[cfg(test)]
    pub(super) fn use_up(&self) {
        let debt = -3600.0 * self.budget.per_second;
        *self.budget.left.lock().unwrap_or_else(PoisonError::into_inner) = (debt, Instant::now());
    }
}

impl Budget {
    fn new(per_second: f64) -> Self {
        Self { per_second, left: Mutex::new((per_second * 2.0, Instant::now())) }
    }

    /// Takes one; `false` if none is left.
    fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, at) = *left;
        let refilled = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        let amount = (known + refilled).min(self.per_second * 2.0);
        let there_is = amount >= 1.0;
        *left = (if there_is { amount - 1.0 } else { amount }, now.max(at));
        there_is
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeats_come_from_a_budget_that_fills_up_again() {
        let budget = Budget::new(3.0);
        let burst = |at| (0..100).filter(|_| budget.take(at)).count();
        let begun = Instant::now();
        assert_eq!(burst(begun), 6);
        assert_eq!(burst(begun + Duration::from_secs(1)), 3);
        assert_eq!(burst(begun + Duration::from_secs(60)), 6);
        assert_eq!(burst(begun), 0, "a clock that was read earlier brings nothing");
    }
}
