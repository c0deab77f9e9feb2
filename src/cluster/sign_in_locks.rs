//! Locks on sign-ins, in the Redis that the replicas share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Heartbeats, ReplicaId,
    freshness::Freshness,
    redis::{Call, Keys, Link, LinkError, Repeat, Script},
    seals::{CLOCKS_APART_MAX, Seals},
};
use crate::{
    id::AgentId,
    keyring::Purpose,
    session::{Doubt, RECORD_MAX},
    tenant::{Attempt, Grant, Lock},
    time::{millis, millis_now},
};

/// The locks on sign-ins of a tenant's agents.
#[derive(Debug)]
pub(super) struct SignInLocks {
    link: Link,
    keys: Keys,
    heartbeats: Arc<Heartbeats>,
    seals: Seals,
    time: Duration,
    lock: Script,
    unlock: Script,
    /// When other attempts last asked for their locks.
    seen: Mutex<Freshness<u64>>,
}

/// What an attempt says of itself, before it is sealed for its agent.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    attempt: String,
    /// The replica that makes it.
    replica: u64,
    /// When it asked for the lock, in milliseconds since 1970.
    asked: u64,
    /// How long it may take from then on, in milliseconds.
    time: u64,
}

/// The lock may be lost while its holder waits for the gateway. So a second key records which
/// sign-ins are under way, each with its sealed request. The lock names its attempt, and its grant. ARGV[4]: a
/// lock that is not believed. ARGV[6]: the grant to use if the lock is free. ARGV[7]: how long the record of a
/// session may be. ARGV[8] and on: requests that are not believed or are over. There are never many requests, nor long
/// ones, unless somebody else has put them there.
const LOCK: &str = "
for place = 8, #ARGV do take('HDEL', KEYS[2], ARGV[place]) end
local owner = take('GET', KEYS[1])
if owner and #owner > 64 then owner = nil end
local mine = ARGV[1] .. ':'
local function is_mine(owner) return string.sub(owner, 1, #mine) == mine end
if owner and owner == ARGV[4] and not is_mine(owner) then owner = nil end
if not owner then owner = mine .. ARGV[6] end
local held = is_mine(owner)
local function are_foreign()
  if take('HLEN', KEYS[2]) > 64 then return true end
  for _, word in ipairs(redis.call('HGETALL', KEYS[2])) do
    if #word > 4096 then return true end
  end
end
if are_foreign() then
  redis.call('DEL', KEYS[2])
  aside = aside + 1
end
if held then
  redis.call('SET', KEYS[1], owner, 'PX', ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local record = short(look('HGET', KEYS[3], 'record'), ARGV[7])
return {held and 1 or 0, owner, redis.call('HGETALL', KEYS[2]), record, aside}
";
const UNLOCK: &str = "
local mine = ARGV[1] .. ':'
if short(look('GET', KEYS[1]), #mine) == mine then redis.call('DEL', KEYS[1]) end
if look('HLEN', KEYS[2]) then redis.call('HDEL', KEYS[2], ARGV[1]) end
return 0
";
/// What another attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    UnderWay,
    /// Its replica has not said that it goes on for so long that it must be over.
    Over,
    /// No replica has made it.
    Forged,
}

/// How often the lock is asked for if something is in the way that is not believed.
const ATTEMPTS_MAX: usize = 3;

/// Redis' answer: whether this attempt holds the lock, the holder's attempt and grant, the requests by their
/// attempts, the record of the agent's session, and how many keys were not the bridge's.
type Answer = (bool, Vec<u8>, HashMap<Vec<u8>, Vec<u8>>, Vec<u8>, u64);

impl SignInLocks {
    pub(super) fn new(link: Link, keys: Keys, heartbeats: Arc<Heartbeats>, time: Duration) -> Self {
        let ([lock, unlock], seals) = ([LOCK, UNLOCK].map(Script::new), heartbeats.seals().clone());
        let seen = Mutex::new(Freshness::new());
        Self { link, keys, heartbeats, seals, time, lock, unlock, seen }
    }

    pub(super) async fn lock(&self, agent: AgentId, attempt: Attempt) -> Result<Lock, LinkError> {
        let me = attempt.to_string();
        let (mut owner, mut over) = (Vec::new(), Vec::new());
        let mut asked = 0;
        loop {
            let answer = self.ask(agent, attempt, &owner, &over).await?;
            asked += 1;
            let (is_held, found, requests, _, aside) = &answer;
            self.seals.set_aside(*aside);
            let others = requests.iter().filter(|(other, _)| **other != me.as_bytes());
            let judged = others.map(|(other, sealed)| (other, self.judged(agent, other, sealed)));
            let judged: Vec<_> = judged.collect();
            let holder = found.split(|byte| *byte == b':').next().unwrap_or_default();
            let is_under_way = |(it, is): &(&Vec<u8>, _)| *it == holder && *is == Judged::UnderWay;
            let is_forged = !is_held && !judged.iter().any(is_under_way);
            over = judged
                .iter()
                .filter(|(_, is)| *is != Judged::UnderWay)
                .map(|(it, _)| (*it).clone())
                .collect();
            if is_forged || judged.iter().any(|(_, is)| *is == Judged::Forged) {
                self.seals.doubt(Doubt::SignInLock);
            }
            if asked == ATTEMPTS_MAX || (!is_forged && over.is_empty()) {
                return Ok(self.answered(agent, &me, &answer));
            }
            owner = if is_forged { found.clone() } else { Vec::new() };
        }
    }

    pub(super) async fn unlock(&self, agent: AgentId, attempt: Attempt) -> Result<(), LinkError> {
        let call = self.on(&self.unlock, agent).arg(attempt.to_string());
        let _zero: u8 = self.link.script(&call, Repeat::Once).await?;
        Ok(())
    }

    async fn ask(
        &self,
        agent: AgentId,
        attempt: Attempt,
        owner: &[u8],
        over: &[Vec<u8>],
    ) -> Result<Answer, LinkError> {
        let longest = millis(attempt.time().max(self.time));
        let (attempt, replica) = (attempt.to_string(), self.heartbeats.me().0);
        let request = Request { attempt, replica, asked: millis_now(), time: longest };
        let plain = serde_json::to_vec(&request).unwrap_or_default();
        let sealed = self.seals.seal(Purpose::Lock, agent, &plain);
        let sealed = sealed.map_err(|error| LinkError::Unsent(error.to_string()))?;
        let call = self.on(&self.lock, agent).key(self.keys.session(agent));
        let call = call.arg(request.attempt).arg(sealed).arg(millis(self.time));
        let call = call.arg(owner).arg(longest).arg(format!("{:016x}", rand::random::<u64>()));
        let call = call.arg(RECORD_MAX.saturating_add(1));
        self.link.script(&over.iter().fold(call, Call::arg), Repeat::Once).await
    }

    fn answered(&self, agent: AgentId, me: &str, answer: &Answer) -> Lock {
        let (is_held, holder, requests, record, _) = answer;
        let number =
            holder.split(|byte| *byte == b':').nth(1).and_then(|it| str::from_utf8(it).ok());
        let number = number.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        // Two that no replica has written are not the same grant.
        let grant = is_held.then(|| Grant(number.unwrap_or_else(rand::random)));
        let others = requests.keys().filter(|other| **other != me.as_bytes()).count();
        let stored = Some(record).filter(|record| !record.is_empty());
        let stored = stored.and_then(|record| self.seals.session(Some(agent), record));
        Lock { grant, others, stored: stored.map_or(0, |(_, entry)| entry.version) }
    }

    /// What another attempt's request says. It may last for its time, from when it was last made. What its replica has
    /// said since, by its own clock, shows whether somebody has set it back.
    fn judged(&self, agent: AgentId, attempt: &[u8], sealed: &[u8]) -> Judged {
        let Some((id, Request { replica, asked, time, .. })) =
            opened(&self.seals, agent, attempt, sealed)
        else {
            return Judged::Forged;
        };
        let time = Duration::from_millis(time);
        if millis_now().abs_diff(asked) > millis(CLOCKS_APART_MAX) {
            return Judged::Over;
        }
        let may_go_on = self.heartbeats.may_go_on(ReplicaId(replica), asked, time);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = seen.note(id, asked).elapsed() >= time || may_go_on == Some(false);
        if is_over { Judged::Over } else { Judged::UnderWay }
    }

    fn on<'a>(&self, script: &'a Script, agent: AgentId) -> Call<'a> {
        script.on(self.keys.of("sign-in", agent)).key(self.keys.of("signing-in", agent))
    }
}

/// What a replica has sealed for this attempt, and the number of the attempt.
pub(super) fn opened(
    seals: &Seals,
    agent: AgentId,
    attempt: &[u8],
    sealed: &[u8],
) -> Option<(u64, Request)> {
    let plain = seals.open(Purpose::Lock, agent, sealed)?;
    let request: Request = serde_json::from_slice(&plain).ok()?;
    let is_its_own = request.attempt.as_bytes() == attempt;
    let id = u64::from_str_radix(&request.attempt, 16).ok().filter(|_| is_its_own)?;
    Some((id, request))
}
