//! The content of the file: tables, read and written by the redb crate.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{
    ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};

use super::{
    place::{self, Identity},
    volume::Volume,
};
use crate::{keyring::Keyring, session::SealedKind};

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    /// `None` while it is being closed.
    redb: Option<redb::Database>,
    identity: Identity,
}

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: String,
    pub(super) kind: String,
    pub(super) agent: u32,
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Session,
    Sealed(SealedKind),
}

/// The content of a file when it was opened.
#[derive(Default)]
pub(super) struct Content {
    /// Whether something has been written to it before.
    pub(super) is_written: bool,
    pub(super) rows: Vec<(Key, Vec<u8>)>,
    /// The highest version of each tenant.
    pub(super) versions: Vec<(String, u64)>,
    /// `None`: parts may be encrypted with different keys, or it is not known.
    pub(super) seal: Option<Seal>,
}

/// The one key with which everything was encrypted that was ever written to the file. So its free
/// pages contain nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal(String);

/// Changes that are written in one transaction.
#[derive(Default)]
pub(super) struct Changes {
    /// `None`: the row is removed.
    pub(super) rows: Vec<(Key, Option<Vec<u8>>)>,
    pub(super) versions: Vec<(String, u64)>,
}

/// Whether rows that are not in the changes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Stays,
    Goes,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// Another process has it open.
    #[error("another process has it open")]
    Taken,
    /// The system does not let it be opened, read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its content is broken.
    #[error("{0}")]
    Broken(String),
}

type Row<'a> = (&'a str, &'a str, u32);

const ROWS: TableDefinition<'_, Row<'_>, &[u8]> = TableDefinition::new("rows");
const VERSIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("versions");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// Written with the first rows of a file, and never changed: redb leaves replaced data in free
/// pages of the file until it needs the room.
const SEALS: TableDefinition<'_, &str, &str> = TableDefinition::new("seals");
/// In `SEALS`: the id of the key that seals rows, or [`NO_KEY`].
const SEAL: &str = "key";
const NO_KEY: &str = "none";
/// In `ABOUT`: the format of the rows.
const FORMAT: &str = "format";
const FORMAT_OWN: u64 = 1;

/// The kind of row for sessions.
const SESSION: &str = "session";

/// The size of redb's cache in bytes. Small, since everything is in memory after the start.
const CACHE: usize = 1024 * 1024;
/// The smallest length in bytes at which a file is compacted.
const COMPACT_FROM: u64 = 4 * 1024 * 1024;
/// A file is compacted if it uses less than this fraction of its bytes (a quarter).
const COMPACT_BELOW: u64 = 4;

impl Database {
    /// Opens or creates a file, and reads its content.
    pub(super) fn open(volume: &Volume) -> Result<(Self, Content), DatabaseError> {
        guarded(|| {
            let file = place::open(volume.path())?;
            let (identity, is_new) = (place::identity(&file)?, file.metadata()?.len() == 0);
            let mut builder = redb::Builder::new();
            builder.set_cache_size(CACHE);
            let mut redb = volume.open(&builder, file).map_err(failed)?;
            if !is_new {
                // Without this, redb checks only what it reads, and some of it much later.
                redb.check_integrity().map_err(failed)?;
            }
            // Another process may have replaced the file before this process locked it.
            if !place::is_still(volume.path(), identity) {
                return Err(DatabaseError::Taken);
            }
            let content = read(&redb)?;
            Ok((Self { redb: Some(redb), identity }, content))
        })
    }

    /// Whether the path still leads to this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        place::is_still(path, self.identity)
    }

    /// Writes changes. Returns when they are on the disk.
    pub(super) fn write(&self, changes: &Changes, rest: Rest) -> Result<(), DatabaseError> {
        self.commit(changes, rest, |_| Ok(()))
    }

    /// Writes the first rows of a new file, encrypted with this key.
    pub(super) fn begin(&self, changes: &Changes, seal: &Seal) -> Result<(), DatabaseError> {
        self.commit(changes, Rest::Goes, |transaction| {
            let mut seals = transaction.open_table(SEALS).map_err(failed)?;
            seals.insert(SEAL, seal.0.as_str()).map_err(failed)?;
            Ok(())
        })
    }

    /// Writes everything with another key than before. Also notes that the free pages of the file
    /// still contain data under the old key.
    pub(super) fn seal_anew(&self, changes: &Changes) -> Result<(), DatabaseError> {
        self.commit(changes, Rest::Goes, |transaction| {
            transaction.delete_table(SEALS).map_err(failed)?;
            Ok(())
        })
    }

    fn commit(
        &self,
        changes: &Changes,
        rest: Rest,
        also: impl FnOnce(&redb::WriteTransaction) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        guarded(|| {
            let transaction = self.redb()?.begin_write().map_err(failed)?;
            if rest == Rest::Goes {
                transaction.delete_table(ROWS).map_err(failed)?;
                transaction.delete_table(VERSIONS).map_err(failed)?;
            }
            {
                let mut rows = transaction.open_table(ROWS).map_err(failed)?;
                for (Key { tenant, kind, agent }, row) in &changes.rows {
                    let key = (tenant.as_str(), kind.as_str(), *agent);
                    match row {
                        Some(row) => drop(rows.insert(key, row.as_slice()).map_err(failed)?),
                        None => drop(rows.remove(key).map_err(failed)?),
                    }
                }
                let mut versions = transaction.open_table(VERSIONS).map_err(failed)?;
                for (tenant, version) in &changes.versions {
                    versions.insert(tenant.as_str(), version).map_err(failed)?;
                }
                let mut about = transaction.open_table(ABOUT).map_err(failed)?;
                if about.get(FORMAT).map_err(failed)?.is_none() {
                    about.insert(FORMAT, FORMAT_OWN).map_err(failed)?;
                }
            }
            also(&transaction)?;
            transaction.commit().map_err(failed)
        })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> Result<u64, DatabaseError> {
        guarded(|| {
            let reading = self.redb()?.begin_read().map_err(failed)?;
            reading.open_table(ROWS).map_err(failed)?.len().map_err(failed)
        })
    }

    /// Compacts a file that is mostly empty.
    pub(super) fn compact(&mut self, path: &Path) -> Result<(), DatabaseError> {
        let length = std::fs::metadata(path)?.len();
        if length < COMPACT_FROM {
            return Ok(());
        }
        guarded(|| {
            let redb = self.redb.as_mut().ok_or_else(closed)?;
            let transaction = redb.begin_write().map_err(failed)?;
            let stats = transaction.stats().map_err(failed)?;
            let used = stats.stored_bytes() + stats.metadata_bytes();
            transaction.abort().map_err(failed)?;
            if used.saturating_mul(COMPACT_BELOW) < length {
                redb.compact().map_err(failed)?;
            }
            Ok(())
        })
    }

    fn redb(&self) -> Result<&redb::Database, DatabaseError> {
        self.redb.as_ref().ok_or_else(closed)
    }
}

impl Seal {
    /// The seal of what is written with these keys; `None`: without encryption.
    pub(super) fn of(keyring: Option<&Keyring>) -> Self {
        Self(keyring.and_then(Keyring::first_id).unwrap_or_else(|| NO_KEY.to_owned()))
    }
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Session => SESSION,
            Self::Sealed(sealed_kind) => sealed_kind.name(),
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        if name == SESSION {
            Some(Self::Session)
        } else {
            SealedKind::named(name).map(Self::Sealed)
        }
    }
}

impl Drop for Database {
    /// redb writes when it closes a file, and may panic if the file is broken.
    fn drop(&mut self) {
        let redb = self.redb.take();
        let _broken = guarded(|| {
            drop(redb);
            Ok(())
        });
    }
}

fn closed() -> DatabaseError {
    DatabaseError::Io(io::Error::other("it is closed"))
}

fn read(redb: &redb::Database) -> Result<Content, DatabaseError> {
    let reading = redb.begin_read().map_err(failed)?;
    let about = match reading.open_table(ABOUT) {
        Ok(about) => about,
        // Nothing has been written yet, or another program has written the file.
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let mut tables = reading.list_tables().map_err(failed)?;
            return match tables.next() {
                None => Ok(Content::default()),
                Some(_) => Err(DatabaseError::Broken("another program has made it".to_owned())),
            };
        }
        Err(error) => return Err(failed(error)),
    };
    let format = about.get(FORMAT).map_err(failed)?.map(|format| format.value());
    if format != Some(FORMAT_OWN) {
        let problem = "a newer version of this program has written it".to_owned();
        return Err(DatabaseError::Broken(problem));
    }
    let mut content = Content { is_written: true, ..Content::default() };
    for entry in reading.open_table(ROWS).map_err(failed)?.iter().map_err(failed)? {
        let (key, row) = entry.map_err(failed)?;
        let (tenant, kind, agent) = key.value();
        let key = Key { tenant: tenant.to_owned(), kind: kind.to_owned(), agent };
        content.rows.push((key, row.value().to_owned()));
    }
    for entry in reading.open_table(VERSIONS).map_err(failed)?.iter().map_err(failed)? {
        let (tenant, version) = entry.map_err(failed)?;
        content.versions.push((tenant.value().to_owned(), version.value()));
    }
    content.seal = match reading.open_table(SEALS) {
        Ok(seals) => seals.get(SEAL).map_err(failed)?.map(|seal| Seal(seal.value().to_owned())),
        // An earlier version of the bridge has made the file.
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(content)
}

/// Catches panics: redb panics on some broken files.
fn guarded<T>(work: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(DatabaseError::Broken("its content contradicts itself".to_owned())))
}

fn failed(error: impl Into<redb::Error>) -> DatabaseError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};

    match error.into() {
        redb::Error::DatabaseAlreadyOpen => DatabaseError::Taken,
        redb::Error::Io(error) => match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => DatabaseError::Broken(error.to_string()),
            _ => DatabaseError::Io(error),
        },
        redb::Error::PreviousIo => DatabaseError::Io(io::Error::other("it failed before")),
        other => DatabaseError::Broken(other.to_string()),
    }
}
