//! How it goes with changes of the configuration while the bridge runs.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::Serialize;

use crate::time::option_as_rfc3339;

/// The changes so far, for the page, readiness and metrics.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<ReloadView>);

/// The changes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadView {
    /// How many changes are in force.
    pub applied: u64,
    /// When the last of these was put into force.
    #[serde(serialize_with = "option_as_rfc3339")]
    pub applied_time: Option<SystemTime>,
    /// How many were refused.
    pub failed: u64,
    /// When the last of these was refused.
    #[serde(serialize_with = "option_as_rfc3339")]
    pub failed_time: Option<SystemTime>,
    /// Why the last one was refused, as long as no other one was taken.
    pub error: Option<String>,
    /// Keys that have changed, and take a restart.
    pub restart: Vec<String>,
}

impl Reloads {
    /// The changes so far.
    pub fn view(&self) -> ReloadView {
        self.locked().clone()
    }

    /// Notes a change that is in force. Changes of the keys `restart` are not.
    pub(super) fn applied(&self, restart: Vec<String>) {
        let mut view = self.locked();
        view.applied += 1;
        view.applied_time = Some(SystemTime::now());
        (view.error, view.restart) = (None, restart);
    }

    /// Notes a change that was refused.
    pub(super) fn failed(&self, error: String) {
        let mut view = self.locked();
        view.failed += 1;
        view.failed_time = Some(SystemTime::now());
        view.error = Some(error);
    }

    /// Notes that the configuration is what is in force, but for the keys `restart`.
    pub(super) fn unchanged(&self, restart: Vec<String>) {
        let mut view = self.locked();
        (view.error, view.restart) = (None, restart);
    }

    fn locked(&self) -> MutexGuard<'_, ReloadView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReloadView {
    /// Lines for readiness; none if all is well.
    pub(super) fn lines(&self) -> String {
        let error = self.error.iter().map(|error| {
            format!("configuration: a change was refused, and what was before stays: {error}\n")
        });
        let restart = (!self.restart.is_empty())
            .then(|| format!("configuration: takes a restart: {}\n", self.restart.join(", ")));
        error.chain(restart).collect()
    }
}
