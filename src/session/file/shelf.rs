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
    session::Drawer,
};

/// A tenant's sealed things, by their drawer and agent.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<(Drawer, AgentId), Thing>>);

/// Something sealed, and until when it is of use.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) sealed: Vec<u8>,
    until: SystemTime,
}

/// A thing as a row.
#[derive(Serialize, Deserialize)]
struct Row {
    /// In milliseconds since 1970.
    until: u64,
    sealed: String,
}

impl Thing {
    /// Reads a row.
    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        let row: Row = serde_json::from_slice(row).ok()?;
        let until = UNIX_EPOCH.checked_add(Duration::from_millis(row.until))?;
        Some(Self { sealed: unhex(&row.sealed)?, until })
    }

    pub(super) fn is_over(&self) -> bool {
        self.until <= SystemTime::now()
    }
}

impl Shelf {
    pub(super) fn put(&self, drawer: Drawer, agent: AgentId, sealed: Vec<u8>, time: Duration) {
        let until = SystemTime::now() + time;
        self.things().insert((drawer, agent), Thing { sealed, until });
    }

    pub(super) fn get(&self, drawer: Drawer, agent: AgentId) -> Option<Vec<u8>> {
        let things = self.things();
        let thing = things.get(&(drawer, agent))?;
        (!thing.is_over()).then(|| thing.sealed.clone())
    }

    /// Whether there was one.
    pub(super) fn remove(&self, drawer: Drawer, agent: AgentId) -> bool {
        self.things().remove(&(drawer, agent)).is_some()
    }

    pub(super) fn tidy(&self) {
        self.things().retain(|_, thing| !thing.is_over());
    }

    pub(super) fn all(&self) -> Vec<(Drawer, AgentId)> {
        self.things().keys().copied().collect()
    }

    pub(super) fn row(&self, drawer: Drawer, agent: AgentId) -> Option<Vec<u8>> {
        let things = self.things();
        let thing = things.get(&(drawer, agent))?;
        let until = thing.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        // Nothing in it can fail to be written.
        serde_json::to_vec(&Row { until, sealed: hex(&thing.sealed) }).ok()
    }

    /// Takes in what a row holds, unless there is something newer.
    pub(super) fn take_in(&self, drawer: Drawer, agent: AgentId, thing: Thing) {
        self.things().entry((drawer, agent)).or_insert(thing);
    }

    fn things(&self) -> MutexGuard<'_, HashMap<(Drawer, AgentId), Thing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
