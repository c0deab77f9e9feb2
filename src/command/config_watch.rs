//! Takes changes of the configuration while the bridge runs.

use std::{convert::Infallible, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::Settings;
use crate::{
    config::{Config, Fingerprint},
    server::{Bridge, ReloadRequest, Reloaded},
};

/// Reads the configuration again and again.
pub(super) struct ConfigWatch {
    settings: Settings,
    /// `None`: only at SIGHUP.
    interval: Option<Duration>,
    hangup: Signal,
    requests: mpsc::Receiver<ReloadRequest>,
    /// What was read last.
    seen: Fingerprint,
    /// What was wrong with it.
    refused: Option<String>,
    /// The warnings about the configuration that is in force.
    warnings: Vec<String>,
}

const CANNOT_BE_READ_AGAIN: &str = "the configuration's file is a pipe or a device, which cannot be read again; restart the bridge to change it";

impl ConfigWatch {
    /// For the configuration `first`, with which the bridge starts, and whose warnings are logged. `hangup` is
    /// SIGHUP.
    pub(super) fn new(
        settings: &Settings,
        first: &Config,
        requests: mpsc::Receiver<ReloadRequest>,
        hangup: Signal,
    ) -> Self {
        let mut watch = Self {
            settings: settings.clone(),
            interval: first.server.reload_interval,
            hangup,
            requests,
            seen: first.fingerprint.clone(),
            refused: None,
            warnings: Vec::new(),
        };
        watch.warn(first.warnings());
        watch
    }

    /// Logs the warnings that have not been logged yet.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            warn!("{warning}");
        }
        self.warnings = warnings;
    }

    /// Gives what has changed to the bridge, for as long as the process runs.
    pub(super) async fn follow(mut self, bridge: &Bridge) -> Infallible {
        let mut last = Instant::now();
        loop {
            // From the last time that it was due, so that requests do not put it off.
            let due = self.interval.and_then(|interval| last.checked_add(interval));
            let pause = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = pause => {
                    let _logged = self.read(bridge, false).await;
                    last = Instant::now();
                }
                _ = self.hangup.recv() => {
                    bridge.reopen_audit();
                    let _logged = self.read(bridge, true).await;
                }
                Some(request) = self.requests.recv() => {
                    let result = if request.dry_run {
                        self.would_change(bridge).await
                    } else {
                        self.read(bridge, true).await
                    };
                    request.answer(result);
                }
            }
        }
    }

    /// What would change now.
    async fn would_change(&self, bridge: &Bridge) -> Result<Reloaded, String> {
        bridge.reload_would_change(&self.load().await?).map_err(|error| error.to_string())
    }

    async fn load(&self) -> Result<Config, String> {
        if !self.settings.can_be_read_again() {
            return Err(CANNOT_BE_READ_AGAIN.to_owned());
        }
        let settings = self.settings.clone();
        match spawn_blocking(move || settings.load_settled()).await {
            Ok(config) => config.map_err(|errors| errors.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    }

    /// Reads the configuration. If nothing has changed, there is a log line only for somebody who
    /// `is_asking`, and the result is what still needs a restart.
    async fn read(&mut self, bridge: &Bridge, is_asking: bool) -> Result<Reloaded, String> {
        if !self.settings.can_be_read_again() {
            // Not a change that is refused: SIGHUP may have been meant for the audit log.
            if is_asking {
                warn!("{CANNOT_BE_READ_AGAIN}");
            }
            return Err(CANNOT_BE_READ_AGAIN.to_owned());
        }
        let config = match self.load().await {
            Ok(config) => config,
            Err(error) => return Err(self.refuse(bridge, error, is_asking)),
        };
        if config.fingerprint == self.seen && self.refused.is_none() {
            if is_asking {
                info!("the configuration has not changed");
            }
            // A warning may be over, as one about who can read a file.
            let unchanged = bridge.reload(config).map_err(|error| error.to_string());
            self.warn(bridge.warnings());
            return unchanged;
        }
        self.seen = config.fingerprint.clone();
        match bridge.reload(config) {
            Ok(reloaded) => {
                self.accept(&reloaded, bridge.warnings());
                Ok(reloaded)
            }
            Err(error) => Err(self.refuse(bridge, error.to_string(), is_asking)),
        }
    }

    fn accept(&mut self, Reloaded { taken, needs_restart }: &Reloaded, warnings: Vec<String>) {
        let was_refused = self.refused.take().is_some();
        if !taken.is_empty() {
            info!(changed = taken.join(", "), "a changed configuration is in force");
        } else if was_refused {
            info!("the configuration is again as it is in force");
        }
        self.warn(warnings);
        if !needs_restart.is_empty() {
            warn!(changed = needs_restart.join(", "), "these changes need a restart of the bridge");
        }
    }

    /// Notes why a configuration is refused, and returns that.
    fn refuse(&mut self, bridge: &Bridge, error: String, is_asking: bool) -> String {
        let is_new = self.refused.as_ref() != Some(&error);
        if is_new {
            bridge.refuse_reload(&error);
        }
        if is_new || is_asking {
            warn!(error, "a changed configuration is refused; what was in force stays");
        }
        self.refused = Some(error.clone());
        error
    }
}
