//! Where the file is, and how redb gets at its bytes.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::place;

/// How redb opens a file.
type Opener =
    dyn Fn(&redb::Builder, File) -> Result<redb::Database, redb::DatabaseError> + Send + Sync;

/// How the disk is told which files are in a folder.
type FolderSync = fn(&Path) -> io::Result<()>;

/// The place of the file. A test opens files on a disk that does not answer, or is full.
#[derive(Clone)]
pub(super) struct Volume {
    path: PathBuf,
    opener: Arc<Opener>,
    folder_sync: FolderSync,
}

impl Volume {
    /// A file as the system has it.
    pub(super) fn at(path: PathBuf) -> Self {
        Self::opened_by(path, redb::Builder::create_file)
    }

    /// A file whose bytes redb reads and writes as `opener` lets it.
    pub(super) fn opened_by(
        path: PathBuf,
        opener: impl Fn(&redb::Builder, File) -> Result<redb::Database, redb::DatabaseError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { path, opener: Arc::new(opener), folder_sync: place::sync_folder }
    }

    /// Another file on the same disk.
    pub(super) fn with(&self, path: PathBuf) -> Self {
        Self { path, ..self.clone() }
    }

    /// Returns once the disk knows which files are in the folder.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        (self.folder_sync)(folder)
    }

    /// The same place, in a folder that is synced in this way.
    #[cfg(test)]
    pub(super) fn synced_by(self, folder_sync: FolderSync) -> Self {
        Self { folder_sync, ..self }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(
        &self,
        builder: &redb::Builder,
        file: File,
    ) -> Result<redb::Database, redb::DatabaseError> {
        (self.opener)(builder, file)
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Volume").field(&self.path).finish()
    }
}
