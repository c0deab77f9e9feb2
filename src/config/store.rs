//! `[store]`.

mod file;
mod keys;
mod redis;

use std::fmt;

pub use self::{
    file::FileStore,
    redis::{Redis, RedisNode, RedisStore, RedisTimeouts, RedisTls, Sentinel, Topology, WhenAway},
};
use self::{file::file, keys::KEYS_REMEDY, redis::redis};
use super::reader::Section;

/// The largest file with a password or a key, in bytes.
const SECRET_MAX: u64 = 4096;

/// Where sessions outlive the process.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file, for one process alone.
    File(FileStore),
    /// In a Redis, which replicas share.
    Redis(Box<RedisStore>),
}

pub(super) fn store(root: &Section<'_>) -> Option<Store> {
    let section = root.section("store");
    // The keys of both kinds are read in any case; otherwise those of the other kind would be reported
    // as unknown.
    let path = section.unwatched_path("file");
    let redis = redis(&section);
    let file = path.and_then(|path| file(&section, path, &redis));
    if !root.has("store") {
        return None;
    }
    if section.has("file") {
        return file.map(Store::File);
    }
    if !section.has("urls") {
        let remedy = "give urls, for replicas that share sessions through a Redis, or file, for one \
                      process that keeps them over a restart";
        section.missing("urls", remedy);
    }
    section.missing("encryption_key_files", KEYS_REMEDY);
    Some(Store::Redis(Box::new(redis)))
}

impl Store {
    /// The word for where it is: `file` or `redis`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }

    /// The file store; `None` if the store is a Redis.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(file) => Some(file),
            Self::Redis(_) => None,
        }
    }

    /// The Redis store; `None` if the store is a file.
    pub fn redis(&self) -> Option<&RedisStore> {
        match self {
            Self::File(_) => None,
            Self::Redis(redis) => Some(redis),
        }
    }

    /// The PEM text of the CA certificates that the store's server is checked with, if the
    /// configuration names them.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        match self {
            Self::File(_) => None,
            Self::Redis(store) => store.redis.tls.as_ref()?.ca_pem.as_deref(),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "sessions are kept in {}", file.path.display()),
            Self::Redis(_) => f.write_str("sessions are shared through a Redis"),
        }
    }
}
