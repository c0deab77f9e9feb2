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

/// The longest file with a password or a key, in bytes.
const SECRET_MAX: u64 = 4096;

/// Where sessions outlive the process.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file of this process's own.
    File(FileStore),
    /// Where replicas share them.
    Redis(Box<RedisStore>),
}

pub(super) fn store(root: &Section<'_>) -> Option<Store> {
    let section = root.section("store");
    // Every key is asked for, or those of the other kind would not be known.
    let path = section.path("file");
    let redis = redis(&section);
    let file = path.and_then(|path| file(&section, path, &redis));
    if !root.has("store") {
        return None;
    }
    if section.has("file") {
        return file.map(Store::File);
    }
    if !section.has("urls") {
        let remedy = "give urls, where replicas share sessions through a Redis, or file, where one \
                      process keeps them over a restart";
        section.missing("urls", remedy);
    }
    section.missing("encryption_key_files", KEYS_REMEDY);
    Some(Store::Redis(Box::new(redis)))
}

impl Store {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(file) => Some(file),
            Self::Redis(_) => None,
        }
    }

    /// Where replicas share sessions, if they do.
    pub fn redis(&self) -> Option<&RedisStore> {
        match self {
            Self::File(_) => None,
            Self::Redis(redis) => Some(redis),
        }
    }

    /// The certificates that it is trusted by, if the configuration names them.
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
