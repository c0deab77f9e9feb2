//! The changes of this process whose ends are not in the store yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::ChangeId;

/// What the store may have of such changes: their records while they were under way.
#[derive(Debug, Default)]
pub(in crate::tenant) struct Unended(Mutex<HashMap<ChangeId, Attempts>>);

/// The attempts with one id, in the order in which they began. The store has the record of one of them, or of none.
#[derive(Debug, Default)]
struct Attempts {
    attempts: Vec<Attempt>,
    /// Whether the latest one has ended so that the id is free again.
    is_free: bool,
}

/// An attempt to make a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Grows with each attempt of this process.
    pub(super) number: u64,
    /// Its record while it was under way, as the store has it.
    pub(super) stored: Vec<u8>,
}

/// How many attempts with an id are remembered.
const ATTEMPTS_MAX: usize = 4;

impl Unended {
    /// Notes an attempt, or that it has ended. `is_free`: so that the id is free again. Once there are `most` ids, no further
    /// ones are noted, and their ends are tried once.
    pub(super) fn note(&self, id: ChangeId, attempt: &Attempt, is_free: bool, most: usize) {
        let mut all = self.all();
        if all.len() >= most && !all.contains_key(&id) {
            return;
        }
        all.entry(id).or_default().note(attempt, is_free);
    }

    /// Forgets the attempts before this one: the store has taken its record, so it has none of theirs.
    pub(super) fn forget_before(&self, id: ChangeId, attempt: &Attempt) {
        if let Some(attempts) = self.all().get_mut(&id) {
            attempts.attempts.retain(|other| other.number >= attempt.number);
        }
    }

    /// Whether no later attempt with the id is known.
    pub(super) fn is_latest(&self, id: ChangeId, attempt: &Attempt) -> bool {
        self.all().get(&id).is_some_and(|attempts| attempts.latest() == Some(attempt.number))
    }

    /// Whether this is the record of one of the attempts.
    pub(super) fn has(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.all().get(&id).is_some_and(|attempts| attempts.has(stored))
    }

    /// The same, if the id is free again. A new call with the id may take the place of the record then.
    pub(super) fn is_free(&self, id: ChangeId, stored: &[u8]) -> bool {
        self.all().get(&id).is_some_and(|attempts| attempts.is_free && attempts.has(stored))
    }

    /// The records of this attempt and of those before it.
    pub(super) fn up_to(&self, id: ChangeId, attempt: &Attempt) -> Vec<Vec<u8>> {
        let all = self.all();
        let attempts = all.get(&id).into_iter().flat_map(|attempts| &attempts.attempts);
        let before = attempts.filter(|other| other.number < attempt.number);
        before.chain([attempt]).map(|attempt| attempt.stored.clone()).collect()
    }

    /// Notes that the end of this attempt is stored, or will not be. If it is the latest one, all are forgotten.
    pub(super) fn forget(&self, id: ChangeId, attempt: &Attempt) {
        let mut all = self.all();
        if all.get(&id).is_some_and(|attempts| attempts.latest() == Some(attempt.number)) {
            all.remove(&id);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ChangeId, Attempts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    fn note(&mut self, attempt: &Attempt, is_free: bool) {
        let place = self.attempts.partition_point(|other| other.number < attempt.number);
        if self.attempts.get(place) != Some(attempt) {
            self.attempts.insert(place, attempt.clone());
        }
        // The first one began when the store was there last, so the store may have it.
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.remove(1);
        }
        if self.latest() == Some(attempt.number) {
            self.is_free = is_free;
        }
    }

    fn latest(&self) -> Option<u64> {
        self.attempts.last().map(|attempt| attempt.number)
    }

    fn has(&self, stored: &[u8]) -> bool {
        self.attempts.iter().any(|attempt| attempt.stored == stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RequestId;

    fn request_id(last: u32) -> RequestId {
        RequestId::parse(&format!("f81d4fae-7dec-41d0-a765-00a0c91e6bf{last}")).unwrap()
    }

    fn attempt(number: u64) -> Attempt {
        Attempt { number, stored: vec![u8::try_from(number).unwrap()] }
    }

    #[test]
    fn the_latest_attempt_says_whether_the_id_is_free_and_the_first_one_is_not_forgotten() {
        let (unended, id) = (Unended::default(), ChangeId::alone(request_id(1)));
        for number in [1, 3, 2, 4, 5, 6] {
            unended.note(id, &attempt(number), number != 6, 8);
        }
        assert!(unended.is_latest(id, &attempt(6)) && !unended.is_free(id, &[1]));
        // One that began earlier ends later.
        unended.note(id, &attempt(3), true, 8);
        assert!(unended.is_latest(id, &attempt(6)) && !unended.is_free(id, &[1]));
        unended.note(id, &attempt(6), true, 8);
        assert!(unended.is_free(id, &[1]) && unended.is_free(id, &[6]));
        assert_eq!(unended.up_to(id, &attempt(1)), [[1]]);
        let all = unended.up_to(id, &attempt(6));
        assert_eq!((all.first(), all.last(), all.len()), (Some(&vec![1]), Some(&vec![6]), 4));
        unended.forget(id, &attempt(1));
        assert!(unended.has(id, &[1]), "a later one takes over");
        unended.forget_before(id, &attempt(6));
        assert!(!unended.has(id, &[1]) && unended.has(id, &[6]));
        unended.forget(id, &attempt(6));
        assert!(!unended.has(id, &[6]));
    }

    #[test]
    fn once_there_are_as_many_as_may_be_no_other_ids_are_noted() {
        let unended = Unended::default();
        let [one, two] = [1, 2].map(|id| ChangeId::alone(request_id(id)));
        for id in [one, two] {
            unended.note(id, &attempt(1), true, 1);
            unended.note(id, &attempt(2), true, 1);
        }
        assert!(unended.has(one, &[2]) && !unended.has(two, &[1]));
    }
}
