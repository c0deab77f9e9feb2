//! How often a line is logged that would otherwise be repeated for as long as its cause lasts.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Between two lines about the same thing.
pub(super) const LOG_AGAIN: Duration = Duration::from_secs(10);

/// When a line was last written.
#[derive(Debug, Default)]
pub(super) struct LogInterval(Mutex<Option<Instant>>);

impl LogInterval {
    /// Whether the line is due. If it is, the time of the line is set to now.
    pub(super) fn is_due(&self) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = logged.is_none_or(|logged| logged.elapsed() >= LOG_AGAIN);
        if due {
            *logged = Some(Instant::now());
        }
        due
    }
}
