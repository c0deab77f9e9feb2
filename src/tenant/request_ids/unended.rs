//! The changes of this process whose ends are not in the store yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::ChangeId;

/// What the store may have of such changes: their records while they were under way.
#[derive(Debug, Default)]
pub(in crate::tenant) struct Unended(Mutex<HashMap<ChangeId, Records>>);

#[derive(Debug)]
struct Records {
    /// Those of the attempts with the id, the latest one last. The store has one of them, or none.
    stored: Vec<Vec<u8>>,
    /// Whether the id is free again.
    is_free: bool,
}

/// How many attempts with an id are remembered.
const ATTEMPTS_MAX: usize = 4;

impl Unended {
    /// Notes that the end of a change is about to be stored. Once there are `most`, no further ones are noted, and their
    /// ends are tried once.
    pub(super) fn note(&self, id: ChangeId, stored: &[u8], is_free: bool, most: usize) {
        let mut all = self.all();
        if all.len() >= most && !all.contains_key(&id) {
            return;
        }
        let records = all.entry(id).or_insert_with(|| Records { stored: Vec::new(), is_free });
        if records.stored.len() == ATTEMPTS_MAX {
            records.stored.remove(0);
        }
        records.stored.push(stored.to_vec());
        records.is_free = is_free;
    }

    /// Whether this is the record of the latest attempt with the id.
    pub(super) fn is_latest(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.all().get(&id).is_some_and(|records| records.is_latest(stored))
    }

    /// Whether this is the record of one of the attempts.
    pub(super) fn has(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.all().get(&id).is_some_and(|records| records.has(stored))
    }

    /// The same, if the id is free again. A new call with the id may take the place of the record then.
    pub(super) fn is_free(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.all().get(&id).is_some_and(|records| records.is_free && records.has(stored))
    }

    /// The records of all attempts.
    pub(super) fn records(&self, id: ChangeId) -> Vec<Vec<u8>> {
        self.all().get(&id).map(|records| records.stored.clone()).unwrap_or_default()
    }

    /// Notes that the end of the latest attempt is stored, or will not be.
    pub(super) fn forget(&self, id: ChangeId, stored: &[u8]) {
        let mut all = self.all();
        if all.get(&id).is_some_and(|records| records.is_latest(stored)) {
            all.remove(&id);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ChangeId, Records>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn is_latest(&self, stored: &[u8]) -> bool {
        self.stored.last().is_some_and(|latest| latest == stored)
    }

    fn has(&self, stored: &[u8]) -> bool {
        self.stored.iter().any(|record| record == stored)
    }
}
