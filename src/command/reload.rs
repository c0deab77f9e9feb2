//! Takes changes of the configuration while the bridge runs.

use std::{convert::Infallible, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{info, warn};

use super::Settings;
use crate::{
    config::Fingerprint,
    server::{Bridge, Reloaded},
};

/// Reads the configuration again and again.
pub(super) struct Reload {
    settings: Settings,
    /// `None`: only at SIGHUP.
    interval: Option<Duration>,
    hangup: Signal,
    /// What was read last.
    seen: Fingerprint,
    /// What was wrong with it.
    refused: Option<String>,
}

impl Reload {
    /// Catches SIGHUP from here on. `first` is the configuration that the bridge starts with.
    pub(super) fn listen(
        settings: &Settings,
        interval: Option<Duration>,
        first: Fingerprint,
    ) -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { settings: settings.clone(), interval, hangup, seen: first, refused: None })
    }

    /// Gives what has changed to the bridge, for as long as the process runs.
    pub(super) async fn follow(mut self, bridge: &Bridge) -> Infallible {
        loop {
            let pause = async {
                match self.interval {
                    Some(interval) => sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                () = pause => false,
                _ = self.hangup.recv() => true,
            };
            self.read(bridge, is_asked).await;
        }
    }

    /// Reads the configuration, and opens the audit log anew if SIGHUP has asked for that. If nothing has
    /// changed, only SIGHUP gets a log line.
    async fn read(&mut self, bridge: &Bridge, is_asked: bool) {
        if is_asked {
            bridge.reopen_audit();
        }
        if !self.settings.can_be_read_again() {
            if is_asked {
                warn!(
                    "the configuration came from a pipe, which cannot be read again; restart the bridge to change it"
                );
            }
            return;
        }
        let settings = self.settings.clone();
        let config = match spawn_blocking(move || settings.load_settled()).await {
            Ok(Ok(config)) => config,
            Ok(Err(errors)) => return self.refuse(bridge, errors.to_string(), is_asked),
            Err(panic) => return self.refuse(bridge, panic.to_string(), is_asked),
        };
        if config.fingerprint == self.seen && self.refused.is_none() {
            if is_asked {
                info!("the configuration has not changed");
            }
            return;
        }
        self.seen = config.fingerprint.clone();
        let warnings = config.warnings();
        match bridge.reload(config) {
            Ok(reloaded) => self.accept(&reloaded, &warnings),
            Err(error) => self.refuse(bridge, error.to_string(), is_asked),
        }
    }

    fn accept(&mut self, Reloaded { in_force, needs_restart }: &Reloaded, warnings: &[String]) {
        let was_refused = self.refused.take().is_some();
        if !in_force.is_empty() {
            info!(changed = in_force.join(", "), "a changed configuration is in force");
            for warning in warnings {
                warn!("{warning}");
            }
        } else if was_refused {
            info!("the configuration is again as it is in force");
        }
        if !needs_restart.is_empty() {
            warn!(changed = needs_restart.join(", "), "these changes need a restart of the bridge");
        }
    }

    fn refuse(&mut self, bridge: &Bridge, error: String, is_asked: bool) {
        if self.refused.as_ref() != Some(&error) {
            bridge.refuse_reload(&error);
        } else if !is_asked {
            return;
        }
        warn!(error, "a changed configuration is refused; what was in force stays");
        self.refused = Some(error);
    }
}
