//! A tenant's events in the Redis that replicas share.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use tokio::sync::Mutex;

use super::{Event, EventStream, What, decode, encode, moment, sequence};
use crate::{
    id::{AGENT_IDS_ANY, AgentId},
    redis::{Keys, Link, LinkError, Notice, Repeat, Script, Subscription},
    session::{StoreError, StoreFuture},
};

/// A Redis stream of bounded length, and a channel that tells of each event at once.
pub struct RedisEvents {
    link: Link,
    keys: Keys,
    kept: usize,
    add: Script,
    /// One reader at a time.
    news: Mutex<Subscription>,
}

/// An event as the stream gives it: its id, and its fields with their names.
type Raw = (String, Vec<String>);

/// The message has all of the event, so that hearing of it needs no round trip.
const ADD: &str = "
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'agent', ARGV[2], 'event', ARGV[3])
redis.call('PUBLISH', ARGV[4], id .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
return id
";
/// Of one round trip.
const READ_AT_ONCE: usize = 512;

impl RedisEvents {
    /// The events of the tenant whose keys these are, about `kept` of them.
    pub fn new(link: Link, keys: Keys, kept: usize) -> Self {
        let news = Mutex::new(link.subscribe(keys.named("news")));
        Self { link, keys, kept, add: Script::new(ADD), news }
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
        Ok(raw.iter().filter_map(|(id, fields)| event_of(id, fields)).collect())
    }

    /// Everything behind a number, which the channel may have told while nobody listened.
    async fn catch_up(&self, after: u64) -> Result<Vec<Event>, LinkError> {
        let mut events = Vec::new();
        let mut last = after;
        loop {
            let (millisecond, nth) = moment(last);
            let from = format!("({millisecond}-{nth}");
            let some = self.read("XRANGE", [&from, "+"], READ_AT_ONCE).await?;
            let Some(newest) = some.last() else { return Ok(events) };
            last = newest.sequence;
            events.extend(some);
        }
    }
}

impl EventStream for RedisEvents {
    fn add(&self, agent: AgentId, what: What) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let Some(text) = encode(&what) else {
                return Err(StoreError::Unavailable("the event cannot be written down".into()));
            };
            let call = self.add.on(self.keys.named("events"));
            let call = call.arg(self.kept).arg(agent.to_string()).arg(text);
            let call = call.arg(self.keys.named("news"));
            // Told twice it would be two events.
            let added: Result<String, _> = self.link.script(&call, Repeat::Never).await;
            added.map(drop).map_err(StoreError::from)
        })
    }

    fn latest(&self, count: usize) -> StoreFuture<'_, Vec<Event>> {
        Box::pin(async move {
            let mut latest =
                self.read("XREVRANGE", ["+", "-"], count).await.map_err(StoreError::from)?;
            latest.reverse();
            Ok(latest)
        })
    }

    fn after(&self, sequence: u64) -> StoreFuture<'_, Vec<Event>> {
        Box::pin(async move {
            match self.news.lock().await.next().await {
                Notice::Message(message) => Ok(heard(&message).into_iter().collect()),
                Notice::Gap => self.catch_up(sequence).await.map_err(StoreError::from),
            }
        })
    }
}

fn heard(message: &[u8]) -> Option<Event> {
    let mut parts = std::str::from_utf8(message).ok()?.splitn(3, ' ');
    event(parts.next()?, parts.next()?, parts.next()?)
}

fn event_of(id: &str, fields: &[String]) -> Option<Event> {
    let field = |name: &str| {
        let place = fields.iter().step_by(2).position(|field| field == name)?;
        fields.get(place * 2 + 1)
    };
    event(id, field("agent")?, field("event")?)
}

fn event(id: &str, agent: &str, what: &str) -> Option<Event> {
    let (millisecond, nth) = id.split_once('-')?;
    let millisecond = millisecond.parse().ok()?;
    Some(Event {
        sequence: sequence(millisecond, nth.parse().ok()?),
        received_at: UNIX_EPOCH.checked_add(Duration::from_millis(millisecond))?,
        agent: AgentId::parse(agent, &AGENT_IDS_ANY).ok()?,
        what: decode(what)?,
    })
}

impl fmt::Debug for RedisEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEvents").field("kept", &self.kept).finish_non_exhaustive()
    }
}
