use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use super::{keys::KEYS_REMEDY, redis::RedisStore};
use crate::{
    config::{
        error::{Problem, quote},
        files,
        reader::Section,
    },
    keyring::EncryptionKey,
};

/// A file that keeps one process's sessions over a restart.
#[derive(Clone, Debug)]
pub struct FileStore {
    /// The file; its folder exists. `store.file`.
    pub path: PathBuf,
    /// The keys that sessions are encrypted with. The first one encrypts, all of them decrypt. If it
    /// is empty, sessions are stored in plain text. `store.encryption_key_files`.
    pub encryption_keys: Vec<EncryptionKey>,
    /// Whether the passwords that callers give are stored too; only if there are keys.
    /// `store.credentials`.
    pub credentials: bool,
}

/// The keys of `[store]` that only a Redis has.
const OF_REDIS: [&str; 10] = [
    "urls",
    "topology",
    "sentinel",
    "tls",
    "username",
    "password_file",
    "key_prefix",
    "lease",
    "when_away",
    "timeouts",
];

/// Checks the keys for a store in a file. The keys that both kinds of stores have are already read,
/// into `redis`.
pub(super) fn file(section: &Section<'_>, path: PathBuf, redis: &RedisStore) -> Option<FileStore> {
    for key in OF_REDIS.into_iter().filter(|key| section.has(key)) {
        section.contradiction(
            &[key],
            Problem::new(
                format!("{key} is for a Redis, but file is for one process without a Redis"),
                format!(
                    "give store.urls to share sessions with other replicas, or store.file to keep \
                     them over a restart, and no {key} with it"
                ),
            ),
        );
    }
    if redis.credentials && !section.has("encryption_key_files") {
        let problem = "would store passwords in plain text";
        section.contradiction(&["credentials"], Problem::new(problem, KEYS_REMEDY));
    }
    let path = section.read("file", |_| usable_file(path))?;
    if !section.has("encryption_key_files") {
        section.notes().warn(format!(
            "store.file without store.encryption_key_files: everybody who can read {} has the Guids \
             of all agents; give encryption_key_files",
            path.display()
        ));
    }
    let encryption_keys = redis.encryption_keys.clone();
    Some(FileStore { path, encryption_keys, credentials: redis.credentials })
}

/// Checks that the file can be read and written, or that its folder exists.
fn usable_file(path: PathBuf) -> Result<PathBuf, Problem> {
    let shown = quote(&path.to_string_lossy());
    let remedy = "give the path of a file in a folder that exists and that the bridge may write to";
    let wrong = |problem| Err(Problem::new(problem, remedy));
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => return wrong(format!("{shown} is not a file")),
        Ok(_) => {
            return match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(_) => Ok(path),
                Err(error) => {
                    let error = files::words(&error);
                    wrong(format!("{shown} cannot be read and written ({error})"))
                }
            };
        }
        Err(_) => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => wrong(format!("{shown} is in something that is not a folder")),
        Err(error) => {
            let error = files::words(&error);
            wrong(format!("the folder of {shown} cannot be used ({error})"))
        }
    }
}
