//! The path of the file, and the access of redb to its bytes.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::{StorageBackend, backends::FileBackend};

use super::place;

/// Through this, redb reads and writes the bytes of a file.
type Backend = Box<dyn StorageBackend>;
type Opener = dyn Fn(File) -> Result<Backend, redb::DatabaseError> + Send + Sync;

/// Syncs the entries of a folder to the disk.
type FolderSync = fn(&Path) -> io::Result<()>;

/// The path of the file, and how it is opened. Tests replace the opener by a disk that does not
/// answer, or is full.
#[derive(Clone)]
pub(super) struct Volume {
    path: PathBuf,
    opener: Arc<Opener>,
    folder_sync: FolderSync,
    /// How many reads and writes the disk has answered.
    answers: Arc<AtomicU64>,
}

/// A file whose answers are counted.
#[derive(Debug)]
struct Counted {
    backend: Backend,
    answers: Arc<AtomicU64>,
}

impl Volume {
    /// A file on a real disk.
    pub(super) fn at(path: PathBuf) -> Self {
        Self::opened_by(path, |file| Ok(Box::new(FileBackend::new(file)?)))
    }

    /// A file whose bytes redb reads and writes through what `opener` returns.
    pub(super) fn opened_by(
        path: PathBuf,
        opener: impl Fn(File) -> Result<Backend, redb::DatabaseError> + Send + Sync + 'static,
    ) -> Self {
        let (opener, answers) = (Arc::new(opener), Arc::default());
        Self { path, opener, folder_sync: place::sync_folder, answers }
    }

    /// Another file on the same disk.
    pub(super) fn with(&self, path: PathBuf) -> Self {
        Self { path, ..self.clone() }
    }

    /// Syncs the entries of the folder to the disk.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        (self.folder_sync)(folder)
    }

    /// The same file, in a folder that is synced by this function.
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
        let (backend, answers) = ((self.opener)(file)?, self.answers.clone());
        builder.create_with_backend(Counted { backend, answers })
    }

    /// How many reads and writes the disk has answered so far, for all files of this volume. While
    /// the number grows, the disk has not stopped.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Counted {
    fn count<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.count(self.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.count(self.backend.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count(self.backend.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.count(self.backend.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count(self.backend.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.count(self.backend.close())
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Volume").field(&self.path).finish()
    }
}
