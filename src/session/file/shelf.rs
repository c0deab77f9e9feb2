//! The sealed values of agents in the file, each for a limited time. This module cannot open them.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    id::AgentId,
    keyring::{hex, unhex},
    session::Drawer,
};

/// A tenant's sealed values.
#[derive(Debug)]
pub(super) struct Shelf {
    drawers: Mutex<HashMap<Drawer, Things>>,
    /// How many values of each kind there may be.
    capacity: NonZeroUsize,
}

type Things = HashMap<AgentId, Thing>;

/// A sealed value, and when it expires.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) sealed: Vec<u8>,
    until: SystemTime,
}

/// The row of a sealed value.
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
    /// Makes an empty table with room for `capacity` values of each kind.
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self { drawers: Mutex::default(), capacity }
    }

    /// Stores a value, replacing an older one. Returns whether there is room.
    pub(super) fn put(
        &self,
        drawer: Drawer,
        agent: AgentId,
        sealed: Vec<u8>,
        time: Duration,
    ) -> bool {
        let thing = Thing { sealed, until: SystemTime::now() + time };
        let mut drawers = self.drawers();
        let things = drawers.entry(drawer).or_default();
        let has_room = self.make_room(things, agent);
        if has_room {
            things.insert(agent, thing);
        }
        has_room
    }

    /// Takes over a value from a row, unless there is a newer one. Returns whether there is room.
    pub(super) fn take_in(&self, drawer: Drawer, agent: AgentId, thing: Thing) -> bool {
        let mut drawers = self.drawers();
        let things = drawers.entry(drawer).or_default();
        let has_room = self.make_room(things, agent);
        if has_room {
            things.entry(agent).or_insert(thing);
        }
        has_room
    }

    pub(super) fn get(&self, drawer: Drawer, agent: AgentId) -> Option<Vec<u8>> {
        let drawers = self.drawers();
        let thing = drawers.get(&drawer)?.get(&agent)?;
        (!thing.is_over()).then(|| thing.sealed.clone())
    }

    /// Removes a value. Returns whether there was one.
    pub(super) fn remove(&self, drawer: Drawer, agent: AgentId) -> bool {
        self.drawers().get_mut(&drawer).is_some_and(|things| things.remove(&agent).is_some())
    }

    pub(super) fn tidy(&self) {
        self.drawers().values_mut().for_each(|things| things.retain(|_, thing| !thing.is_over()));
    }

    pub(super) fn all(&self) -> Vec<(Drawer, AgentId)> {
        let drawers = self.drawers();
        let all = drawers
            .iter()
            .flat_map(|(drawer, things)| things.keys().map(|agent| (*drawer, *agent)));
        all.collect()
    }

    pub(super) fn row(&self, drawer: Drawer, agent: AgentId) -> Option<Vec<u8>> {
        let drawers = self.drawers();
        let thing = drawers.get(&drawer)?.get(&agent)?;
        let until = thing.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        // Serializing these fields cannot fail.
        serde_json::to_vec(&Row { until, sealed: hex(&thing.sealed) }).ok()
    }

    /// Makes room by removing expired values. Returns whether there is room.
    fn make_room(&self, things: &mut Things, agent: AgentId) -> bool {
        let capacity = self.capacity.get();
        if things.len() < capacity || things.contains_key(&agent) {
            return true;
        }
        things.retain(|_, thing| !thing.is_over());
        things.len() < capacity
    }

    fn drawers(&self) -> MutexGuard<'_, HashMap<Drawer, Things>> {
        self.drawers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    #[test]
    fn there_are_no_more_things_than_there_is_room_for() {
        let agent = |id: u32| AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap();
        let shelf = Shelf::new(NonZeroUsize::new(3).unwrap());
        let hour = Duration::from_secs(60 * 60);
        let put = |id, time| shelf.put(Drawer::Rejected, agent(id), vec![1], time);
        assert!(put(101, Duration::ZERO) && put(102, hour) && put(103, hour));
        assert!(put(104, hour), "what is over makes room");
        assert!(!put(105, hour));
        assert!(put(104, hour), "it is there already");
        assert!(
            shelf.put(Drawer::Credentials, agent(105), vec![1], hour),
            "that is another drawer"
        );
        assert_eq!(shelf.all().len(), 4);
    }
}
