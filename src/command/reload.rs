//! Takes changes of the configuration while the bridge runs.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{info, warn};

use super::Settings;
use crate::{config::Fingerprint, server::Bridge};

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
    pub(super) async fn follow(mut self, bridge: &Bridge) {
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

    /// Reads the configuration, and opens the audit log anew for whoever asked. What is as it was is said only to those who asked.
    async fn read(&mut self, bridge: &Bridge, is_asked: bool) {
        if is_asked {
            bridge.reopen_audit();
        }
        let settings = self.settings.clone();
        let Ok(loaded) = spawn_blocking(move || settings.load()).await else { return };
        let config = match loaded {
            Ok(config) => config,
            Err(errors) => return self.refuse(bridge, errors.to_string(), is_asked),
        };
        if config.fingerprint == self.seen && self.refused.is_none() {
            if is_asked {
                info!("the configuration has not changed");
            }
            return;
        }
        self.seen = config.fingerprint.clone();
        match bridge.reload(config) {
            Ok((taken, restart)) => {
                self.refused = None;
                if !taken.is_empty() {
                    info!(changed = taken.join(", "), "a changed configuration is in force");
                }
                if !restart.is_empty() {
                    warn!(
                        changed = restart.join(", "),
                        "these changes take a restart of the bridge"
                    );
                }
            }
            Err(error) => self.refuse(bridge, error.to_string(), is_asked),
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
