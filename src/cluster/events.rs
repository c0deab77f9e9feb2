//! A tenant's events in the Redis that the replicas share.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use tokio::{sync::Mutex, time::Instant};

use super::{
    redis::{Keys, Link, LinkError, Notice, Repeat, Script, Subscription},
    wire::{Origin, decode, encode},
};
use crate::{
    event::{Event, Fetched, News, What, moment, sequence},
    id::{AGENT_IDS_ANY, AgentId},
    session::StoreError,
};

/// A Redis stream of bounded length, and a channel that publishes each event at once.
pub struct RedisEvents {
    link: Link,
    keys: Keys,
    kept: usize,
    add: Script,
    /// A random number that tells the events of this process from those of others.
    me: u64,
    began: Instant,
    /// Locked, so that there is one reader at a time.
    news: Mutex<Subscription>,
}

/// An event as the stream returns it: its id, and its fields with their names.
type Raw = (String, Vec<String>);
/// An event, and the process that fetched it.
type Told = (Event, Option<Origin>);

/// Adds an event and publishes it. The message holds the whole event, so that receivers need no
/// round trip. ARGV[5] and ARGV[6] are the number that would come next. It is used if Redis has
/// lost its events and its clock is behind; otherwise Redis numbers the event by itself.
const ADD: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function add(id)
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], id, 'agent', ARGV[2], 'event', ARGV[3])
end
local id = nil
if now <= tonumber(ARGV[5]) then id = add(ARGV[5] .. '-' .. ARGV[6]) end
if type(id) ~= 'string' then id = add('*') end
if type(id) ~= 'string' then return id end
redis.call('PUBLISH', ARGV[4], id .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return id
";
/// How many events are read in one round trip.
const READ_AT_ONCE: usize = 512;
/// How far back events are read again if messages may have been missed. A Redis that has lost its
/// events may have numbered some below the newest one known.
const OVERLAP_MS: u64 = 60_000;

impl RedisEvents {
    /// The events of the tenant with these keys. Redis keeps about `kept` of them.
    pub fn new(link: Link, keys: Keys, kept: usize) -> Self {
        let news = Mutex::new(link.subscribe(keys.named("news")));
        let (me, began) = (rand::random(), Instant::now());
        Self { link, keys, kept, add: Script::new(ADD), me, began, news }
    }

    /// Adds an event that was fetched at that time. Redis gives it a number, above `known` if it can.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], here and below.
    pub async fn add(
        &self,
        agent: AgentId,
        what: What,
        fetched: Instant,
        known: u64,
    ) -> Result<(), StoreError> {
        let at = micros(fetched.saturating_duration_since(self.began));
        let origin = Origin { by: self.me, at, age: micros(fetched.elapsed()) };
        let Some(text) = encode(&what, Some(origin)) else {
            return Err(StoreError::Unavailable("the event cannot be written down".into()));
        };
        let call = self.add.on(self.keys.named("events"));
        let call = call.arg(self.kept).arg(agent.to_string()).arg(text);
        let (millisecond, nth) = moment(known + 1);
        let call = call.arg(self.keys.named("news")).arg(millisecond).arg(nth);
        // Told twice it would be two events.
        let added: Result<String, _> = self.link.script(&call, Repeat::Never).await;
        added.map(drop).map_err(StoreError::from)
    }

    /// The latest `count` events, oldest first.
    pub async fn latest(&self, count: usize) -> Result<Vec<Event>, StoreError> {
        let mut latest = self.read("XREVRANGE", ["+", "-"], count).await?;
        latest.reverse();
        Ok(latest)
    }

    /// Waits a while for events after that number. Returns none if none has come, and may return events
    /// that it has returned before.
    pub async fn after(&self, sequence: u64) -> Result<News, StoreError> {
        match self.news.lock().await.next().await {
            Notice::Message(message) => {
                let told = heard(&message).map(|told| self.event(told, Some(Instant::now())));
                Ok(News::Told(told.into_iter().collect()))
            }
            Notice::Gap => Ok(News::Missed(self.catch_up(sequence).await?)),
        }
    }

    async fn read(
        &self,
        command: &str,
        range: [&str; 2],
        count: usize,
    ) -> Result<Vec<Event>, LinkError> {
        let mut read = ::redis::cmd(command);
        read.arg(self.keys.named("events")).arg(&range).arg("COUNT").arg(count);
        let raw: Vec<Raw> = self.link.command(&read, Repeat::Once).await?;
        let events = raw.iter().filter_map(|(id, fields)| event_of(id, fields));
        // `None`: it is not known since when the stream has had them.
        Ok(events.map(|told| self.event(told, None)).collect())
    }

    /// Reads all events after a number: their messages may have come while this process did not
    /// listen.
    async fn catch_up(&self, after: u64) -> Result<Vec<Event>, LinkError> {
        let mut events = Vec::new();
        let mut last = sequence(moment(after).0.saturating_sub(OVERLAP_MS), 0);
        loop {
            let (millisecond, nth) = moment(last);
            let from = format!("({millisecond}-{nth}");
            let some = self.read("XRANGE", [&from, "+"], READ_AT_ONCE).await?;
            let Some(newest) = some.last() else { return Ok(events) };
            last = newest.sequence;
            events.extend(some);
        }
    }

    fn event(&self, (mut event, origin): Told, heard: Option<Instant>) -> Event {
        let fetched = origin.and_then(|Origin { by, at, age }| {
            if by == self.me {
                return self.began.checked_add(Duration::from_micros(at)).map(Fetched::Here);
            }
            heard?.checked_sub(Duration::from_micros(age)).map(Fetched::ElsewhereBy)
        });
        event.fetched = fetched.unwrap_or(Fetched::Unknown);
        event
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn heard(message: &[u8]) -> Option<Told> {
    let mut parts = std::str::from_utf8(message).ok()?.splitn(3, ' ');
    event(parts.next()?, parts.next()?, parts.next()?)
}

fn event_of(id: &str, fields: &[String]) -> Option<Told> {
    let field = |name: &str| {
        let place = fields.iter().step_by(2).position(|field| field == name)?;
        fields.get(place * 2 + 1)
    };
    event(id, field("agent")?, field("event")?)
}

fn event(id: &str, agent: &str, what: &str) -> Option<Told> {
    let (millisecond, nth) = id.split_once('-')?;
    let millisecond = millisecond.parse().ok()?;
    let (what, origin) = decode(what)?;
    let event = Event {
        sequence: sequence(millisecond, nth.parse().ok()?),
        received_at: UNIX_EPOCH.checked_add(Duration::from_millis(millisecond))?,
        agent: AgentId::parse(agent, &AGENT_IDS_ANY).ok()?,
        what,
        fetched: Fetched::Unknown,
    };
    Some((event, origin))
}

impl fmt::Debug for RedisEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEvents").field("kept", &self.kept).finish_non_exhaustive()
    }
}
