//! Logs calls that ended after their callers had left: one line for all calls of ten seconds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{info, warn};

use super::Tenant;
use crate::call::{CallError, Outcome};

/// Counts the outcomes of such calls since the last log line.
#[derive(Debug, Default)]
pub(super) struct AbandonedCalls(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    not_sent: u64,
    refused: u64,
    not_applied: u64,
    unknown: u64,
    /// The text of the last failure.
    error: Option<String>,
}

/// The time from the first such call to the log line. Calls within it are counted in the same line.
const PERIOD: Duration = Duration::from_secs(10);

impl AbandonedCalls {
    /// Counts one call. The line is written after [`PERIOD`], or when the bridge stops.
    pub(super) fn note(&self, tenant: &Arc<Tenant>, error: Option<&CallError>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = counts.sum() == 0;
        match error.map(CallError::outcome) {
            None => counts.accepted += 1,
            Some(Outcome::NotSent) => counts.not_sent += 1,
            Some(Outcome::Refused) => counts.refused += 1,
            Some(Outcome::NotApplied) => counts.not_applied += 1,
            Some(Outcome::Unknown) => counts.unknown += 1,
        }
        if let Some(error) = error {
            counts.error = Some(error.to_string());
        }
        drop(counts);
        if is_first {
            let (tenant, stopping) = (tenant.clone(), tenant.work.stopping.clone());
            tokio::spawn(async move {
                if stopping.run_until_cancelled(sleep(PERIOD)).await.is_some() {
                    tenant.tell_abandoned();
                }
            });
        }
    }
}

#[cfg(test)]
impl AbandonedCalls {
    /// How many have ended since the last line.
    pub(super) fn counted(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sum()
    }
}

impl Tenant {
    /// Logs the outcomes of calls whose callers had left, counted since the last such line.
    pub fn tell_abandoned(&self) {
        let mut counts = self.abandoned.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.sum() == 0 {
            return;
        }
        let Counts { accepted, not_sent, refused, not_applied, unknown, error } =
            std::mem::take(&mut *counts);
        drop(counts);
        macro_rules! line {
            ($write:ident) => {
                $write!(ccgw.tenant.id = %self.id, accepted, not_sent, refused, not_applied, unknown, error, "calls ended after their callers had left")
            };
        }
        // If the outcome is unknown, the agent may have changed without anybody knowing it.
        if unknown > 0 { line!(warn) } else { line!(info) }
    }
}

impl Counts {
    fn sum(&self) -> u64 {
        self.accepted + self.not_sent + self.refused + self.not_applied + self.unknown
    }
}
