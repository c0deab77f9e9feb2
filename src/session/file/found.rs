//! Reads the file when the process starts, or when it is opened again after a failure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{info, warn};

use super::{
    Slot, Slots,
    database::{Content, Database, DatabaseError, Key, Kind, Rest, Seal},
    replace, rows,
    sealed_table::{SealedTable, SealedValue},
    volume::Volume,
};
use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Renewal},
    session::{
        Origin, SealedKind,
        local::{Local, Taken},
        stored_session::{StoredSession, Unreadable},
    },
};

/// Counts what became of the rows.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sessions: usize,
    /// Rows whose time is over.
    ended: usize,
    /// Rows of tenants that are not configured.
    strange: usize,
    /// Rows for which there was no room.
    surplus: usize,
    /// Rows that no key opens.
    sealed: usize,
    malformed: usize,
    /// Rows that would be written differently now: with another key, or with or without encryption.
    outdated: usize,
}

/// Each tenant's slot, and the file that was read.
pub(super) type Found = (Slots, Result<Database, DatabaseError>);

/// How to read rows.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// `None`: sealed rows cannot be opened.
    pub(super) keyring: Option<&'a Keyring>,
    /// Whether credentials may stay in the file.
    pub(super) credentials: bool,
}

/// Opens the file and fills each tenant's slot from it. Writes a new file if the old one has rows
/// that nobody needs, or that are not sealed with the first key.
pub(super) fn open(
    volume: &Volume,
    reading: Reading<'_>,
    tenants: BTreeMap<TenantId, NonZeroUsize>,
) -> Found {
    let slots = slots(tenants);
    let opened = fill(volume, &slots, reading);
    (slots, opened)
}

/// An empty slot for each tenant.
pub(super) fn slots(tenants: BTreeMap<TenantId, NonZeroUsize>) -> Slots {
    tenants.into_iter().map(|(tenant, capacity)| Arc::new(Slot::new(tenant, capacity))).collect()
}

/// The reason for setting a file aside if no key opens this many of its rows.
fn no_key(rows: usize) -> String {
    format!("no key in store.encryption_key_files opens {rows} of its rows")
}

fn fill(
    volume: &Volume,
    slots: &[Arc<Slot>],
    reading: Reading<'_>,
) -> Result<Database, DatabaseError> {
    let (mut database, content) = replace::open_or_set_aside(volume)?;
    let mut anew = Anew::of(&content, reading);
    let tally = take_in(slots, content, reading);
    tally.tell(volume.path());
    if anew == Anew::InPlace {
        if tally.is_all_of_use() {
            database.compact(volume.path())?;
            return Ok(database);
        }
        // Removed rows, such as passwords, must not stay in free pages.
        anew = Anew::Replaced;
    }
    write_anew(volume, database, anew.after(tally), slots, reading)
}

/// Opens the file again after a failure, and writes everything that is known. If the file has never
/// been read, first takes over from it the sessions that are newer than the known ones.
pub(super) fn open_again(
    volume: &Volume,
    slots: &[Arc<Slot>],
    reading: Reading<'_>,
    is_unread: bool,
) -> Result<Database, DatabaseError> {
    let (database, content) = replace::open_or_set_aside(volume)?;
    let mut anew = Anew::of(&content, reading);
    let mut tally = Tally::default();
    if is_unread {
        tally = take_in(slots, content, reading);
        tally.tell(volume.path());
    }
    if anew == Anew::InPlace && tally.outdated > 0 {
        anew = Anew::Replaced;
    }
    write_anew(volume, database, anew.after(tally), slots, reading)
}

/// How everything that is known is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anew {
    /// To a file that is new.
    New,
    /// To a new file that replaces the old one: free pages of the old one may hold data that must
    /// go.
    Replaced,
    /// To a new file, and the old one is kept: the operator may still have the key to these rows.
    SetAside { sealed: usize },
    /// To the same file, over its content. This needs the least room on the disk.
    InPlace,
}

impl Anew {
    fn of(content: &Content, reading: Reading<'_>) -> Self {
        if !content.is_written {
            Self::New
        } else if content.seal == Some(Seal::of(reading.keyring)) {
            Self::InPlace
        } else {
            Self::Replaced
        }
    }

    /// Changes the decision if rows could not be opened.
    fn after(self, tally: Tally) -> Self {
        if tally.sealed > 0 { Self::SetAside { sealed: tally.sealed } } else { self }
    }
}

fn write_anew(
    volume: &Volume,
    mut database: Database,
    anew: Anew,
    slots: &[Arc<Slot>],
    reading: Reading<'_>,
) -> Result<Database, DatabaseError> {
    let everything = rows::everything(slots, reading.keyring);
    let seal = Seal::of(reading.keyring);
    match anew {
        Anew::New => database.begin(&everything, &seal)?,
        Anew::SetAside { sealed } => {
            drop(database);
            database = replace::begin_anew(volume, &no_key(sealed))?;
            database.begin(&everything, &seal)?;
        }
        Anew::InPlace => match database.write(&everything, Rest::Goes) {
            // The check at opening does not find all damage that a write finds.
            Err(DatabaseError::Broken(_)) => {
                return replace::replaced(volume, database, &everything, &seal);
            }
            written => written?,
        },
        Anew::Replaced => return replace::replaced(volume, database, &everything, &seal),
    }
    Ok(database)
}

fn take_in(slots: &[Arc<Slot>], content: Content, reading: Reading<'_>) -> Tally {
    let mut tally = Tally::default();
    let slots: HashMap<_, _> = slots.iter().map(|slot| (slot.tenant.as_str(), slot)).collect();
    for (tenant, version) in &content.versions {
        if let Some(slot) = slots.get(tenant.as_str()) {
            slot.local.saw_version(*version);
        }
    }
    let slot_of = |key: &Key| slots.get(key.tenant.as_str());
    let (sessions, others): (Vec<_>, Vec<_>) = content
        .rows
        .into_iter()
        .partition(|(key, _)| Kind::named(&key.kind) == Some(Kind::Session));
    let mut taken = HashSet::new();
    for (key, row) in sessions {
        match slot_of(&key) {
            Some(slot) => {
                if slot.read(&key, &row, reading.keyring, &mut tally) {
                    taken.insert(key);
                }
            }
            None => tally.strange += 1,
        }
    }
    for (key, row) in others {
        let session = Key { kind: Kind::Session.name().to_owned(), ..key.clone() };
        match slot_of(&key) {
            Some(slot) => {
                let credentials = reading.credentials && taken.contains(&session);
                slot.read_beside(&key, &row, Reading { credentials, ..reading }, &mut tally);
            }
            None => tally.strange += 1,
        }
    }
    tally
}

impl Slot {
    /// An empty slot for a tenant.
    pub(super) fn new(tenant: TenantId, capacity: NonZeroUsize) -> Self {
        Self {
            tenant,
            local: Arc::new(Local::new(capacity)),
            sealed: SealedTable::new(capacity),
            found: Mutex::default(),
            is_used: AtomicBool::default(),
        }
    }

    /// Notes that the tenant begins to use it, with this limit of sessions. If it has used it before, its sessions are found again.
    pub(super) fn begin(&self, capacity: NonZeroUsize) {
        self.local.set_capacity(capacity);
        self.sealed.set_capacity(capacity);
        if self.is_used.swap(true, Ordering::Relaxed) {
            let is_kept = |agent: &AgentId| {
                self.local.get(*agent).is_some_and(|session| session.origin == Origin::SignedIn)
            };
            *self.found() = self.local.agents().into_iter().filter(is_kept).collect();
        }
    }

    /// Takes over a session, unless a newer one is known. Returns whether it did.
    fn read(&self, key: &Key, row: &[u8], keyring: Option<&Keyring>, tally: &mut Tally) -> bool {
        let record = StoredSession::parse(row).ok().zip(key.agent());
        let entry = match record.filter(|(record, agent)| record.agent() == Some(*agent)) {
            Some((record, agent)) => {
                tally.outdated += usize::from(!record.is_sealed_with(keyring));
                record.open_own(&self.tenant, keyring).map(|entry| (agent, entry))
            }
            None => Err(Unreadable::Malformed),
        };
        let (agent, entry) = match entry {
            Ok(entry) => entry,
            Err(Unreadable::Malformed | Unreadable::Ahead) => {
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
        match self.local.offer(agent, &entry) {
            Taken::Yes => {}
            Taken::Older | Taken::SignedOut => return false,
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

    /// Takes over a sealed value, unless a newer one is known, and seals it with the first key.
    fn read_beside(&self, key: &Key, row: &[u8], reading: Reading<'_>, tally: &mut Tally) {
        let sealed_kind = SealedKind::named(&key.kind).zip(key.agent());
        let Some(((sealed_kind, agent), mut value)) = sealed_kind.zip(SealedValue::parse(row))
        else {
            tally.malformed += 1;
            return;
        };
        if value.is_expired() || (sealed_kind == SealedKind::Credentials && !reading.credentials) {
            tally.ended += 1;
            return;
        }
        let renewal = reading.keyring.map_or(Renewal::Unreadable, |keyring| {
            sealed_kind.renewal(keyring, &self.tenant, agent, &value.sealed)
        });
        match renewal {
            Renewal::Current => {}
            Renewal::Anew(sealed) => {
                value.sealed = sealed.encode();
                tally.outdated += 1;
            }
            Renewal::Unreadable => {
                tally.sealed += 1;
                return;
            }
        }
        tally.surplus += usize::from(!self.sealed.take_in(sealed_kind, agent, value));
    }

    /// Takes the agents whose sessions were found since the last call.
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
            warn!(%file, rows = surplus, "the file of store.file has more sessions, or passwords, than limits.sessions allows; the rest is left out");
        }
        if malformed > 0 {
            warn!(%file, rows = malformed, "some rows of the file of store.file cannot be read and are left out");
        }
    }
}
