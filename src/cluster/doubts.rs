//! What is in the shared store and is not believed: counted, and said in the log.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tracing::warn;

use crate::{id::TenantId, session::Doubt, telemetry::log::LogInterval};

/// Counts what is not believed, for all tenants.
#[derive(Debug)]
pub struct Doubts([Counted; Doubt::ALL.len()]);

#[derive(Debug, Default)]
struct Counted {
    count: AtomicU64,
    said: LogInterval,
}

/// The shortest time between two log lines for one reason: whoever writes into the store must not be able to
/// fill the log.
const SAY_EVERY: Duration = Duration::from_secs(600);

impl Doubts {
    /// Nothing yet.
    pub fn none() -> Self {
        Self(std::array::from_fn(|_| Counted::default()))
    }

    /// Counts so many things of this tenant that are not believed. The first one for this reason is logged, and
    /// then one in ten minutes.
    pub fn note(&self, tenant: &TenantId, doubt: Doubt, times: u64) {
        let Some(Counted { count, said }) = self.0.get(doubt as usize) else { return };
        if times == 0 {
            return;
        }
        count.fetch_add(times, Ordering::Relaxed);
        if said.is_due(SAY_EVERY) {
            warn!(ccgw.tenant.id = %tenant, error = %doubt, "something in the shared store is not believed and is left out: a replica has other keys or a wrong clock, an old key was taken away too early, or somebody else writes there");
        }
    }

    /// How often something was not believed, by the reason.
    pub fn counts(&self) -> Vec<(Doubt, u64)> {
        let count = |counted: &Counted| counted.count.load(Ordering::Relaxed);
        Doubt::ALL.into_iter().zip(self.0.iter().map(count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::log::captured::Captured;

    #[tokio::test(start_paused = true)]
    async fn each_doubt_is_counted_and_said_once_in_a_while() {
        let (log, doubts) = (Captured::start(), Doubts::none());
        let tenant = TenantId::parse("acme").expect("an id");
        for doubt in Doubt::ALL.into_iter().chain(Doubt::ALL) {
            doubts.note(&tenant, doubt, 1);
        }
        assert_eq!(doubts.counts(), Doubt::ALL.map(|doubt| (doubt, 2)));
        assert_eq!(log.with("is not believed").len(), Doubt::ALL.len());
        tokio::time::advance(SAY_EVERY).await;
        doubts.note(&tenant, Doubt::Heartbeat, 1);
        assert_eq!(log.with("is not believed").len(), Doubt::ALL.len() + 1);
    }
}
