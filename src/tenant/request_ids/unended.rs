//! The changes of this process whose ends are not in the store yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::ChangeId;

/// What the store has of such changes: their records while they were under way.
#[derive(Debug, Default)]
pub(in crate::tenant) struct Unended(Mutex<HashMap<ChangeId, Record>>);

#[derive(Clone, Debug)]
struct Record {
    stored: Vec<u8>,
    /// Whether the id is free again.
    is_free: bool,
}

impl Unended {
    /// Notes that the end of a change is about to be stored. Of more than `most`, the others are not noted.
    pub(super) fn note(&self, id: ChangeId, stored: &[u8], is_free: bool, most: usize) {
        let mut records = self.records();
        if records.len() < most || records.contains_key(&id) {
            records.insert(id, Record { stored: stored.to_vec(), is_free });
        }
    }

    /// Whether this record of a change is noted, and not another one since.
    pub(super) fn has(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.records().get(&id).is_some_and(|record| record.stored == stored)
    }

    /// The record that a new call with the id takes the place of, if the id is free again.
    pub(super) fn replaced(&self, id: ChangeId) -> Option<Vec<u8>> {
        let records = self.records();
        records.get(&id).filter(|record| record.is_free).map(|record| record.stored.clone())
    }

    /// Notes that the end is stored, or will not be.
    pub(super) fn forget(&self, id: ChangeId, stored: &[u8]) {
        let mut records = self.records();
        if records.get(&id).is_some_and(|record| record.stored == stored) {
            records.remove(&id);
        }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<ChangeId, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
