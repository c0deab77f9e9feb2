//! What else is kept of agents in the file, for a time: sealed bytes that this module cannot read.

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

/// A tenant's sealed things.
#[derive(Debug)]
pub(super) struct Shelf {
    drawers: Mutex<HashMap<Drawer, Things>>,
    /// How many there may be in each drawer.
    capacity: NonZeroUsize,
}

type Things = HashMap<AgentId, Thing>;

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
    /// An empty one, with room for so many things in each drawer.
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self { drawers: Mutex::default(), capacity }
    }

    /// Puts something in the place of what is there; tells whether there is room.
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

    /// Takes in what a row holds, unless there is something newer; tells whether there is room.
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

    /// Whether there was one.
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
        // Nothing in it can fail to be written.
        serde_json::to_vec(&Row { until, sealed: hex(&thing.sealed) }).ok()
    }

    /// Makes room by forgetting what is of no use any more.
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
