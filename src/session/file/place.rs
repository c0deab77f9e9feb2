//! The file in its folder: its permissions, its identity, how it is replaced and set aside.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

/// How many files that were set aside are kept. Older ones are removed, so that a disk that breaks
/// every file is not filled by them.
const ASIDE_MAX: usize = 5;

/// Identifies the file that a path led to when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(#[cfg(unix)] (u64, u64));

/// Opens the file, or creates an empty one. Only this user may read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, MODE);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is no file"));
    }
    #[cfg(unix)]
    tighten(path, &file)?;
    Ok(file)
}

#[cfg(unix)]
const MODE: u32 = 0o600;

/// Takes away other users' rights. A volume that Kubernetes mounts for a group gives a file more
/// rights than it was created with.
#[cfg(unix)]
fn tighten(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & !MODE == 0 {
        return Ok(());
    }
    let file_shown = path.display();
    match file.set_permissions(fs::Permissions::from_mode(MODE)) {
        Ok(()) => {
            info!(file = %file_shown, "others could open the file of store.file (mode {mode:o}); from now on only this user can");
        }
        Err(error) => {
            warn!(file = %file_shown, %error, "others can open the file of store.file (mode {mode:o}): make it this user's own, with mode 600");
        }
    }
    Ok(())
}

/// The identity of this file.
pub(super) fn identity(file: &File) -> io::Result<Identity> {
    file.metadata().map(|metadata| identity_of(&metadata))
}

/// Whether the path still leads to that file: it may have been removed or replaced.
pub(super) fn is_still(path: &Path, identity: Identity) -> bool {
    fs::metadata(path).is_ok_and(|metadata| identity_of(&metadata) == identity)
}

#[cfg(unix)]
fn identity_of(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    Identity((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity_of(_: &fs::Metadata) -> Identity {
    Identity()
}

/// The path of a new file that will replace this one. If the path is a link, it is beside the file
/// that the link leads to.
pub(super) fn successor(path: &Path) -> io::Result<PathBuf> {
    let mut name = fs::canonicalize(path)?.into_os_string();
    name.push(".new");
    Ok(PathBuf::from(name))
}

/// Removes a new file that a process has left unfinished.
pub(super) fn remove_successor(path: &Path) -> io::Result<()> {
    match fs::remove_file(successor(path)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames the new file over the old one. Returns the folder, which has to be synced then.
pub(super) fn succeed(path: &Path) -> io::Result<PathBuf> {
    let own = fs::canonicalize(path)?;
    fs::rename(successor(path)?, &own)?;
    Ok(own.parent().unwrap_or(&own).to_owned())
}

/// Syncs the entries of the folder to the disk.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Not possible on this system: folders cannot be opened as files.
#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Renames a broken file, and returns its new path.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let named = |more: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{ASIDE}{seconds}{more}"));
        PathBuf::from(name)
    };
    let mut aside = named(String::new());
    let mut count = 1;
    while aside.try_exists()? {
        aside = named(format!("-{count}"));
        count += 1;
    }
    fs::rename(path, &aside)?;
    remove_oldest(path);
    Ok(aside)
}

const ASIDE: &str = ".broken-";

/// Removes all files that were set aside except the newest [`ASIDE_MAX`].
fn remove_oldest(path: &Path) {
    let mut found = files_aside(path).unwrap_or_default();
    found.sort();
    let more = found.len().saturating_sub(ASIDE_MAX);
    for (_, old) in found.into_iter().take(more) {
        if let Err(error) = fs::remove_file(&old) {
            warn!(file = %old.display(), %error, "an old broken file of store.file cannot be removed");
        }
    }
}

/// The files that were set aside, with the time of their last change.
fn files_aside(path: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ASIDE;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&name) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_broken_files_the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions");
        let mut last = PathBuf::new();
        for turn in 0..3 * ASIDE_MAX {
            fs::write(&path, turn.to_string()).unwrap();
            last = set_aside(&path).unwrap();
        }
        let left = files_aside(&path).unwrap();
        assert_eq!(left.len(), ASIDE_MAX);
        assert!(left.iter().any(|(_, path)| *path == last), "{left:?}");
        assert!(!path.exists());
    }
}
