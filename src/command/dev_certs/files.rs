use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::path;

/// A file to write.
pub(super) struct DevFile {
    pub(super) name: &'static str,
    /// What it is, for people.
    pub(super) about: String,
    content: String,
    mode: u32,
}

/// Why the files are not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    #[error("{folder} has {} already; give another folder, or --force to replace all", names.join(", "))]
    Exist { folder: String, names: Vec<&'static str> },
    #[error("{path} cannot be written: {error}; give a folder that you may write to")]
    Failed { path: String, error: io::Error },
}

impl DevFile {
    /// A file that everybody may read.
    pub(super) fn public(name: &'static str, content: String, about: impl Into<String>) -> Self {
        Self { name, about: about.into(), content, mode: 0o644 }
    }

    /// A file that only its owner may read.
    pub(super) fn secret(name: &'static str, content: String, about: impl Into<String>) -> Self {
        Self { mode: 0o600, ..Self::public(name, content, about) }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        // Never writes into what is there: it may be readable for others, or a link to another place.
        let mut file = File::options().write(true).create_new(true).mode(self.mode).open(path)?;
        file.write_all(self.content.as_bytes())
    }
}

/// Writes the files into the folder. Unless by `force`, none is written if one of them is there already.
pub(super) fn write(folder: &Path, files: &[DevFile], force: bool) -> Result<(), Unwritten> {
    let is_there = |file: &&DevFile| fs::symlink_metadata(folder.join(file.name)).is_ok();
    let present = files.iter().filter(is_there).map(|file| file.name);
    let names: Vec<_> = present.filter(|_| !force).collect();
    if !names.is_empty() {
        return Err(Unwritten::Exist { folder: folder.display().to_string(), names });
    }
    fs::create_dir_all(folder)
        .map_err(|error| Unwritten::Failed { path: folder.display().to_string(), error })?;
    for file in files {
        let place = folder.join(file.name);
        let removed = if force { removed(&place) } else { Ok(()) };
        removed
            .and_then(|()| file.write(&place))
            .map_err(|error| Unwritten::Failed { path: path(folder, file.name), error })?;
    }
    Ok(())
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
