//! The list of a tenant's replicas, and of the agents whom they keep, in the Redis that they share.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    Heartbeats, Membership, ROSTER_NEWS, ReplicaId,
    heartbeats::HEARTBEAT_MAX,
    redis::{Keys, Link, LinkError, Repeat, Script},
};
use crate::{
    id::{AGENT_IDS_ANY, AgentId},
    time::millis,
};

/// One replica's access to the lists.
#[derive(Debug)]
pub(super) struct Members {
    link: Link,
    keys: Keys,
    lease: Duration,
    heartbeats: Arc<Heartbeats>,
    script: Script,
    read: Script,
    /// Entries of the list of replicas that this one removes with its next turn: its own, and those that it
    /// does not believe.
    entries: Mutex<Vec<Vec<u8>>>,
    /// How many replicas there were when the membership was last read.
    count: AtomicU32,
}

/// An entry is a sealed heartbeat, which replaces the replica's last one. Entries end by Redis' own clock, so
/// that replicas whose clocks differ agree on who is alive. The entry comes first: a Redis whose memory is full
/// refuses it, and with it the script, only if nothing was written before. No more are read than there can be replicas, and
/// none that is longer than ARGV[3]: the others are not from them. The heartbeat is published too, so that whoever fills
/// the list keeps no replica from being heard.
///
/// If there are more than ARGV[4] agents to be kept, somebody else has listed them. Then those go from the list that have no
/// session, at the key that begins with ARGV[5], some in each turn.
const MEMBERSHIP: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
take('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PUBLISH', ARGV[6], 'alive:' .. ARGV[1])
for place = 7, #ARGV do redis.call('ZREM', KEYS[1], ARGV[place]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
local entries = {}
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, 255)) do
  if #entry <= tonumber(ARGV[3]) then
    entries[#entries + 1] = entry
  else
    redis.call('ZREM', KEYS[1], entry)
  end
end
local listed = take('SCARD', KEYS[2])
local kept, all = members(KEYS[2], ARGV[4])
if listed > tonumber(ARGV[4]) then
  for place = 1, math.min(#all, 8192) do
    local agent = all[place]
    if #agent > 15 or redis.call('PTTL', ARGV[5] .. agent) == -2 then
      redis.call('SREM', KEYS[2], agent)
    end
  end
end
return {entries, kept, aside}
";
const READ_MEMBERSHIP: &str = "
local entries = {}
for _, entry in ipairs(look('ZRANGE', KEYS[1], 0, 255) or {}) do
  if #entry <= tonumber(ARGV[1]) then entries[#entries + 1] = entry end
end
local kept = members(KEYS[2], ARGV[2])
return {entries, kept}
";
/// How many entries are remembered to be removed. No more are read from the list, and this one's.
const ENTRIES_MAX: usize = 512;
/// The most agents of one tenant that are read from the list of those to be kept.
pub(super) const KEPT_MAX: usize = 1 << 16;

impl Members {
    pub(super) fn new(
        link: Link,
        keys: Keys,
        lease: Duration,
        heartbeats: Arc<Heartbeats>,
    ) -> Self {
        // The tenant may have gone and come back.
        heartbeats.leaves(false);
        let (script, read) = (Script::new(MEMBERSHIP), Script::reading(READ_MEMBERSHIP));
        let (entries, count) = (Mutex::default(), AtomicU32::new(1));
        Self { link, keys, lease, heartbeats, script, read, entries, count }
    }

    /// How many replicas there were when the membership was last read.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Says that this replica is there, and returns who else is and whom they keep.
    pub(super) async fn ask(&self) -> Result<Membership, LinkError> {
        let unsealed = || LinkError::Unsent("the heartbeat cannot be sealed".into());
        let entry = self.heartbeats.next().ok_or_else(unsealed)?;
        let replicas = self.keys.named("replicas");
        let call = self.script.on(replicas).key(self.keys.kept());
        let call = call.arg(&entry).arg(millis(self.lease)).arg(HEARTBEAT_MAX).arg(KEPT_MAX);
        let mut call = call.arg(self.keys.of("session", "")).arg(self.keys.changed());
        for former in &*self.entries() {
            call = call.arg(former);
        }
        remember(&mut self.entries(), entry.clone());
        let (entries, agents, aside): (Vec<Vec<u8>>, Vec<String>, u64) =
            self.link.script(&call, Repeat::Once).await?;
        self.heartbeats.seals().set_aside(aside);
        let (alive, mut to_remove) = self.alive(entries);
        to_remove.push(entry);
        *self.entries() = to_remove;
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        self.count.store(count.max(1), Ordering::Relaxed);
        Ok(membership(alive, &agents))
    }

    /// Reads the membership without the script: a Redis without memory refuses scripts that write
    /// as a whole.
    pub(super) async fn read(&self) -> Result<Membership, LinkError> {
        let call = self.read.on(self.keys.named("replicas")).key(self.keys.kept());
        let call = call.arg(HEARTBEAT_MAX).arg(KEPT_MAX);
        let (entries, agents): (Vec<Vec<u8>>, Vec<String>) =
            self.link.script(&call, Repeat::Once).await?;
        let sealed = entries.iter().filter_map(|entry| self.heartbeats.read(entry));
        Ok(membership(sealed.collect(), &agents))
    }

    /// The replicas of these entries that live, with those that are heard, since somebody may have emptied the list or Redis
    /// may have lost it. And the entries to be removed: those that are this one's, that no
    /// replica has sealed, or whose replica has not replaced them for so long that they would have ended.
    fn alive(&self, entries: Vec<Vec<u8>>) -> (BTreeSet<ReplicaId>, Vec<Vec<u8>>) {
        let (mut alive, mut to_remove) = (self.heartbeats.calling(), Vec::new());
        alive.insert(self.heartbeats.me());
        for entry in entries {
            let replica = self.heartbeats.read(&entry);
            alive.extend(replica.filter(|replica| self.heartbeats.is_alive(*replica)));
            let others = replica.filter(|replica| *replica != self.heartbeats.me());
            if !others.is_some_and(|replica| self.heartbeats.is_heard(replica)) {
                to_remove.push(entry);
            }
        }
        (alive, to_remove)
    }

    /// Says that sessions of these agents are to be kept.
    pub(super) async fn list(&self, agents: Vec<AgentId>) -> Result<(), LinkError> {
        let mut list = ::redis::cmd("SADD");
        list.arg(self.keys.kept());
        list.arg(agents.iter().map(AgentId::to_string).collect::<Vec<_>>());
        self.link.command::<u64>(&list, Repeat::Once).await.map(drop)
    }

    /// Publishes a heartbeat.
    pub(super) async fn call(&self) -> Result<(), LinkError> {
        let sealed = self.heartbeats.next().unwrap_or_default();
        self.tell(Heartbeats::message(&sealed)).await
    }

    /// Says that this replica goes away.
    pub(super) async fn leave(&self) -> Result<(), LinkError> {
        let mut remove = ::redis::cmd("ZREM");
        // Without any, it was never in the list.
        let entries = self.entries().clone();
        remove.arg(self.keys.named("replicas")).arg(entries).arg("");
        self.link.command::<u64>(&remove, Repeat::Once).await?;
        self.heartbeats.leaves(true);
        // A replica that does not receive this notices it when no more heartbeats come.
        let _unheard = self.call().await;
        let _unheard = self.tell(ROSTER_NEWS.into()).await;
        Ok(())
    }

    async fn tell(&self, message: Vec<u8>) -> Result<(), LinkError> {
        let mut tell = ::redis::cmd("PUBLISH");
        tell.arg(self.keys.changed()).arg(message);
        self.link.command::<u64>(&tell, Repeat::Once).await.map(drop)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers an entry that may be in the list. While Redis takes none, only the latest could be there: the others have
/// ended.
fn remember(entries: &mut Vec<Vec<u8>>, entry: Vec<u8>) {
    let excess = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
    entries.drain(..excess.min(entries.len()));
    entries.push(entry);
}

fn membership(replicas: BTreeSet<ReplicaId>, agents: &[String]) -> Membership {
    Membership {
        replicas: replicas.into_iter().collect(),
        agents: agents.iter().filter_map(|id| AgentId::parse(id, &AGENT_IDS_ANY).ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_outage_leaves_no_more_entries_to_remove_than_the_latest() {
        let mut entries = Vec::new();
        for number in 0..10_000_u32 {
            remember(&mut entries, number.to_be_bytes().into());
        }
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries.last(), Some(&9_999_u32.to_be_bytes().into()));
    }
}
