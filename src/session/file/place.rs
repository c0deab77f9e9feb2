//! The file in its folder: readable by nobody else, and out of the way when it is broken.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

/// Files that were set aside and are kept; older ones go, or a disk that breaks every file would be
/// filled by them.
const ASIDE_MAX: usize = 5;

/// Which file a name stood for when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(#[cfg(unix)] (u64, u64));

/// Opens the file, or makes an empty one, that only this user can read.
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

/// A volume that Kubernetes mounts for a group comes with more rights than it was left with.
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

/// Which file this is.
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

/// The name of a file that is being made to take the place of this one. Where the path is a link, it
/// is beside the file that the link leads to.
pub(super) fn successor(path: &Path) -> io::Result<PathBuf> {
    let mut name = fs::canonicalize(path)?.into_os_string();
    name.push(".new");
    Ok(PathBuf::from(name))
}

/// Removes what a process has left that ended while it made one.
pub(super) fn remove_successor(path: &Path) -> io::Result<()> {
    match fs::remove_file(successor(path)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Has the successor take the place of the file; gives the folder, which the disk has to hear of.
pub(super) fn succeed(path: &Path) -> io::Result<PathBuf> {
    let own = fs::canonicalize(path)?;
    fs::rename(successor(path)?, &own)?;
    Ok(own.parent().unwrap_or(&own).to_owned())
}

/// Returns once the disk knows which files are in the folder.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A folder is no file here that could be opened.
#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Renames a file that is of no use; gives its new name.
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

/// Removes all but the newest of the files that were set aside.
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

/// Those that were set aside, with the time of their last change.
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
