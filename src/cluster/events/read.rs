//! Which events have been read, and which of them come again.

use std::collections::{HashMap, VecDeque};

use crate::{cluster::wire::Origin, session::Doubt};

/// For each process, its latest events that were read: how many it had sent before, and the event's number.
/// One that was read and comes under another number is a copy that somebody else has published, and so is
/// one from before these that has a higher number. One that was left out in between comes late: Redis has
/// taken it after its replica had given it up and had said that it is missing.
#[derive(Debug, Default)]
pub(super) struct Read(HashMap<u64, VecDeque<(u64, Number)>>);

/// What has become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// It was read by this number.
    Read(u64),
    /// The same, and it came after later ones of its process.
    Late(u64),
    /// Its replica has told it to its own watchers alone.
    Left,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    New,
    /// It is new, and the events of its process right before it have not come.
    AfterGap,
    /// It comes after later ones of its process.
    Late,
    /// It was read before.
    Again,
    /// It was left to this process, which has told it to its watchers.
    Left,
}

/// How many events of a process are remembered.
const EVENTS_MAX: usize = 256;
/// How many events a process may have sent after one that Redis takes late.
const LATE_MAX: u64 = 8;
/// The most processes whose events are remembered. There are as many as replicas have started.
const PROCESSES_MAX: usize = 4096;

impl Read {
    /// Notes that an event was read.
    pub(super) fn note(&mut self, origin: Origin, sequence: u64) -> Result<Found, Doubt> {
        let Origin { by, nth, .. } = origin;
        let known = self.of(by);
        let (place, len) = (known.partition_point(|(other, _)| *other < nth), known.len());
        match known.get_mut(place) {
            Some((other, number)) if *other == nth => {
                return match *number {
                    Number::Left => {
                        *number = Number::Read(sequence);
                        Ok(Found::Left)
                    }
                    Number::Read(before) if before == sequence => Ok(Found::Again),
                    Number::Late(before) if before == sequence => Ok(Found::Late),
                    Number::Read(_) | Number::Late(_) => Err(Doubt::EventRepeated),
                };
            }
            Some((first, _)) if place == 0 && !(len < EVENTS_MAX && *first - nth <= LATE_MAX) => {
                let newest = known.iter().rev().find_map(|(_, number)| number.read());
                let is_above = newest.is_some_and(|newest| sequence > newest);
                return if is_above { Err(Doubt::EventRepeated) } else { Ok(Found::Again) };
            }
            _ => {}
        }
        let found = match known.back() {
            Some(_) if place < len => Found::Late,
            Some(last) if is_gap(*last, nth) => Found::AfterGap,
            _ => Found::New,
        };
        let is_late = found == Found::Late;
        let number = if is_late { Number::Late(sequence) } else { Number::Read(sequence) };
        insert(known, place, (nth, number));
        Ok(found)
    }

    /// Whether this event is later than all that were read of its process, and the one right before it has not come.
    pub(super) fn is_after_gap(&self, Origin { by, nth, .. }: Origin) -> bool {
        let last = self.0.get(&by).and_then(|known| known.back());
        last.is_some_and(|last| last.0 < nth && is_gap(*last, nth))
    }

    /// Whether this process itself has to tell an event that it has sent, since the event was not read yet. It is
    /// not told again if it is read later.
    pub(super) fn is_left(&mut self, me: u64, nth: u64) -> bool {
        let known = self.of(me);
        let place = known.partition_point(|(other, _)| *other < nth);
        if known.get(place).is_some_and(|(other, _)| *other == nth) {
            return false;
        }
        insert(known, place, (nth, Number::Left));
        true
    }

    fn of(&mut self, by: u64) -> &mut VecDeque<(u64, Number)> {
        if !self.0.contains_key(&by) && self.0.len() >= PROCESSES_MAX {
            self.0.clear();
        }
        self.0.entry(by).or_default()
    }
}

/// Whether events are missing between the last one and this later one.
fn is_gap((last, number): (u64, Number), nth: u64) -> bool {
    nth - last > 1 || number == Number::Left
}

impl Number {
    fn read(self) -> Option<u64> {
        match self {
            Self::Read(number) | Self::Late(number) => Some(number),
            Self::Left => None,
        }
    }
}

fn insert(known: &mut VecDeque<(u64, Number)>, place: usize, event: (u64, Number)) {
    known.insert(place, event);
    if known.len() > EVENTS_MAX {
        known.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn origin(by: u64, nth: u64) -> Origin {
        Origin::now([by, nth], [Duration::ZERO; 2])
    }

    #[test]
    fn an_event_is_read_once_of_each_process_and_not_again_by_another_number() {
        let mut read = Read::default();
        for (nth, sequence, found) in [
            (10, 20, Found::New),
            (11, 22, Found::New),
            (10, 20, Found::Again),
            (11, 22, Found::Again),
            (1, 19, Found::Again),
        ] {
            assert_eq!(read.note(origin(1, nth), sequence), Ok(found), "{nth} {sequence}");
        }
        for (nth, sequence) in [(10, 23), (11, 23), (11, 21), (1, 23)] {
            assert_eq!(read.note(origin(1, nth), sequence), Err(Doubt::EventRepeated));
        }
        assert_eq!(read.note(origin(1, 12), 5), Ok(Found::New), "a Redis that has lost its events");
        assert_eq!(read.note(origin(2, 0), 23), Ok(Found::New), "another process");
        for by in 0..10_000 {
            read.note(origin(by, 7), 99).ok();
        }
        for nth in 8..10_000 {
            assert_eq!(read.note(origin(9_999, nth), 92 + nth), Ok(Found::New));
        }
        assert_eq!(read.note(origin(9_999, 8), 20_000), Err(Doubt::EventRepeated));
        assert!(read.0.len() <= PROCESSES_MAX && read.of(9_999).len() == EVENTS_MAX);
    }

    #[test]
    fn an_event_that_redis_takes_late_stays_late() {
        let mut read = Read::default();
        for (nth, sequence, found) in [
            (5, 50, Found::New),
            (7, 51, Found::AfterGap),
            (6, 52, Found::Late),
            (3, 53, Found::Late),
            (8, 54, Found::New),
        ] {
            assert_eq!(read.note(origin(1, nth), sequence), Ok(found), "{nth}");
            let again = if found == Found::Late { found } else { Found::Again };
            assert_eq!(read.note(origin(1, nth), sequence), Ok(again), "{nth}");
            assert_eq!(read.note(origin(1, nth), 60), Err(Doubt::EventRepeated), "{nth}");
        }
    }

    #[test]
    fn an_event_is_left_to_its_process_unless_it_was_read_and_is_not_read_after_that() {
        let mut read = Read::default();
        assert_eq!(read.note(origin(1, 0), 50), Ok(Found::New));
        assert!(!read.is_left(1, 0));
        assert!(read.is_left(1, 1));
        assert_eq!(read.note(origin(1, 2), 51), Ok(Found::AfterGap), "the others have not got it");
        assert_eq!(read.note(origin(1, 1), 52), Ok(Found::Left));
        assert_eq!(read.note(origin(1, 1), 52), Ok(Found::Again));
        assert_eq!(read.note(origin(1, 1), 53), Err(Doubt::EventRepeated));
    }
}
