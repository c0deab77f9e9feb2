//! Leases in the Redis that replicas share.

use std::time::Duration;

use super::{Census, Leases, ReplicaId};
use crate::{
    id::{AGENT_IDS_ANY, AgentId},
    redis::{Call, Keys, Link, LinkError, Repeat, Script},
    session::{StoreError, StoreFuture},
};

/// A tenant's leases, for one replica.
#[derive(Debug)]
pub struct RedisLeases {
    me: ReplicaId,
    link: Link,
    keys: Keys,
    time: Duration,
    census: Script,
    hold: Script,
    release: Script,
}

/// Redis' own clock counts, so that replicas whose clocks differ agree on who is alive.
const CENSUS: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('SMEMBERS', KEYS[2])}
";
const HOLD: &str = "
local held = {}
for place, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if not owner or owner == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    held[#held + 1] = place
  end
end
return held
";
const RELEASE: &str = "
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
";

/// Of one script: a script stops everything else in Redis while it runs.
const LEASES_AT_ONCE: usize = 256;

impl RedisLeases {
    /// The leases of the tenant whose keys these are; each lasts for `time`.
    pub fn new(me: ReplicaId, link: Link, keys: Keys, time: Duration) -> Self {
        let [census, hold, release] = [CENSUS, HOLD, RELEASE].map(Script::new);
        Self { me, link, keys, time, census, hold, release }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX)
    }

    async fn ask(&self) -> Result<Census, LinkError> {
        let replicas = self.keys.named("replicas");
        let call = self.census.on(replicas).key(self.keys.kept());
        let call = call.arg(self.me.to_string()).arg(self.millis());
        let (replicas, agents): (Vec<String>, Vec<String>) =
            self.link.script(&call, Repeat::Once).await?;
        Ok(Census {
            replicas: replicas.iter().filter_map(|id| ReplicaId::parse(id)).collect(),
            agents: agents
                .iter()
                .filter_map(|id| AgentId::parse(id, &AGENT_IDS_ANY).ok())
                .collect(),
        })
    }

    /// Takes or renews what these keys stand for; gives the places of those that are ours now.
    async fn take(&self, keys: Vec<String>) -> Result<Vec<usize>, LinkError> {
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else { return Ok(Vec::new()) };
        let call = keys.fold(self.hold.on(first), Call::key);
        let call = call.arg(self.me.to_string()).arg(self.millis());
        self.link.script(&call, Repeat::Once).await
    }

    async fn give_back(&self, keys: Vec<String>) -> Result<(), LinkError> {
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else { return Ok(()) };
        let call = keys.fold(self.release.on(first), Call::key);
        let _zero: u8 = self.link.script(&call.arg(self.me.to_string()), Repeat::Once).await?;
        Ok(())
    }

    fn lease(&self, agent: AgentId) -> String {
        self.keys.of("lease", agent)
    }

    fn sign_in(&self, agent: AgentId) -> String {
        self.keys.of("sign-in", agent)
    }
}

impl Leases for RedisLeases {
    fn time(&self) -> Duration {
        self.time
    }

    fn census(&self) -> StoreFuture<'_, Census> {
        Box::pin(async { self.ask().await.map_err(unavailable) })
    }

    fn hold(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<AgentId>> {
        Box::pin(async move {
            let mut held = Vec::new();
            for some in agents.chunks(LEASES_AT_ONCE) {
                let keys = some.iter().map(|agent| self.lease(*agent)).collect();
                let places = self.take(keys).await.map_err(unavailable)?;
                let agent = |place: usize| some.get(place.checked_sub(1)?).copied();
                held.extend(places.into_iter().filter_map(agent));
            }
            Ok(held)
        })
    }

    fn release(&self, agents: Vec<AgentId>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            for some in agents.chunks(LEASES_AT_ONCE) {
                let keys = some.iter().map(|agent| self.lease(*agent)).collect();
                self.give_back(keys).await.map_err(unavailable)?;
            }
            Ok(())
        })
    }

    fn lock_sign_in(&self, agent: AgentId) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let held = self.take(vec![self.sign_in(agent)]).await;
            Ok(!held.map_err(unavailable)?.is_empty())
        })
    }

    fn unlock_sign_in(&self, agent: AgentId) -> StoreFuture<'_, ()> {
        Box::pin(
            async move { self.give_back(vec![self.sign_in(agent)]).await.map_err(unavailable) },
        )
    }

    fn leave(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            let mut remove = ::redis::cmd("ZREM");
            remove.arg(self.keys.named("replicas")).arg(self.me.to_string());
            let removed = self.link.command::<u8>(&remove, Repeat::Once).await;
            removed.map(drop).map_err(unavailable)
        })
    }
}

// By value, as `map_err` wants it.
#[expect(clippy::needless_pass_by_value)]
fn unavailable(error: LinkError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
