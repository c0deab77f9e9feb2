//! The one script that changes a shared session.

use std::time::Duration;

use tokio::time::Instant;

use super::{ATTEMPTS_MAX, Inner};
use crate::{
    cluster::redis::{LinkError, Repeat, Script},
    id::AgentId,
    session::{Entry, Origin, RECORD_MAX, StoredSession},
    time::millis,
};

/// Writes a record if the version of the stored one is within the limits, and publishes it to all
/// replicas. If nothing is stored, or only the record ARGV[9], which this replica does not believe, or one that is too
/// long, its version counts as 0. Also
/// updates the set of agents whose sessions a replica has to keep, and deletes the shared credentials when a
/// session ends. Writing the same record again is a success: the answer to the first write was lost.
const WRITE: &str = "
local stored = take('HGET', KEYS[1], 'record') or ''
if #stored > tonumber(ARGV[10]) then stored = '' end
if stored == ARGV[1] then return {1, '', aside} end
local version = 0
if stored ~= ARGV[9] then
  version = tonumber(string.match(stored, '^{\"agent\":%d+,\"version\":(%d+)') or '0')
end
if version < tonumber(ARGV[2]) or version > tonumber(ARGV[3]) then return {0, stored, aside} end
redis.call('HSET', KEYS[1], 'record', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[1])
take(ARGV[6], KEYS[2], ARGV[7])
if ARGV[8] == 'end' then redis.call('DEL', KEYS[3]) end
return {1, '', aside}
";

/// Which stored version a change may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Any version below this one, or none.
    Below(u64),
    /// This version, an older one, or none: what is known here is not written to Redis yet, or
    /// Redis has lost it.
    UpTo(u64),
    /// This version only.
    Exactly(u64),
}

/// The result of writing a change.
#[derive(Debug)]
pub(super) enum Written {
    Done,
    /// The stored version must not be replaced. Has what is stored, if it can be read.
    Overtaken(Option<Entry>),
}

/// The time to live of a session that does not expire. If it ends, a replica that knows the session writes it
/// again when it next compares.
const SAFETY_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long the end of a session stays stored. Within this time, a replica that missed the end
/// cannot bring the session back.
const END_TTL: Duration = Duration::from_secs(60 * 60);

pub(super) fn script() -> Script {
    Script::new(WRITE)
}

impl Inner {
    /// Writes `entry` to Redis, if what is stored there may be replaced.
    pub(super) async fn write(
        &self,
        agent: AgentId,
        entry: &Entry,
        stored: Stored,
    ) -> Result<Written, LinkError> {
        let record =
            StoredSession::of(self.seals.tenant(), agent, entry, Some(self.seals.keyring()))
                .map_err(|error| LinkError::Unsent(error.to_string()))?;
        let (min, max) = match stored {
            Stored::Below(version) => (0, version.saturating_sub(1)),
            Stored::UpTo(version) => (0, version),
            Stored::Exactly(version) => (version, version),
        };
        let record = record.encode();
        let mut disbelieved = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let call = self
                .write
                .on(self.keys.session(agent))
                .key(self.keys.kept())
                .key(self.keys.credentials(agent))
                .arg(&record)
                .arg(min)
                .arg(max)
                .arg(lifetime(entry))
                .arg(self.keys.changed())
                .arg(if is_to_be_kept(entry) { "SADD" } else { "SREM" })
                .arg(agent.to_string())
                .arg(if entry.session.is_none() { "end" } else { "" })
                .arg(&disbelieved)
                .arg(RECORD_MAX);
            let (done, stored, aside): (u8, Vec<u8>, u64) =
                self.link.script(&call, Repeat::Once).await?;
            self.seals.set_aside(aside);
            if done == 1 {
                return Ok(Written::Done);
            }
            if stored.is_empty() || stored == disbelieved {
                return Ok(Written::Overtaken(None));
            }
            // Somebody else's record must not hold up those of the bridge.
            if let Some((_, found)) = self.seals.session(Some(agent), &stored) {
                return Ok(Written::Overtaken(Some(found)));
            }
            disbelieved = stored;
        }
        Ok(Written::Overtaken(None))
    }
}

/// Whether a replica has to poll for the session.
fn is_to_be_kept(entry: &Entry) -> bool {
    entry.session.as_ref().is_some_and(|session| session.origin == Origin::SignedIn)
}

/// How long Redis has to keep the entry, in milliseconds.
fn lifetime(entry: &Entry) -> u64 {
    let left = match &entry.session {
        None => END_TTL,
        Some(session) => {
            session.expires_at.map_or(SAFETY_TTL, |at| at.saturating_duration_since(Instant::now()))
        }
    };
    millis(left).max(1)
}
