//! What is done about errors of a listening socket.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::telemetry::log::{LOG_AGAIN, LogInterval};

/// The errors of one listening socket.
#[derive(Debug)]
pub(super) struct AcceptErrors {
    /// What listens there, as the log has it.
    port: &'static str,
    lines: LogInterval,
    /// How many there were since the last line, of the same trouble.
    untold: u64,
    last: Option<Instant>,
}

/// Pause after an error that the next attempt would meet too, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl AcceptErrors {
    /// There were none yet.
    pub(super) fn at(port: &'static str) -> Self {
        Self { port, lines: LogInterval::default(), untold: 0, last: None }
    }

    /// Logs the error, unless it is of a peer or one was logged lately, and waits for as long as the next
    /// attempt would meet it too.
    pub(super) async fn pause_after(&mut self, error: &io::Error) {
        if is_of_peer(error) {
            return;
        }
        if let Some(number) = self.due() {
            warn!(%error, number, "cannot accept connections at {}; trying again", self.port);
        }
        sleep(ACCEPT_PAUSE).await;
    }

    /// Counts an error. How many there were since the last line, if the next line is due.
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        let is_over = |last: Instant| now.saturating_duration_since(last) > LOG_AGAIN;
        if self.last.replace(now).is_some_and(is_over) {
            self.untold = 0;
        }
        self.untold += 1;
        self.lines.is_due(LOG_AGAIN).then(|| std::mem::take(&mut self.untold))
    }
}

/// Whether an error concerns only the connection that was to be accepted. The next one may work.
pub(super) fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn errors_that_go_on_are_logged_once_in_a_while_with_their_number() {
        let mut errors = AcceptErrors::at("a listener");
        assert_eq!(errors.due(), Some(1));
        for _ in 0..99 {
            assert_eq!(errors.due(), None);
        }
        tokio::time::advance(LOG_AGAIN).await;
        assert_eq!(errors.due(), Some(100));
        assert_eq!(errors.due(), None);
        tokio::time::advance(2 * LOG_AGAIN).await;
        assert_eq!(errors.due(), Some(1), "another trouble");
    }
}
