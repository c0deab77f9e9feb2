//! Who is there, and leases on polls, in the Redis that the replicas share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Heartbeats, LeaseRequest, Leases, Membership, ReplicaId,
    redis::{Call, Keys, Link, LinkError, Repeat, Script},
    sign_in_locks::SignInLocks,
};
use crate::{
    id::{AGENT_IDS_ANY, AgentId},
    session::{Doubt, StoreError, StoreFuture},
    tenant::{Attempt, Lock, Moments, SharedSignIns},
};

/// One replica's access to a tenant's leases and sign-in locks.
#[derive(Debug)]
pub struct RedisLeases {
    me: ReplicaId,
    link: Link,
    keys: Keys,
    time: Duration,
    heartbeats: Arc<Heartbeats>,
    locks: SignInLocks,
    membership: Script,
    hold: Script,
    release: Script,
    moments: Script,
    /// Entries of the list of replicas that this one removes with its next turn: its own, and those that it
    /// does not believe.
    entries: Mutex<Vec<Vec<u8>>>,
    /// How many replicas there were when the membership was last read.
    replicas: AtomicU32,
}

/// An entry is a sealed heartbeat, which replaces the replica's last one. Entries end by Redis' own clock, so
/// that replicas whose clocks differ agree on who is alive. The entry comes first: a Redis whose memory is full
/// refuses it, and with it the script, only if nothing was written before. No more are read than there can be replicas: the
/// others are not from them.
const MEMBERSHIP: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
for place = 3, #ARGV do redis.call('ZREM', KEYS[1], ARGV[place]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
return {redis.call('ZRANGE', KEYS[1], 0, 255), redis.call('SMEMBERS', KEYS[2])}
";
/// A lease is `<replica>:<number>`. The number is that of the latest request that took or renewed
/// it. Earlier versions write the replica alone. No lease of another replica is left to last longer than
/// leases do: whoever is not there does not renew it.
const HOLD: &str = "
local held = {}
for place, key in ipairs(KEYS) do
  local owner, since = string.match(redis.call('GET', key) or '', '^(%x+):?(%d*)$')
  if not owner or owner == ARGV[1] then
    local number = math.max(tonumber(since) or 0, tonumber(ARGV[3]))
    redis.call('SET', key, ARGV[1] .. ':' .. string.format('%.0f', number), 'PX', ARGV[2])
    held[#held + 1] = place
  else
    local left = redis.call('PTTL', key)
    if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
  end
end
return held
";
const RELEASE: &str = "
for _, key in ipairs(KEYS) do
  local owner, since = string.match(redis.call('GET', key) or '', '^(%x+):?(%d*)$')
  if owner == ARGV[1] and (tonumber(since) or 0) < tonumber(ARGV[2]) then
    redis.call('DEL', key)
  end
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 0
";
/// The message that leases are free, or will be soon. It is published on the channel for changes of
/// sessions. Earlier versions ignore it as a record that they cannot read.
pub(crate) const ROSTER_NEWS: &str = "roster";
/// The key holds the time of the next moment, in microseconds of Redis' own clock. If a replica
/// ends without using its moments, the others lose at most ARGV[3] of time. It is not believed if it is no
/// time, or one that the key cannot have outlasted: somebody else has written it.
const MOMENTS: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, ahead_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('GET', KEYS[1])
local next = stored and string.match(stored, '^%d+$') and tonumber(stored)
local disbelieved = 0
if stored and (not next or next > now + 60000000) then disbelieved = 1 end
next = math.max(next or 0, now)
local ahead = next - now
-- Nobody takes moments that are further ahead: the clock has been set back.
if ahead > ahead_max + interval then
  next = now
  ahead = 0
end
if ahead > ahead_max then return {0, ahead - ahead_max, disbelieved} end
local count = math.min(tonumber(ARGV[1]), math.floor((ahead_max - ahead) / interval) + 1)
redis.call('SET', KEYS[1], string.format('%.0f', next + count * interval), 'PX', 60000)
return {count, ahead, disbelieved}
";
/// How far ahead moments may be taken.
const MOMENTS_AHEAD: Duration = Duration::from_millis(500);

impl RedisLeases {
    /// The leases of the tenant with these keys; each lasts for `time`. `heartbeats` has those
    /// that other replicas publish.
    pub(super) fn new(
        me: ReplicaId,
        link: Link,
        keys: Keys,
        time: Duration,
        heartbeats: Arc<Heartbeats>,
    ) -> Self {
        let [membership, hold, release] = [MEMBERSHIP, HOLD, RELEASE].map(Script::new);
        let (moments, replicas) = (Script::new(MOMENTS), AtomicU32::new(1));
        let locks = SignInLocks::new(link.clone(), keys.clone(), heartbeats.seals().clone(), time);
        let entries = Mutex::default();
        Self {
            me,
            link,
            keys,
            time,
            heartbeats,
            locks,
            membership,
            hold,
            release,
            moments,
            entries,
            replicas,
        }
    }

    async fn ask(&self) -> Result<Membership, LinkError> {
        let unsealed = || LinkError::Unsent("the heartbeat cannot be sealed".into());
        let entry = self.heartbeats.next(self.me).ok_or_else(unsealed)?;
        let replicas = self.keys.named("replicas");
        let call = self.membership.on(replicas).key(self.keys.kept());
        let mut call = call.arg(&entry).arg(millis(self.time));
        for former in &*self.entries() {
            call = call.arg(former);
        }
        self.entries().push(entry.clone());
        let (entries, agents): (Vec<Vec<u8>>, Vec<String>) =
            self.link.script(&call, Repeat::Once).await?;
        let (alive, mut to_remove) = self.alive(entries, true);
        to_remove.push(entry);
        *self.entries() = to_remove;
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        self.replicas.store(count.max(1), Ordering::Relaxed);
        Ok(membership(alive, &agents))
    }

    /// Reads the membership without the script: a Redis without memory refuses scripts that write
    /// as a whole.
    async fn read(&self) -> Result<Membership, LinkError> {
        let mut read = ::redis::pipe();
        read.cmd("ZRANGE").arg(self.keys.named("replicas")).arg(0).arg(255);
        read.cmd("SMEMBERS").arg(self.keys.kept());
        let (entries, agents): (Vec<Vec<u8>>, Vec<String>) =
            self.link.pipeline(&read, Repeat::Once).await?;
        Ok(membership(self.alive(entries, false).0, &agents))
    }

    /// The replicas of these entries, and the entries that are this one's or are not believed. One is not
    /// believed if no replica has sealed it, or, with `renewed`, if its replica has not replaced it for so long
    /// that it would have ended: somebody has set it back.
    fn alive(&self, entries: Vec<Vec<u8>>, renewed: bool) -> (BTreeSet<ReplicaId>, Vec<Vec<u8>>) {
        let (mut alive, mut to_remove) = (BTreeSet::new(), Vec::new());
        for entry in entries {
            match self.heartbeats.read(&entry) {
                Some((replica, at)) if !renewed || at.elapsed() < 2 * self.time => {
                    alive.insert(replica);
                    if replica == self.me {
                        to_remove.push(entry);
                    }
                }
                _ => to_remove.push(entry),
            }
        }
        if renewed {
            alive.insert(self.me);
        }
        (alive, to_remove)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(
        &self,
        agents: Vec<AgentId>,
        LeaseRequest(number): LeaseRequest,
    ) -> Result<Vec<AgentId>, LinkError> {
        let Some(call) = self.on_leases(&self.hold, &agents) else { return Ok(Vec::new()) };
        let call = call.arg(self.me.to_string()).arg(millis(self.time)).arg(number);
        let places: Vec<usize> = self.link.script(&call, Repeat::Once).await?;
        let agent = |place: usize| agents.get(place.checked_sub(1)?).copied();
        Ok(places.into_iter().filter_map(agent).collect())
    }

    async fn taken(&self, agents: Vec<AgentId>) -> Result<Vec<(AgentId, ReplicaId)>, LinkError> {
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = ::redis::pipe();
        for agent in &agents {
            read.cmd("GET").arg(self.keys.of("lease", agent));
        }
        let owners: Vec<Option<String>> = self.link.pipeline(&read, Repeat::Once).await?;
        let taken = agents.into_iter().zip(owners).filter_map(|(agent, lease)| {
            let lease = lease?;
            let owner = ReplicaId::parse(lease.split(':').next()?)?;
            (owner != self.me).then_some((agent, owner))
        });
        Ok(taken.collect())
    }

    async fn give_back(
        &self,
        agents: Vec<AgentId>,
        LeaseRequest(number): LeaseRequest,
    ) -> Result<(), LinkError> {
        let Some(call) = self.on_leases(&self.release, &agents) else { return Ok(()) };
        let call = call.arg(self.me.to_string()).arg(number);
        let call = call.arg(self.keys.changed()).arg(ROSTER_NEWS);
        let _zero: u8 = self.link.script(&call, Repeat::Once).await?;
        Ok(())
    }

    fn on_leases<'a>(&self, script: &'a Script, agents: &[AgentId]) -> Option<Call<'a>> {
        let mut keys = agents.iter().map(|agent| self.keys.of("lease", agent));
        let first = keys.next()?;
        Some(keys.fold(script.on(first), Call::key))
    }

    async fn take_moments(&self, count: u32, interval: Duration) -> Result<Moments, LinkError> {
        let call = self.moments.on(self.keys.named("sign-in-moments")).arg(count);
        let call = call.arg(interval.as_micros().max(1).to_string());
        let call = call.arg(MOMENTS_AHEAD.as_micros().to_string());
        // Never repeated after a broken connection: moments that were taken twice would be lost.
        let (count, wait, disbelieved): (u32, u64, bool) =
            self.link.script(&call, Repeat::Never).await?;
        if disbelieved {
            self.heartbeats.seals().doubt(Doubt::SignInMoments);
        }
        // No replica takes moments that are further ahead.
        let wait = Duration::from_micros(wait).min(MOMENTS_AHEAD.max(interval));
        Ok(Moments { count, wait })
    }
}

impl Leases for RedisLeases {
    fn time(&self) -> Duration {
        self.time
    }

    fn membership(&self) -> StoreFuture<'_, Membership> {
        Box::pin(async { self.ask().await.map_err(StoreError::from) })
    }

    fn read_membership(&self) -> StoreFuture<'_, Membership> {
        Box::pin(async { self.read().await.map_err(StoreError::from) })
    }

    fn list(&self, agents: Vec<AgentId>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut list = ::redis::cmd("SADD");
            list.arg(self.keys.kept());
            list.arg(agents.iter().map(AgentId::to_string).collect::<Vec<_>>());
            let listed = self.link.command::<u64>(&list, Repeat::Once).await;
            listed.map(drop).map_err(StoreError::from)
        })
    }

    fn disbelieve_agents(&self, count: usize) {
        for _ in 0..count {
            self.heartbeats.seals().doubt(Doubt::AgentId);
        }
    }

    fn send_heartbeat(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            let mut tell = ::redis::cmd("PUBLISH");
            let sealed = self.heartbeats.next(self.me).unwrap_or_default();
            tell.arg(self.keys.changed()).arg(Heartbeats::message(&sealed));
            let told = self.link.command::<u64>(&tell, Repeat::Once).await;
            told.map(drop).map_err(StoreError::from)
        })
    }

    fn heartbeats(&self) -> HashMap<ReplicaId, Instant> {
        self.heartbeats.last_received()
    }

    fn hold(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, Vec<AgentId>> {
        Box::pin(async move { self.take(agents, request).await.map_err(StoreError::from) })
    }

    fn held_by_others(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<(AgentId, ReplicaId)>> {
        Box::pin(async move { self.taken(agents).await.map_err(StoreError::from) })
    }

    fn release(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.give_back(agents, request).await.map_err(StoreError::from) })
    }

    fn leave(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            let mut remove = ::redis::cmd("ZREM");
            // Without any, it was never in the list.
            let entries = self.entries().clone();
            remove.arg(self.keys.named("replicas")).arg(entries).arg("");
            self.link.command::<u64>(&remove, Repeat::Once).await.map_err(StoreError::from)?;
            let mut tell = ::redis::cmd("PUBLISH");
            tell.arg(self.keys.changed()).arg(ROSTER_NEWS);
            // A replica that does not receive this notices it in its next turn.
            let _unheard = self.link.command::<u64>(&tell, Repeat::Once).await;
            Ok(())
        })
    }
}

impl SharedSignIns for RedisLeases {
    fn lock_time(&self) -> Duration {
        self.time
    }

    fn lock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, Lock> {
        Box::pin(async move { self.locks.lock(agent, attempt).await.map_err(StoreError::from) })
    }

    fn unlock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.locks.unlock(agent, attempt).await.map_err(StoreError::from) })
    }

    fn sign_in_moments(&self, count: u32, interval: Duration) -> StoreFuture<'_, Moments> {
        Box::pin(async move { self.take_moments(count, interval).await.map_err(StoreError::from) })
    }

    fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::Relaxed)
    }
}

fn membership(replicas: BTreeSet<ReplicaId>, agents: &[String]) -> Membership {
    Membership {
        replicas: replicas.into_iter().collect(),
        agents: agents.iter().filter_map(|id| AgentId::parse(id, &AGENT_IDS_ANY).ok()).collect(),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
