//! The sealed values of agents in the file, each for a limited time. This module cannot open them.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    hex::{hex, unhex},
    id::{AgentId, TenantId},
    keyring::{Keyring, Renewal},
    session::SealedKind,
    time::millis_of,
};

/// A tenant's sealed values.
#[derive(Debug)]
pub(super) struct SealedTable {
    by_kind: Mutex<HashMap<SealedKind, ValuesByAgent>>,
    /// How many values of each kind there may be.
    capacity: AtomicUsize,
}

type ValuesByAgent = HashMap<AgentId, SealedValue>;

/// A sealed value, and when it expires.
#[derive(Clone, Debug)]
pub(super) struct SealedValue {
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

impl SealedValue {
    /// Reads a row.
    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        let row: Row = serde_json::from_slice(row).ok()?;
        let until = UNIX_EPOCH.checked_add(Duration::from_millis(row.until))?;
        Some(Self { sealed: unhex(&row.sealed)?, until })
    }

    pub(super) fn is_expired(&self) -> bool {
        self.until <= SystemTime::now()
    }
}

impl SealedTable {
    /// Makes an empty table with room for `capacity` values of each kind.
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self { by_kind: Mutex::default(), capacity: capacity.get().into() }
    }

    /// Has room for `capacity` values of each kind from now on. Those that there are stay.
    pub(super) fn set_capacity(&self, capacity: NonZeroUsize) {
        self.capacity.store(capacity.get(), Ordering::Relaxed);
    }

    /// Stores a value, replacing an older one. Returns whether there is room.
    pub(super) fn put(
        &self,
        sealed_kind: SealedKind,
        agent: AgentId,
        sealed: Vec<u8>,
        time: Duration,
    ) -> bool {
        let value = SealedValue { sealed, until: SystemTime::now() + time };
        let mut by_kind = self.by_kind();
        let values = by_kind.entry(sealed_kind).or_default();
        let has_room = self.make_room(values, agent);
        if has_room {
            values.insert(agent, value);
        }
        has_room
    }

    /// Takes over a value from a row, unless there is a newer one. Returns whether there is room.
    pub(super) fn take_in(
        &self,
        sealed_kind: SealedKind,
        agent: AgentId,
        value: SealedValue,
    ) -> bool {
        let mut by_kind = self.by_kind();
        let values = by_kind.entry(sealed_kind).or_default();
        let has_room = self.make_room(values, agent);
        if has_room {
            values.entry(agent).or_insert(value);
        }
        has_room
    }

    pub(super) fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> Option<Vec<u8>> {
        let by_kind = self.by_kind();
        let value = by_kind.get(&sealed_kind)?.get(&agent)?;
        (!value.is_expired()).then(|| value.sealed.clone())
    }

    /// Removes a value. Returns whether there was one.
    pub(super) fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> bool {
        self.by_kind().get_mut(&sealed_kind).is_some_and(|values| values.remove(&agent).is_some())
    }

    /// Seals all values again that are not sealed with the first key. Those that no key opens go.
    pub(super) fn seal_anew(&self, keyring: &Keyring, tenant: &TenantId) {
        for (sealed_kind, values) in &mut *self.by_kind() {
            values.retain(|agent, value| {
                match sealed_kind.renewal(keyring, tenant, *agent, &value.sealed) {
                    Renewal::Current => true,
                    Renewal::Anew(sealed) => {
                        value.sealed = sealed.encode();
                        true
                    }
                    Renewal::Unreadable => false,
                }
            });
        }
    }

    pub(super) fn tidy(&self) {
        self.by_kind()
            .values_mut()
            .for_each(|values| values.retain(|_, value| !value.is_expired()));
    }

    /// The agents who have a value of this kind.
    pub(super) fn agents_with(&self, sealed_kind: SealedKind) -> Vec<AgentId> {
        let by_kind = self.by_kind();
        by_kind.get(&sealed_kind).into_iter().flat_map(|values| values.keys().copied()).collect()
    }

    pub(super) fn all(&self) -> Vec<(SealedKind, AgentId)> {
        let by_kind = self.by_kind();
        let all = by_kind
            .iter()
            .flat_map(|(sealed_kind, values)| values.keys().map(|agent| (*sealed_kind, *agent)));
        all.collect()
    }

    pub(super) fn row(&self, sealed_kind: SealedKind, agent: AgentId) -> Option<Vec<u8>> {
        let by_kind = self.by_kind();
        let value = by_kind.get(&sealed_kind)?.get(&agent)?;
        let row = Row { until: millis_of(value.until), sealed: hex(&value.sealed) };
        // Serializing these fields cannot fail.
        serde_json::to_vec(&row).ok()
    }

    /// Makes room by removing expired values. Returns whether there is room.
    fn make_room(&self, values: &mut ValuesByAgent, agent: AgentId) -> bool {
        let capacity = self.capacity.load(Ordering::Relaxed);
        if values.len() < capacity || values.contains_key(&agent) {
            return true;
        }
        values.retain(|_, value| !value.is_expired());
        values.len() < capacity
    }

    fn by_kind(&self) -> MutexGuard<'_, HashMap<SealedKind, ValuesByAgent>> {
        self.by_kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    #[test]
    fn there_are_no_more_values_than_there_is_room_for() {
        let agent = |id: u32| AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap();
        let table = SealedTable::new(NonZeroUsize::new(3).unwrap());
        let hour = Duration::from_secs(60 * 60);
        let put = |id, time| table.put(SealedKind::Rejected, agent(id), vec![1], time);
        assert!(put(101, Duration::ZERO) && put(102, hour) && put(103, hour));
        assert!(put(104, hour), "an expired value makes room");
        assert!(!put(105, hour));
        assert!(put(104, hour), "it is there already");
        assert!(
            table.put(SealedKind::Credentials, agent(105), vec![1], hour),
            "that is another kind"
        );
        assert_eq!(table.all().len(), 4);
    }
}
