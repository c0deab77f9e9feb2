//! What became of changes with ids, for all replicas, in Redis.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::digest;
use futures_util::future::BoxFuture;

use super::{
    redis::{Keys, Link, LinkError, Place, Repeat, Script},
    seals::Seals,
};
use crate::{
    hex::hex,
    id::AgentId,
    keyring::Purpose,
    session::{ChangeRecords, Doubt, KnownRecord, RECORD_MAX, StoreError},
    time::millis,
};

/// The records of a tenant's changes, each sealed for its name, under a key with a time to live.
#[derive(Debug)]
pub(super) struct RedisChangeRecords {
    link: Link,
    keys: Keys,
    seals: Seals,
}

/// Stores a record, unless there is another one than that with the SHA-1 in ARGV[3]. One that is longer than
/// any that a replica writes is no record.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local known = take('GET', KEYS[1])
if known and #known <= tonumber(ARGV[4]) and redis.sha1hex(known) ~= ARGV[3] then return known end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
",
    )
});

/// Removes the record with the SHA-1 in ARGV[1].
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local known = take('GET', KEYS[1])
if known and redis.sha1hex(known) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
",
    )
});

impl RedisChangeRecords {
    pub(super) fn new(link: Link, keys: Keys, seals: Seals) -> Self {
        Self { link, keys, seals }
    }

    fn key(&self, name: &str) -> String {
        self.keys.of("change", name)
    }

    /// `None` for what no replica has written, which is counted.
    fn open(&self, name: &str, stored: Vec<u8>) -> Option<KnownRecord> {
        let plain = self.seals.open(Purpose::Change, name, &stored);
        if plain.is_none() {
            self.seals.doubt(Doubt::Change);
        }
        plain.map(|plain| KnownRecord { plain, stored, is_left: false })
    }

    async fn offer(
        &self,
        name: &str,
        sealed: &[u8],
        instead_of: &[u8],
        time: Duration,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let call = BEGIN.on(self.key(name)).arg(sealed).arg(millis(time).max(1));
        let call = call.arg(sha1(instead_of)).arg(RECORD_MAX);
        let known: Option<Vec<u8>> = self.link.script(&call, Repeat::Once).await?;
        // The link may have repeated the script after its first answer was lost.
        Ok(known.filter(|known| known != sealed))
    }
}

/// Redis has no other digest. Security does not depend on it.
fn sha1(stored: &[u8]) -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, stored).as_ref())
}

impl ChangeRecords for RedisChangeRecords {
    fn stored_form(&self, name: &str, record: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |_| StoreError::Unavailable("a record cannot be sealed".into());
        self.seals.seal(Purpose::Change, name, record).map_err(failed)
    }

    fn begin<'a>(
        &'a self,
        (_agent, name): (AgentId, &'a str),
        sealed: &'a [u8],
        instead_of: &'a [u8],
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>> {
        Box::pin(async move {
            let Some(stored) = self.offer(name, sealed, instead_of, time).await? else {
                return Ok(None);
            };
            if let Some(known) = self.open(name, stored.clone()) {
                return Ok(Some(known));
            }
            // Whoever else begins with the same id at this moment goes first.
            let other = self.offer(name, sealed, &stored, time).await?;
            Ok(other.and_then(|stored| self.open(name, stored)))
        })
    }

    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>> {
        Box::pin(async move {
            let found = self.link.read(&[self.key(name)], Place::Whole, RECORD_MAX).await?;
            let stored = found.into_iter().next().flatten();
            let stored = stored.filter(|stored| stored.len() <= RECORD_MAX);
            Ok(stored.and_then(|stored| self.open(name, stored)))
        })
    }

    fn remove<'a>(
        &'a self,
        _agent: AgentId,
        name: &'a str,
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let call = REMOVE.on(self.key(name)).arg(sha1(sealed));
            Ok(self.link.script::<u64>(&call, Repeat::Once).await.map(drop)?)
        })
    }
}
