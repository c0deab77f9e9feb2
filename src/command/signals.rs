use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::telemetry::LogControl;

/// The signals that ask the process to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on a signal no longer ends the process at once.
    pub(super) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next one and tells its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signals that change what is logged.
pub(super) struct LogSignals {
    more: Signal,
    reset: Signal,
}

impl LogSignals {
    /// From now on these signals no longer end the process.
    pub(super) fn listen() -> io::Result<Self> {
        let more = signal(SignalKind::user_defined1())?;
        let reset = signal(SignalKind::user_defined2())?;
        Ok(Self { more, reset })
    }

    /// Does what they ask for, as long as the process runs.
    pub(super) async fn follow(mut self, log: LogControl) {
        loop {
            let changed = tokio::select! {
                _ = self.more.recv() => log.more("SIGUSR1"),
                _ = self.reset.recv() => log.reset("SIGUSR2"),
            };
            if let Err(error) = changed {
                warn!(%error, "the log's filter stays as it is");
            }
        }
    }
}
