//! How often a line is logged that would otherwise be repeated for as long as its cause lasts.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The usual time between two lines about the same thing.
pub(crate) const LOG_AGAIN: Duration = Duration::from_secs(10);

/// When a line was last written.
#[derive(Debug, Default)]
pub(crate) struct LogInterval(Mutex<Option<Instant>>);

impl LogInterval {
    /// Whether the line is due, since none was written within `time`. If it is, it counts as written now.
    pub(crate) fn is_due(&self, time: Duration) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = logged.is_none_or(|logged| logged.elapsed() >= time);
        if due {
            *logged = Some(Instant::now());
        }
        due
    }
}
