//! What a process finds in the file when it starts.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, sync::Arc};

use tracing::{info, warn};

use super::{
    CREDENTIALS, REJECTED, SESSION, Slot,
    database::{Content, Database, DatabaseError, Key},
    shelf::Shelf,
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

/// Opens the file and fills each tenant's slot with what is in it. Writes it anew where that is of use:
/// what nobody needs leaves it, and all sessions are sealed with the first key.
pub(super) fn open(
    path: &Path,
    keyring: Option<&Keyring>,
    credentials: bool,
    tenants: BTreeMap<TenantId, NonZeroUsize>,
) -> (Vec<Slot>, Result<Database, DatabaseError>) {
    let mut slots = slots(tenants);
    let opened = fill(path, &mut slots, keyring, credentials);
    (slots, opened)
}

/// Each tenant's slot, with nothing in it.
pub(super) fn slots(tenants: BTreeMap<TenantId, NonZeroUsize>) -> Vec<Slot> {
    let slot = |(tenant, capacity)| Slot {
        tenant,
        local: Arc::new(Local::new(capacity)),
        shelf: Shelf::default(),
        found: Vec::new(),
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
    let mut tally = Tally::default();
    see_versions(slots, &content);
    for (key, row) in content.rows {
        match slots.iter().find(|slot| slot.tenant.as_str() == key.tenant) {
            Some(slot) => drop(slot.read(&key, &row, keyring, &mut tally)),
            None => tally.strange += 1,
        }
    }
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
    path: &Path,
    slots: &mut [Slot],
    keyring: Option<&Keyring>,
    credentials: bool,
) -> Result<Database, DatabaseError> {
    let (mut database, content) = writer::open_or_set_aside(path)?;
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
        database = writer::begin_anew(path, &no_key(tally.sealed))?;
    }
    database = writer::rewritten(path, database, &writer::everything(slots, keyring))?;
    database.compact(path)?;
    Ok(database)
}

fn take_in(slots: &mut [Slot], content: Content, keyring: Option<&Keyring>) -> Tally {
    let mut tally = Tally::default();
    see_versions(slots, &content);
    for (key, row) in content.rows {
        match slots.iter_mut().find(|slot| slot.tenant.as_str() == key.tenant) {
            Some(slot) => {
                let made_here = slot.read(&key, &row, keyring, &mut tally);
                slot.found.extend(made_here);
            }
            None => tally.strange += 1,
        }
    }
    tally
}

impl Slot {
    /// Takes a row in; gives the agent whose session the bridge has made.
    fn read(
        &self,
        key: &Key,
        row: &[u8],
        keyring: Option<&Keyring>,
        tally: &mut Tally,
    ) -> Option<AgentId> {
        let Some(agent) = key.agent() else {
            tally.malformed += 1;
            return None;
        };
        let kind = [CREDENTIALS, REJECTED].into_iter().find(|kind| *kind == key.kind);
        if let Some(kind) = kind {
            tally.malformed += usize::from(!self.shelf.take_in(kind, agent, row));
            return None;
        }
        let record = Record::parse(row).ok().filter(|record| record.agent() == Some(agent));
        let entry = match record.filter(|_| key.kind == SESSION) {
            Some(record) => {
                tally.outdated += usize::from(!record.is_sealed_with(keyring));
                record.open_own(&self.tenant, keyring)
            }
            None => Err(Unreadable::Malformed),
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(Unreadable::Malformed) => {
                tally.malformed += 1;
                return None;
            }
            Err(Unreadable::Sealed) => {
                tally.sealed += 1;
                return None;
            }
        };
        let Some(session) = entry.live().cloned() else {
            tally.ended += 1;
            return None;
        };
        if self.local.offer(agent, entry) == Taken::Full {
            tally.surplus += 1;
            return None;
        }
        tally.sessions += 1;
        (session.origin == Origin::SignedIn).then_some(agent)
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
