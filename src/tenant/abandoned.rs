//! Calls that ended after their callers had left, in the log: a line for many.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{info, warn};

use super::Tenant;
use crate::call::{CallError, Outcome};

/// What such calls have come to since the last line.
#[derive(Debug, Default)]
pub(super) struct AbandonedCalls(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    not_sent: u64,
    refused: u64,
    unknown: u64,
    /// The last failure, for whoever reads the line.
    error: Option<String>,
}

/// From the first such call to its line; the others until then are told of in the same one.
const PERIOD: Duration = Duration::from_secs(10);

impl AbandonedCalls {
    /// Counts one. The line comes within ten seconds; once the bridge stops, at its end.
    pub(super) fn note(&self, tenant: &Arc<Tenant>, error: Option<&CallError>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = counts.sum() == 0;
        match error.map(CallError::outcome) {
            None => counts.accepted += 1,
            Some(Outcome::NotSent) => counts.not_sent += 1,
            Some(Outcome::Refused) => counts.refused += 1,
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
    /// Says in the log what calls have come to whose callers had left, since the last such line.
    pub fn tell_abandoned(&self) {
        let mut counts = self.abandoned.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.sum() == 0 {
            return;
        }
        let Counts { accepted, not_sent, refused, unknown, error } = std::mem::take(&mut *counts);
        drop(counts);
        macro_rules! line {
            ($write:ident) => {
                $write!(ccgw.tenant.id = %self.id, accepted, not_sent, refused, unknown, error, "calls ended after their callers had left")
            };
        }
        // An agent that may have changed without its caller's knowledge is worth a look.
        if unknown > 0 { line!(warn) } else { line!(info) }
    }
}

impl Counts {
    fn sum(&self) -> u64 {
        self.accepted + self.not_sent + self.refused + self.unknown
    }
}
