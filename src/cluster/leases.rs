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
    heartbeats::HEARTBEAT_MAX,
    redis::{Call, Keys, Link, LinkError, Place, Repeat, Script},
    seals::Seals,
    sign_in_locks::SignInLocks,
};
use crate::{
    id::{AGENT_IDS_ANY, AgentId},
    keyring::Purpose,
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
    read_membership: Script,
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
/// A lease is `<replica>:<number>:<seal>`. The number is that of the latest request that took or renewed
/// it. ARGV[4] and those after it are the leases that this request makes, one for each key, and then the leases that
/// are not believed, one for each key. No lease of another replica is left to last longer than
/// leases do: whoever is not there does not renew it.
const HOLD: &str = "
local held, others, forged = {}, {}, 0
for place, key in ipairs(KEYS) do
  local found = take('GET', key) or ''
  if #found > 1024 then found = 'x' end
  local owner, since = string.match(found, '^(%x+):(%d+):')
  local is_mine = owner == ARGV[1] and tonumber(since) <= tonumber(ARGV[3])
  if found ~= '' and not owner then forged = forged + 1 end
  if not owner or is_mine or found == ARGV[3 + #KEYS + place] then
    redis.call('SET', key, ARGV[3 + place], 'PX', ARGV[2])
    held[#held + 1] = place
  else
    local left = redis.call('PTTL', key)
    if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
    others[#others + 1] = {place, found}
  end
end
return {held, others, aside, forged}
";
/// The answer of [`HOLD`]: the places of the keys whose leases it has, the leases of others by their places, how
/// many keys were not the bridge's, and how many values were no leases.
type HoldAnswer = (Vec<usize>, Vec<(usize, Vec<u8>)>, u64, u64);
const RELEASE: &str = "
for _, key in ipairs(KEYS) do
  local owner, since = string.match(short(look('GET', key), 64), '^(%x+):(%d+):')
  if owner == ARGV[1] and tonumber(since) < tonumber(ARGV[2]) then
    redis.call('DEL', key)
  end
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 0
";
/// How often leases are asked for if some are not believed: between two times, somebody else may set another one.
const ATTEMPTS_MAX: usize = 3;
/// The longest lease.
const LEASE_MAX: usize = 1024;
/// The message that leases are free, or will be soon. It is published on the channel for changes of
/// sessions.
pub(crate) const ROSTER_NEWS: &str = "roster";
/// The key holds the time of the next moment, in microseconds of Redis' own clock. If a replica
/// ends without using its moments, the others lose at most ARGV[3] of time. It is not believed if it is no
/// number, or more than a minute ahead: replicas write no such time.
const MOMENTS: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, ahead_max = tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = look('GET', KEYS[1])
local next = stored and string.match(short(stored, 32), '^%d+$') and tonumber(stored)
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
        // The tenant may have gone and come back.
        heartbeats.leaves(false);
        let locks = SignInLocks::new(link.clone(), keys.clone(), heartbeats.clone(), time);
        let entries = Mutex::default();
        Self {
            me,
            link,
            keys,
            time,
            heartbeats,
            locks,
            membership,
            read_membership: Script::reading(READ_MEMBERSHIP),
            hold,
            release,
            moments,
            entries,
            replicas,
        }
    }

    async fn ask(&self) -> Result<Membership, LinkError> {
        let unsealed = || LinkError::Unsent("the heartbeat cannot be sealed".into());
        let entry = self.heartbeats.next().ok_or_else(unsealed)?;
        let replicas = self.keys.named("replicas");
        let call = self.membership.on(replicas).key(self.keys.kept());
        let call = call.arg(&entry).arg(millis(self.time)).arg(HEARTBEAT_MAX).arg(KEPT_MAX);
        let mut call = call.arg(self.keys.of("session", "")).arg(self.keys.changed());
        for former in &*self.entries() {
            call = call.arg(former);
        }
        remember(&mut self.entries(), entry.clone());
        let (entries, agents, aside): (Vec<Vec<u8>>, Vec<String>, u64) =
            self.link.script(&call, Repeat::Once).await?;
        self.seals().set_aside(aside);
        let (alive, mut to_remove) = self.alive(entries);
        to_remove.push(entry);
        *self.entries() = to_remove;
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        self.replicas.store(count.max(1), Ordering::Relaxed);
        Ok(membership(alive, &agents))
    }

    /// Reads the membership without the script: a Redis without memory refuses scripts that write
    /// as a whole.
    async fn read(&self) -> Result<Membership, LinkError> {
        let call = self.read_membership.on(self.keys.named("replicas")).key(self.keys.kept());
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
        alive.insert(self.me);
        for entry in entries {
            let replica = self.heartbeats.read(&entry);
            alive.extend(replica.filter(|replica| self.heartbeats.is_alive(*replica)));
            let others = replica.filter(|replica| *replica != self.me);
            if !others.is_some_and(|replica| self.heartbeats.is_heard(replica)) {
                to_remove.push(entry);
            }
        }
        (alive, to_remove)
    }

    fn seals(&self) -> &Seals {
        self.heartbeats.seals()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(
        &self,
        agents: Vec<AgentId>,
        LeaseRequest(number): LeaseRequest,
    ) -> Result<Vec<AgentId>, LinkError> {
        self.heartbeats.asked(number);
        let (mut holding, mut asked_for) = (Vec::new(), agents);
        let mut disbelieved = vec![Vec::new(); asked_for.len()];
        for _ in 0..ATTEMPTS_MAX {
            let Some((held, others)) = self.ask_for(&asked_for, &disbelieved, number).await? else {
                break;
            };
            holding.extend(held);
            let mut forged = Vec::new();
            for (agent, lease) in others {
                match self.owner(agent, &lease) {
                    Some(owner) if owner == self.me => holding.push(agent),
                    Some(_) => {}
                    None => forged.push((agent, lease)),
                }
            }
            (asked_for, disbelieved) = forged.into_iter().unzip();
        }
        Ok(holding)
    }

    /// Takes the leases of these agents in the place of those that are not believed. Returns whose it has, and the
    /// leases in the way of the others. `None` if it is asked for none.
    async fn ask_for(
        &self,
        agents: &[AgentId],
        disbelieved: &[Vec<u8>],
        number: u64,
    ) -> Result<Option<Taken>, LinkError> {
        let Some(call) = self.on_leases(&self.hold, agents) else { return Ok(None) };
        let mut call = call.arg(self.me.to_string()).arg(millis(self.time)).arg(number);
        for agent in agents {
            call = call.arg(self.lease(*agent, number)?);
        }
        let call = disbelieved.iter().fold(call, Call::arg);
        let (held, others, aside, forged): HoldAnswer =
            self.link.script(&call, Repeat::Once).await?;
        self.seals().set_aside(aside);
        self.seals().doubts(Doubt::Lease, forged);
        let agent = |place: usize| agents.get(place.checked_sub(1)?).copied();
        let others = others.into_iter().filter_map(|(place, lease)| Some((agent(place)?, lease)));
        Ok(Some((held.into_iter().filter_map(agent).collect(), others.collect())))
    }

    /// The lease of this agent by this request, as it is stored.
    fn lease(&self, agent: AgentId, number: u64) -> Result<Vec<u8>, LinkError> {
        let seal = self.seals().seal(Purpose::Lease, about(agent, self.me, number), b"");
        let seal = seal.map_err(|error| LinkError::Unsent(error.to_string()))?;
        Ok([format!("{}:{number}:", self.me).as_bytes(), &seal].concat())
    }

    /// Whose lease this is, if it is believed.
    fn owner(&self, agent: AgentId, lease: &[u8]) -> Option<ReplicaId> {
        let owner = self.sealed_owner(agent, lease);
        if owner.is_none() {
            self.seals().doubt(Doubt::Lease);
        }
        owner
    }

    fn sealed_owner(&self, agent: AgentId, lease: &[u8]) -> Option<ReplicaId> {
        let mut parts = lease.splitn(3, |byte| *byte == b':');
        let mut part = || parts.next();
        let (owner, number, seal) = (part()?, part()?, part()?);
        let owner = ReplicaId::parse(str::from_utf8(owner).ok()?)?;
        let number = str::from_utf8(number).ok()?.parse().ok()?;
        self.seals().open(Purpose::Lease, about(agent, owner, number), seal)?;
        self.heartbeats.may_hold(owner, number).then_some(owner)
    }

    async fn taken(&self, agents: Vec<AgentId>) -> Result<Vec<(AgentId, ReplicaId)>, LinkError> {
        let keys: Vec<String> = agents.iter().map(|agent| self.keys.of("lease", agent)).collect();
        let leases = self.link.read(&keys, Place::Whole, LEASE_MAX).await?;
        let taken = agents.into_iter().zip(leases).filter_map(|(agent, lease)| {
            let owner = self.owner(agent, &lease?)?;
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
        self.seals().other_agents(count);
    }

    fn send_heartbeat(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            let mut tell = ::redis::cmd("PUBLISH");
            let sealed = self.heartbeats.next().unwrap_or_default();
            tell.arg(self.keys.changed()).arg(Heartbeats::message(&sealed));
            let told = self.link.command::<u64>(&tell, Repeat::Once).await;
            told.map(drop).map_err(StoreError::from)
        })
    }

    fn heartbeats(&self) -> HashMap<ReplicaId, Instant> {
        self.heartbeats.last_received()
    }

    fn last_request(&self) -> LeaseRequest {
        LeaseRequest(self.heartbeats.last_request())
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
            self.heartbeats.leaves(true);
            let _unheard = self.send_heartbeat().await;
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

/// Remembers an entry that may be in the list. While Redis takes none, only the latest could be there: the others have
/// ended.
fn remember(entries: &mut Vec<Vec<u8>>, entry: Vec<u8>) {
    let excess = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
    entries.drain(..excess.min(entries.len()));
    entries.push(entry);
}

/// Whose leases were taken, and the leases of the others.
type Taken = (Vec<AgentId>, Vec<(AgentId, Vec<u8>)>);

/// What a lease is sealed for.
fn about(agent: AgentId, replica: ReplicaId, number: u64) -> String {
    format!("{agent}|{replica}|{number}")
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
