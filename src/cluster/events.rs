//! A tenant's events in the Redis that the replicas share.

mod read;

use std::{
    fmt,
    sync::{
        Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use self::read::{Found, Read};
use super::{
    redis::{Keys, Link, LinkError, Notice, Repeat, Script, Subscription},
    seals::{CLOCKS_APART_MAX, Seals, is_believable},
    wire::{Origin, Told, decode, encode},
};
use crate::{
    event::{Event, Fetched, News, What, moment, sequence},
    id::AgentId,
    keyring::Purpose,
    session::{Doubt, StoreError},
    time::millis,
};

/// A Redis stream of bounded length, and a channel that publishes each event at once.
pub struct RedisEvents {
    link: Link,
    keys: Keys,
    seals: Seals,
    kept: usize,
    add: Script,
    read_range: Script,
    /// A random number that tells the events of this process from those of others.
    me: u64,
    /// How many events this process has sent.
    sent: AtomicU64,
    /// How many of them, from the first to the last one that has come back.
    heard: AtomicU64,
    /// The number of the last event that has come from Redis; 0 if it had none.
    last: AtomicU64,
    began: Instant,
    /// Locked, so that there is one reader at a time.
    news: Mutex<Messages>,
    /// Tells the reader that messages may have been missed.
    look: Notify,
    read: StdMutex<Read>,
}

/// The messages with events.
struct Messages {
    subscription: Subscription,
    /// Whether some may have been missed, and the stream has not been read since then.
    may_be_missed: bool,
}

/// An event as it is read from the stream: its id, and its sealed content.
type Raw = (String, Vec<u8>);
/// An event that a replica has sealed, and its number.
type Opened = (u64, Told);

/// What follows from an event for the watches.
#[derive(Default)]
struct Heard {
    /// Events up to this number may be missing.
    gone: Option<u64>,
    event: Option<Event>,
}

/// Adds an event and publishes it. The message holds the whole event, so that receivers need no
/// round trip. ARGV[4] and ARGV[5] are the number that would come next. It is used if Redis has
/// lost its events and its clock is behind; otherwise Redis numbers the event by itself.
///
/// If somebody adds an event far ahead, Redis numbers all later ones above it, where no replica believes them,
/// or refuses them. Such a stream is renamed, and a new one is begun. So is what is no stream.
const ADD: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function add(id)
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], id, 'sealed', ARGV[2])
end
local function is_poisoned(id)
  if type(id) == 'string' then return tonumber(string.match(id, '^%d+')) > now + ARGV[6] end
  local refused = id.err or ''
  return is_foreign(id) or string.find(refused, 'last possible ID', 1, true)
    or string.find(refused, 'equal or smaller', 1, true)
end
local id = nil
if now <= tonumber(ARGV[4]) then id = add(ARGV[4] .. '-' .. ARGV[5]) end
if type(id) ~= 'string' then id = add('*') end
if is_poisoned(id) then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PEXPIRE', KEYS[2], 3600000)
  aside = is_foreign(id) and 2 or 1
  id = add('*')
end
if type(id) ~= 'string' then return id end
redis.call('PUBLISH', ARGV[3], id .. ' ' .. ARGV[2])
return {id, aside}
";
/// Reads events of a range, up to ARGV[4] of them or somewhat more than ARGV[5] bytes. Of one that is longer than
/// ARGV[6], nothing is read but its id. Whoever adds events could otherwise make replicas read all that Redis can hold.
const READ: &str = "
local found, bytes, from, left = {}, 0, ARGV[2], tonumber(ARGV[4])
while left > 0 and bytes < tonumber(ARGV[5]) do
  local some = look(ARGV[1], KEYS[1], from, ARGV[3], 'COUNT', math.min(left, 4)) or {}
  if #some == 0 then break end
  for _, event in ipairs(some) do
    local id, fields = event[1], event[2]
    local sealed = fields[1] == 'sealed' and fields[2] or ''
    bytes = bytes + #sealed + #id
    if #sealed > tonumber(ARGV[6]) then sealed = '' end
    found[#found + 1] = {id, sealed}
    from = '(' .. id
  end
  left = left - #some
end
return found
";
/// How many events are read in one round trip, and about how many bytes.
const READ_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// The most round trips for events that were missed, or are from before the start.
const ROUNDS_MAX: usize = 64;
/// How many bytes of events from before the start are read.
const LATEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest event. One with the longest content that is read of a gateway's answer is shorter.
const EVENT_MAX: usize = 256 * 1024;
/// How far back events are read again if messages may have been missed. A Redis that has lost its
/// events may have numbered some below the newest one known.
const OVERLAP_MS: u64 = 60_000;

impl RedisEvents {
    /// The events of the tenant with these keys. Redis keeps about `kept` of them.
    pub(super) fn new(link: Link, keys: Keys, seals: Seals, kept: usize) -> Self {
        let subscription = link.subscribe(keys.named("news"));
        let news = Mutex::new(Messages { subscription, may_be_missed: false });
        Self {
            link,
            keys,
            seals,
            kept,
            add: Script::new(ADD),
            read_range: Script::reading(READ),
            me: rand::random(),
            sent: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            last: AtomicU64::new(0),
            began: Instant::now(),
            news,
            look: Notify::new(),
            read: StdMutex::default(),
        }
    }

    /// Adds an event that was fetched at that time. Redis gives it a number, above `known` if it can. Returns how
    /// many events this process had sent before. Without `what`, it says that events of this process are missing before it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], here and below. The event has not been told to this replica's own watchers
    /// then, and will not be, even if Redis takes it later for the others.
    pub async fn add(
        &self,
        agent: AgentId,
        what: impl Into<Option<What>>,
        fetched: Instant,
        known: u64,
    ) -> Result<u64, StoreError> {
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        match self.store((agent, what.into()), fetched, known, sent).await {
            Err(error) if self.is_left(sent) => Err(error),
            // It has come back, whatever has become of the answer.
            Err(_) | Ok(()) => Ok(sent),
        }
    }

    /// Leaves it to this process to tell an event that it has sent: the event is not told again when it comes. Returns
    /// `false` if it has come already.
    pub(super) fn is_left(&self, sent: u64) -> bool {
        self.read().is_left(self.me, sent)
    }

    /// How many events that this process has sent have come back, from the first to the last one that has.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Has the stream read, since an event of this process has not come back: its message may have been lost, or this
    /// process may listen to a server that nobody writes to any more.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }

    async fn store(
        &self,
        (agent, what): (AgentId, Option<What>),
        fetched: Instant,
        known: u64,
        sent: u64,
    ) -> Result<(), StoreError> {
        let times = [fetched.saturating_duration_since(self.began), fetched.elapsed()];
        let text = encode(&Told { agent, what, origin: Origin::now([self.me, sent], times) });
        let sealed =
            text.and_then(|text| self.seals.seal(Purpose::Event, "", text.as_bytes()).ok());
        let Some(sealed) = sealed else {
            return Err(StoreError::Unavailable("the event cannot be written down".into()));
        };
        let (millisecond, nth) = moment(known.saturating_add(1));
        let call = self.add.on(self.keys.named("events")).key(self.keys.named("events-set-aside"));
        let call = call.arg(self.kept).arg(sealed).arg(self.keys.named("news"));
        let call = call.arg(millisecond).arg(nth);
        let call = call.arg(millis(CLOCKS_APART_MAX));
        // Told twice it would be two events.
        let (id, aside): (String, u8) = self.link.script(&call, Repeat::Never).await?;
        match aside {
            0 => {}
            1 => self.seals.doubt(Doubt::EventNumber),
            _ => self.seals.doubt(Doubt::KeyType),
        }
        if number(&id).is_none() {
            let words = format!("it numbers events more than a day ahead of this clock: {id}");
            return Err(StoreError::Unavailable(words));
        }
        Ok(())
    }

    /// The latest `count` events, oldest first, or fewer if they are long.
    pub async fn latest(&self, count: usize) -> Result<News, StoreError> {
        let (mut latest, mut bytes, mut to) = (Vec::new(), 0, "+".to_owned());
        for _ in 0..ROUNDS_MAX {
            let left = count.saturating_sub(latest.len()).min(READ_AT_ONCE);
            let some = self.range("XREVRANGE", [&to, "-"], left).await?;
            let Some((oldest, _)) = some.last() else { break };
            to = format!("({oldest}");
            bytes += some.iter().map(|(_, sealed)| sealed.len()).sum::<usize>();
            latest.extend(some);
            if bytes >= LATEST_BYTES_MAX {
                break;
            }
        }
        latest.reverse();
        Ok(self.missed(self.opened(&latest), before(&latest), last_number(&latest)))
    }

    /// Waits a while for further events. Returns none if none has come, and may return events
    /// that it has returned before.
    pub async fn next(&self) -> Result<News, StoreError> {
        let mut news = self.news.lock().await;
        let Messages { subscription, may_be_missed } = &mut *news;
        if !*may_be_missed {
            let notice = tokio::select! {
                notice = subscription.next() => notice,
                () = self.look.notified() => Notice::Gap,
            };
            if let Notice::Message(message) = notice
                && let Some(news) = self.heard_message(&message)
            {
                return Ok(news);
            }
        }
        // Until it works: the subscription tells of a gap once.
        *may_be_missed = true;
        let caught_up = self.catch_up().await;
        if caught_up.is_err() {
            // Its messages would pile up meanwhile.
            subscription.close();
        }
        *may_be_missed = caught_up.is_err();
        Ok(caught_up?)
    }

    /// What follows from a message. `None`: the stream has to be read first, since the message of an earlier event of the same
    /// process has not come.
    fn heard_message(&self, message: &[u8]) -> Option<News> {
        let mut parts = message.splitn(2, |&byte| byte == b' ');
        let id = parts.next().and_then(|id| str::from_utf8(id).ok()).unwrap_or_default();
        let message = (id.to_owned(), parts.next().unwrap_or_default().to_vec());
        let opened = self.opened(&[message]).pop();
        if opened.as_ref().is_some_and(|(_, told)| self.read().is_after_gap(told.origin)) {
            return None;
        }
        let heard = opened.map(|opened| self.heard_of(opened, Some(Instant::now())));
        let Heard { gone, event } = heard.unwrap_or_default();
        let events = event.into_iter().collect();
        Some(match gone {
            Some(gone) => News::Cut { gone, events },
            None => News::Told(events),
        })
    }

    async fn range(
        &self,
        command: &str,
        range: [&str; 2],
        count: usize,
    ) -> Result<Vec<Raw>, LinkError> {
        let call = self.read_range.on(self.keys.named("events"));
        let call = call.arg(command).arg(&range).arg(count).arg(BYTES_AT_ONCE).arg(EVENT_MAX);
        self.link.script(&call, Repeat::Once).await
    }

    /// Reads all events after the last one: their messages may have come while this process did not
    /// listen. There are no more of them than Redis keeps, unless somebody else has added some. Then the
    /// latest are read, and those in between are left out.
    async fn catch_up(&self) -> Result<News, LinkError> {
        let last = self.last.load(Ordering::Relaxed);
        // A Redis that does not have the last one has lost or dropped it, and perhaps others that were never heard.
        let (mut is_there, mut beyond) = (last == 0, None);
        let (mut opened, mut gone, mut read_to) = (Vec::new(), None, 0);
        let mut from = format!("({}-0", moment(last).0.saturating_sub(OVERLAP_MS));
        for _ in 0..ROUNDS_MAX.max(2 * self.kept.div_ceil(READ_AT_ONCE)) {
            let some = self.range("XRANGE", [&from, "+"], READ_AT_ONCE).await?;
            let read_before = usize::from(some.first().is_some_and(|(id, _)| *id == from));
            let fresh = some.get(read_before..).unwrap_or_default();
            if read_before == 0 && !from.starts_with('(') {
                gone = gone.max(before(fresh));
            }
            opened.extend(self.opened(fresh));
            let Some((newest, _)) = fresh.last() else {
                if !is_there {
                    gone = gone.max(beyond.or(Some(last + 1)));
                }
                return Ok(self.missed(opened, gone, read_to));
            };
            from.clone_from(newest);
            let numbers = || fresh.iter().filter_map(|(id, _)| Some(number(id)?.1));
            is_there |= numbers().any(|number| number == last);
            beyond = beyond.or_else(|| Some(numbers().find(|number| *number > last)? - 1));
            read_to = numbers().next_back().unwrap_or(read_to);
        }
        let mut latest = self.range("XREVRANGE", ["+", "-"], self.kept).await?;
        latest.reverse();
        opened.extend(self.opened(&latest));
        let gone = before(&latest).unwrap_or(last).max(last);
        Ok(self.missed(opened, Some(gone), last_number(&latest)))
    }

    /// Events that were read, up to this number. All are noted at once, so that none counts as read before it is told.
    fn missed(&self, opened: Vec<Opened>, mut gone: Option<u64>, read_to: u64) -> News {
        let mut events = Vec::new();
        for opened in opened {
            // `None`: it is not known since when the stream has had them.
            let heard = self.heard_of(opened, None);
            gone = gone.max(heard.gone);
            events.extend(heard.event);
        }
        self.last.store(read_to, Ordering::Relaxed);
        match gone {
            Some(gone) => News::Cut { gone, events },
            None => News::Missed(events),
        }
    }

    /// Those of these events that are replicas'.
    fn opened(&self, raw: &[Raw]) -> Vec<Opened> {
        let open = |(id, sealed): &Raw| {
            let (millisecond, sequence) = number(id).ok_or(Doubt::EventNumber)?;
            let plain = self.seals.open(Purpose::Event, "", sealed).ok_or(Doubt::EventSeal)?;
            let told = str::from_utf8(&plain).ok().and_then(decode).ok_or(Doubt::EventSeal)?;
            let apart = Duration::from_millis(millisecond.abs_diff(told.origin.sent));
            if apart > CLOCKS_APART_MAX { Err(Doubt::EventRepeated) } else { Ok((sequence, told)) }
        };
        raw.iter().filter_map(|raw| self.believed(open(raw))).collect()
    }

    /// Notes an event. `heard` is when it was heard as it was published.
    fn heard_of(&self, (sequence, told): Opened, heard: Option<Instant>) -> Heard {
        let Told { agent, what, origin } = told;
        let found = self.read().note(origin, sequence);
        let is_own = origin.by == self.me;
        if is_own {
            self.heard.fetch_max(origin.nth.saturating_add(1), Ordering::Relaxed);
        }
        let gone = match self.believed(found) {
            // What was heard may have been read already, or it is the same message again. A process has told its own
            // events whenever it noted them.
            Some(Found::Again) if is_own || heard.is_some() => return Heard::default(),
            None => return Heard::default(),
            // Watches already know that a late one is missing, and may have been told later ones.
            Some(Found::Again | Found::Late) => None,
            Some(Found::New) => what.is_none().then_some(sequence),
            Some(Found::AfterGap) => Some(what.as_ref().map_or(sequence, |_| sequence - 1)),
            // This replica's watches know it by another number than those who come from other replicas.
            Some(Found::Left) => Some(sequence),
        };
        if !matches!(found, Ok(Found::Again | Found::Late)) {
            self.last.store(sequence, Ordering::Relaxed);
        }
        let what = what.filter(|_| !matches!(found, Ok(Found::Left | Found::Late)));
        // Not the time in its number: Redis numbers on from whatever somebody has added.
        let received_at = UNIX_EPOCH.checked_add(Duration::from_millis(origin.sent));
        let event = what.zip(received_at).map(|(what, received_at)| {
            let fetched = self.fetched(origin, heard).unwrap_or(Fetched::Unknown);
            Event { sequence, received_at, agent, what, fetched }
        });
        Heard { gone, event }
    }

    fn believed<T>(&self, found: Result<T, Doubt>) -> Option<T> {
        found.inspect_err(|doubt| self.seals.doubt(*doubt)).ok()
    }

    fn fetched(
        &self,
        Origin { by, at, age, .. }: Origin,
        heard: Option<Instant>,
    ) -> Option<Fetched> {
        if by == self.me {
            return self.began.checked_add(Duration::from_micros(at)).map(Fetched::Here);
        }
        heard?.checked_sub(Duration::from_micros(age)).map(Fetched::ElsewhereBy)
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number before the first of these events.
fn before(events: &[Raw]) -> Option<u64> {
    let first = events.iter().find_map(|(id, _)| number(id))?;
    first.1.checked_sub(1)
}

/// The number of the last of these events; 0 if there is none.
fn last_number(events: &[Raw]) -> u64 {
    events.iter().rev().find_map(|(id, _)| number(id)).map_or(0, |(_, number)| number)
}

/// Reads a stream's id: its millisecond, and the event's number made of it. `None` if it is none, or is too far
/// ahead of the clock.
fn number(id: &str) -> Option<(u64, u64)> {
    let (millisecond, nth) = id.split_once('-')?;
    let millisecond = millisecond.parse().ok().filter(|&millis| is_believable(millis))?;
    Some((millisecond, sequence(millisecond, nth.parse().ok()?)))
}

impl fmt::Debug for RedisEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEvents").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::millis_now;

    #[test]
    fn a_number_is_believed_up_to_a_day_ahead_and_has_one_after_it() {
        let now = millis_now();
        assert_eq!(number(&format!("{now}-3")).map(|(_, it)| moment(it)), Some((now, 3)));
        let nth = u64::MAX;
        let highest = number(&format!("{now}-{nth}")).expect("a number").1;
        assert_eq!(moment(highest), (now, (1 << 20) - 1));
        let apart = millis(CLOCKS_APART_MAX);
        assert!(number(&format!("{}-0", now + apart - 60_000)).is_some());
        for bad in [format!("{}-0", now + apart + 60_000), format!("{nth}-{nth}"), "x".into()] {
            assert_eq!(number(&bad), None, "{bad}");
        }
        assert!(sequence(nth, nth).checked_add(1).is_some());
    }
}
