//! What a process finds in the file when it starts.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{info, warn};

use super::{
    CREDENTIALS, REJECTED, SESSION, Slot,
    database::{Content, Database, DatabaseError, Key},
    shelf::Shelf,
    volume::Volume,
    writer,
};
use crate::{
    id::{AgentId, TenantId},
    keyring::Keyring,
    session::{
        Origin,
        local::{Local, Taken},
        record::{Record, Unreadable},
    },
};

/// What became of the rows, in numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sessions: usize,
    /// Their time has passed.
    ended: usize,
    /// They are of tenants that are not configured.
    strange: usize,
    /// There was no room for them.
    surplus: usize,
    /// None of the keys opens them.
    sealed: usize,
    malformed: usize,
    /// They are not as they would be written now: under another key, or under none.
    outdated: usize,
}

/// Each tenant's slot, and the file that it was filled from.
pub(super) type Found = (Vec<Slot>, Result<Database, DatabaseError>);

/// Opens the file and fills each tenant's slot with what is in it. Writes it anew where that is of use:
/// what nobody needs leaves it, and all sessions are sealed with the first key.
pub(super) fn open(
    volume: &Volume,
    keyring: Option<&Keyring>,
    credentials: bool,
    tenants: BTreeMap<TenantId, NonZeroUsize>,
) -> Found {
    let slots = slots(tenants);
    let opened = fill(volume, &slots, keyring, credentials);
    (slots, opened)
}

/// Each tenant's slot, with nothing in it.
pub(super) fn slots(tenants: BTreeMap<TenantId, NonZeroUsize>) -> Vec<Slot> {
    let slot = |(tenant, capacity)| Slot {
        tenant,
        local: Arc::new(Local::new(capacity)),
        shelf: Shelf::default(),
        found: Mutex::default(),
    };
    tenants.into_iter().map(slot).collect()
}

/// Takes in what is in a file that could not be read at the start: of each session the newer version
/// stays. Gives how many no key opens.
pub(super) fn take_in_late(
    slots: &[Slot],
    content: Content,
    keyring: Option<&Keyring>,
    path: &Path,
) -> usize {
    let tally = take_in(slots, content, keyring);
    tally.tell(path);
    tally.sealed
}

/// Why a file is set aside that has so many sessions which no key opens.
pub(super) fn no_key(sessions: usize) -> String {
    format!("no key in store.encryption_keys opens {sessions} of its sessions")
}

fn see_versions(slots: &[Slot], content: &Content) {
    for (tenant, version) in &content.versions {
        if let Some(slot) = slots.iter().find(|slot| slot.tenant.as_str() == tenant) {
            slot.local.saw_version(*version);
        }
    }
}

fn fill(
    volume: &Volume,
    slots: &[Slot],
    keyring: Option<&Keyring>,
    credentials: bool,
) -> Result<Database, DatabaseError> {
    let path = volume.path();
    let (mut database, content) = writer::open_or_set_aside(volume)?;
    let is_written = content.is_written;
    let tally = take_in(slots, content, keyring);
    tally.tell(path);
    let mut is_whole = is_written && tally.is_all_of_use();
    for slot in slots.iter().filter(|_| !credentials) {
        is_whole &= !slot.shelf.remove_all(CREDENTIALS);
    }
    if is_whole {
        database.compact(path)?;
        return Ok(database);
    }
    if tally.sealed > 0 {
        // The operator may have the key elsewhere.
        drop(database);
        database = writer::begin_anew(volume, &no_key(tally.sealed))?;
    }
    database = writer::rewritten(volume, database, &writer::everything(slots, keyring))?;
    database.compact(path)?;
    Ok(database)
}

fn take_in(slots: &[Slot], content: Content, keyring: Option<&Keyring>) -> Tally {
    let mut tally = Tally::default();
    see_versions(slots, &content);
    let slot_of = |key: &Key| slots.iter().find(|slot| slot.tenant.as_str() == key.tenant);
    let (sessions, others): (Vec<_>, Vec<_>) =
        content.rows.into_iter().partition(|(key, _)| key.kind == SESSION);
    let mut taken = HashSet::new();
    for (key, row) in sessions {
        match slot_of(&key) {
            Some(slot) => {
                if slot.read(&key, &row, keyring, &mut tally) {
                    taken.insert(key);
                }
            }
            None => tally.strange += 1,
        }
    }
    for (key, row) in others {
        let session = Key { kind: SESSION.to_owned(), ..key.clone() };
        match slot_of(&key) {
            // It belongs to a session that has ended.
            Some(_) if key.kind == CREDENTIALS && !taken.contains(&session) => tally.ended += 1,
            Some(slot) => slot.read_beside(&key, &row, &mut tally),
            None => tally.strange += 1,
        }
    }
    tally
}

impl Slot {
    /// Takes a session in, unless a newer one is known; tells whether it did.
    fn read(&self, key: &Key, row: &[u8], keyring: Option<&Keyring>, tally: &mut Tally) -> bool {
        let record = Record::parse(row).ok().zip(key.agent());
        let entry = match record.filter(|(record, agent)| record.agent() == Some(*agent)) {
            Some((record, agent)) => {
                tally.outdated += usize::from(!record.is_sealed_with(keyring));
                record.open_own(&self.tenant, keyring).map(|entry| (agent, entry))
            }
            None => Err(Unreadable::Malformed),
        };
        let (agent, entry) = match entry {
            Ok(entry) => entry,
            Err(Unreadable::Malformed) => {
                tally.malformed += 1;
                return false;
            }
            Err(Unreadable::Sealed) => {
                tally.sealed += 1;
                return false;
            }
        };
        let Some(session) = entry.live().cloned() else {
            tally.ended += 1;
            return false;
        };
        match self.local.offer(agent, entry) {
            Taken::Yes => {}
            Taken::Older => return false,
            Taken::Full => {
                tally.surplus += 1;
                return false;
            }
        }
        tally.sessions += 1;
        if session.origin == Origin::SignedIn {
            self.found().push(agent);
        }
        true
    }

    /// Takes in what is no session, unless something newer is known.
    fn read_beside(&self, key: &Key, row: &[u8], tally: &mut Tally) {
        let kind = [CREDENTIALS, REJECTED].into_iter().find(|kind| *kind == key.kind);
        let is_read =
            kind.zip(key.agent()).is_some_and(|(kind, agent)| self.shelf.take_in(kind, agent, row));
        tally.malformed += usize::from(!is_read);
    }

    /// Agents whose sessions were found since this was asked last.
    pub(super) fn take_found(&self) -> Vec<AgentId> {
        mem::take(&mut self.found())
    }

    fn found(&self) -> MutexGuard<'_, Vec<AgentId>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn is_all_of_use(self) -> bool {
        let Self { sessions: _, ended, strange, surplus, sealed, malformed, outdated } = self;
        ended + strange + surplus + sealed + malformed + outdated == 0
    }

    fn tell(self, path: &Path) {
        let Self { sessions, ended, strange, surplus, malformed, .. } = self;
        let file = path.display();
        info!(%file, sessions, ended, "sessions were found in the file of store.file");
        if strange > 0 {
            warn!(%file, rows = strange, "the file of store.file has sessions of tenants that are not configured; they are left out");
        }
        if surplus > 0 {
            warn!(%file, sessions = surplus, "the file of store.file has more sessions than limits.sessions allows; the rest is left out");
        }
        if malformed > 0 {
            warn!(%file, rows = malformed, "some of what is in the file of store.file cannot be read and is left out");
        }
    }
}
