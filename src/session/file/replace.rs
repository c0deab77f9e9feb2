//! Puts a new file in the place of one that is of no use, or of no use any more.

use std::io;

use tracing::warn;

use super::{
    database::{Changes, Content, Database, DatabaseError, Seal},
    place,
    volume::Volume,
};

/// Opens the file; one that is of no use is set aside for a new one.
pub(super) fn open_or_set_aside(volume: &Volume) -> Result<(Database, Content), DatabaseError> {
    match Database::open(volume) {
        Err(DatabaseError::Broken(problem)) => {
            Ok((begin_anew(volume, &problem)?, Content::default()))
        }
        opened => opened,
    }
}

/// Sets the file aside for a new one.
pub(super) fn begin_anew(volume: &Volume, problem: &str) -> Result<Database, DatabaseError> {
    let path = volume.path();
    let aside = place::set_aside(path).map_err(|error| {
        DatabaseError::Broken(format!("{problem}, and it cannot be set aside: {error}"))
    })?;
    let (file, aside) = (path.display(), aside.display());
    warn!(%file, %aside, problem, "the file of store.file was set aside for a new one, in which goes on what is known");
    Database::open(volume).map(|(database, _)| database)
}

/// A new file with this and nothing else, in the place of the open one.
///
/// redb leaves what it has replaced in the file until it needs the room. What was not encrypted, or
/// was under another key, must not stay there.
pub(super) fn replaced(
    volume: &Volume,
    old: Database,
    everything: &Changes,
    seal: &Seal,
) -> Result<Database, DatabaseError> {
    match succeeded(volume, everything, seal) {
        Ok(new) => {
            // Locked until now, so that no other process took it meanwhile.
            drop(old);
            Ok(new)
        }
        Err(DatabaseError::Io(error)) if is_denied(&error) => {
            warn!(file = %volume.path().display(), %error, "the file of store.file cannot be replaced by a new one in its folder; it is changed where it is, and parts of what was in it may stay in it until a start can replace it; let the bridge write to that folder");
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
        // Half a file takes room that a full disk does not have.
        warn!(file = %path.display(), %error, "a new file for store.file could not be made, and what there is of it (its name ends in .new) cannot be removed");
    }
    made
}

/// Once the new file has the name of the old one there is no way back: the old one is then out of
/// reach, and what would be written to it would be lost.
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
        warn!(file = %path.display(), %error, "the folder of store.file cannot be opened and written through to the disk: should the machine lose its power soon, the file may be the one that was replaced just now");
    }
    Ok(new)
}

/// Whether the folder, or what the file is on, lets no file take the place of another one.
fn is_denied(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};

    [CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy].contains(&error.kind())
}
