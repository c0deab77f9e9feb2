//! Replaces a file by a new one: a broken file is set aside, an outdated one is replaced.

use std::io;

use tracing::warn;

use super::{
    database::{Changes, Content, Database, DatabaseError, Seal},
    place,
    volume::Volume,
};

/// Opens the file. If it is broken, sets it aside and creates a new one.
pub(super) fn open_or_set_aside(volume: &Volume) -> Result<(Database, Content), DatabaseError> {
    match Database::open(volume) {
        Err(DatabaseError::Broken(problem)) => {
            Ok((begin_anew(volume, &problem)?, Content::default()))
        }
        opened => opened,
    }
}

/// Sets the file aside and creates a new one.
pub(super) fn begin_anew(volume: &Volume, problem: &str) -> Result<Database, DatabaseError> {
    let path = volume.path();
    let aside = place::set_aside(path).map_err(|error| {
        DatabaseError::Broken(format!("{problem}, and it cannot be set aside: {error}"))
    })?;
    let (file, aside) = (path.display(), aside.display());
    warn!(%file, %aside, problem, "the file of store.file was set aside, and a new one is made with what the bridge knows");
    Database::open(volume).map(|(database, _)| database)
}

/// Replaces the open file by a new one that has only these rows.
///
/// redb leaves replaced data in free pages until it needs the room. Data that was not encrypted, or
/// was encrypted with another key, must not stay there.
pub(super) fn replaced(
    volume: &Volume,
    old: Database,
    everything: &Changes,
    seal: &Seal,
) -> Result<Database, DatabaseError> {
    match succeeded(volume, everything, seal) {
        Ok(new) => {
            // The old file stays locked until here, so that no other process takes the path
            // meanwhile.
            drop(old);
            Ok(new)
        }
        Err(DatabaseError::Io(error)) if is_denied(&error) => {
            warn!(file = %volume.path().display(), %error, "the file of store.file cannot be replaced by a new one in its folder; it is changed where it is, and parts of its old content may stay in it until a start can replace it; let the bridge write to that folder");
            old.seal_anew(everything)?;
            Ok(old)
        }
        Err(error) => Err(error),
    }
}

fn succeeded(
    volume: &Volume,
    everything: &Changes,
    seal: &Seal,
) -> Result<Database, DatabaseError> {
    let path = volume.path();
    place::remove_successor(path)?;
    let made = successor(volume, everything, seal);
    if made.is_err()
        && let Err(error) = place::remove_successor(path)
    {
        // An unfinished file takes room that a full disk does not have.
        warn!(file = %path.display(), %error, "a new file for store.file could not be made, and its unfinished part (its name ends in .new) cannot be removed");
    }
    made
}

/// Makes the new file and renames it over the old one. After the rename, an error must not lead
/// back to the old file: it is out of reach, and what is written to it would be lost.
fn successor(
    volume: &Volume,
    everything: &Changes,
    seal: &Seal,
) -> Result<Database, DatabaseError> {
    let path = volume.path();
    let (new, _) = Database::open(&volume.with(place::successor(path)?))?;
    new.begin(everything, seal)?;
    let folder = place::succeed(path)?;
    if let Err(error) = volume.sync_folder(&folder) {
        warn!(file = %path.display(), %error, "the folder of store.file cannot be synced to the disk; if the machine loses its power soon, the old file may be there instead of the new one");
    }
    Ok(new)
}

/// Whether the folder or the file system does not allow a file to replace another one.
fn is_denied(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};

    [CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy].contains(&error.kind())
}
