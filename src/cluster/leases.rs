//! Leases on polls, in the Redis that the replicas share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Heartbeats, LeaseRequest, Leases, Membership, ReplicaId,
    members::Members,
    redis::{Call, Keys, Link, LinkError, Place, Repeat, Script},
    seals::Seals,
    sign_in_locks::SignInLocks,
    sign_in_moments::SignInMoments,
};
use crate::{
    id::AgentId,
    keyring::Purpose,
    session::{Doubt, StoreError, StoreFuture},
    tenant::{Attempt, Lock, Moments, SharedSignIns},
    time::millis,
};

/// One replica's access to a tenant's leases and sign-in locks.
#[derive(Debug)]
pub struct RedisLeases {
    me: ReplicaId,
    link: Link,
    keys: Keys,
    time: Duration,
    heartbeats: Arc<Heartbeats>,
    members: Members,
    locks: SignInLocks,
    moments: SignInMoments,
    hold: Script,
    release: Script,
}

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
        let members = Members::new(link.clone(), keys.clone(), time, heartbeats.clone());
        let locks = SignInLocks::new(link.clone(), keys.clone(), heartbeats.clone(), time);
        let moments = SignInMoments::new(link.clone(), keys.clone(), heartbeats.seals().clone());
        let [hold, release] = [HOLD, RELEASE].map(Script::new);
        Self { me, link, keys, time, heartbeats, members, locks, moments, hold, release }
    }

    fn seals(&self) -> &Seals {
        self.heartbeats.seals()
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
}

impl Leases for RedisLeases {
    fn time(&self) -> Duration {
        self.time
    }

    fn membership(&self) -> StoreFuture<'_, Membership> {
        Box::pin(async { self.members.ask().await.map_err(StoreError::from) })
    }

    fn read_membership(&self) -> StoreFuture<'_, Membership> {
        Box::pin(async { self.members.read().await.map_err(StoreError::from) })
    }

    fn list(&self, agents: Vec<AgentId>) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.members.list(agents).await.map_err(StoreError::from) })
    }

    fn disbelieve_agents(&self, count: usize) {
        self.seals().other_agents(count);
    }

    fn send_heartbeat(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { self.members.call().await.map_err(StoreError::from) })
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
        Box::pin(async { self.members.leave().await.map_err(StoreError::from) })
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
        Box::pin(async move { self.moments.take(count, interval).await.map_err(StoreError::from) })
    }

    fn replicas(&self) -> u32 {
        self.members.count()
    }
}

/// Whose leases were taken, and the leases of the others.
type Taken = (Vec<AgentId>, Vec<(AgentId, Vec<u8>)>);

/// What a lease is sealed for.
fn about(agent: AgentId, replica: ReplicaId, number: u64) -> String {
    format!("{agent}|{replica}|{number}")
}
