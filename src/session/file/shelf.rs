//! What else is kept of agents in the file, for a time: sealed bytes that this module cannot read.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    id::AgentId,
    keyring::{hex, unhex},
};

/// A tenant's sealed things, by their kind and agent.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<(&'static str, AgentId), Thing>>);

#[derive(Clone, Debug)]
struct Thing {
    sealed: Vec<u8>,
    until: SystemTime,
}

/// A thing as a row.
#[derive(Serialize, Deserialize)]
struct Row {
    /// In milliseconds since 1970.
    until: u64,
    sealed: String,
}

impl Shelf {
    pub(super) fn put(&self, kind: &'static str, agent: AgentId, sealed: Vec<u8>, time: Duration) {
        let until = SystemTime::now() + time;
        self.things().insert((kind, agent), Thing { sealed, until });
    }

    pub(super) fn get(&self, kind: &'static str, agent: AgentId) -> Option<Vec<u8>> {
        let things = self.things();
        let thing = things.get(&(kind, agent))?;
        (thing.until > SystemTime::now()).then(|| thing.sealed.clone())
    }

    /// Whether there was one.
    pub(super) fn remove(&self, kind: &'static str, agent: AgentId) -> bool {
        self.things().remove(&(kind, agent)).is_some()
    }

    /// Whether there were any.
    pub(super) fn remove_all(&self, kind: &'static str) -> bool {
        let mut things = self.things();
        let before = things.len();
        things.retain(|(known, _), _| *known != kind);
        things.len() < before
    }

    pub(super) fn tidy(&self) {
        let now = SystemTime::now();
        self.things().retain(|_, thing| thing.until > now);
    }

    pub(super) fn all(&self) -> Vec<(&'static str, AgentId)> {
        self.things().keys().copied().collect()
    }

    pub(super) fn row(&self, kind: &'static str, agent: AgentId) -> Option<Vec<u8>> {
        let things = self.things();
        let thing = things.get(&(kind, agent))?;
        let until = thing.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        // Nothing in it can fail to be written.
        serde_json::to_vec(&Row { until, sealed: hex(&thing.sealed) }).ok()
    }

    /// Takes a row in, unless there is something newer; tells whether it could be read.
    pub(super) fn take_in(&self, kind: &'static str, agent: AgentId, row: &[u8]) -> bool {
        let row = serde_json::from_slice::<Row>(row).ok();
        let thing = row.and_then(|row| {
            let until = UNIX_EPOCH.checked_add(Duration::from_millis(row.until))?;
            Some(Thing { sealed: unhex(&row.sealed)?, until })
        });
        let Some(thing) = thing else { return false };
        self.things().entry((kind, agent)).or_insert(thing);
        true
    }

    fn things(&self) -> MutexGuard<'_, HashMap<(&'static str, AgentId), Thing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
