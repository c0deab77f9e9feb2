//! When replicas may sign agents in by themselves: at moments that the Redis that they share gives them.

use std::time::Duration;

use super::{
    redis::{Keys, Link, LinkError, Repeat, Script},
    seals::Seals,
};
use crate::{session::Doubt, tenant::Moments};

/// A tenant's moments for sign-ins.
#[derive(Debug)]
pub(super) struct SignInMoments {
    link: Link,
    keys: Keys,
    seals: Seals,
    script: Script,
}

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

impl SignInMoments {
    pub(super) fn new(link: Link, keys: Keys, seals: Seals) -> Self {
        Self { link, keys, seals, script: Script::new(MOMENTS) }
    }

    /// Takes up to so many moments.
    pub(super) async fn take(&self, count: u32, interval: Duration) -> Result<Moments, LinkError> {
        let call = self.script.on(self.keys.named("sign-in-moments")).arg(count);
        let call = call.arg(interval.as_micros().max(1).to_string());
        let call = call.arg(MOMENTS_AHEAD.as_micros().to_string());
        // Never repeated after a broken connection: moments that were taken twice would be lost.
        let (count, wait, disbelieved): (u32, u64, bool) =
            self.link.script(&call, Repeat::Never).await?;
        if disbelieved {
            self.seals.doubt(Doubt::SignInMoments);
        }
        // No replica takes moments that are further ahead.
        let wait = Duration::from_micros(wait).min(MOMENTS_AHEAD.max(interval));
        Ok(Moments { count, wait })
    }
}
