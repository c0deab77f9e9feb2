//! Where the file is, and how redb gets at its bytes.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How redb opens a file.
type Opener =
    dyn Fn(&redb::Builder, File) -> Result<redb::Database, redb::DatabaseError> + Send + Sync;

/// The place of the file. A test opens files on a disk that does not answer.
#[derive(Clone)]
pub(super) struct Volume {
    path: PathBuf,
    opener: Arc<Opener>,
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
        Self { path, opener: Arc::new(opener) }
    }

    /// Another file on the same disk.
    pub(super) fn with(&self, path: PathBuf) -> Self {
        Self { path, opener: self.opener.clone() }
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
