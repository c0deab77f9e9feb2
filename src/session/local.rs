use std::{
    collections::{HashMap, hash_map},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{Claim, NewSession, Session, StoreError};
use crate::id::AgentId;

/// What a process knows of sessions by itself.
#[derive(Debug)]
pub struct Local {
    entries: Mutex<HashMap<AgentId, Entry>>,
    /// Agents with a place reserved, each as often as it is. Locked after the entries.
    reserved: Mutex<Vec<AgentId>>,
    /// One for all agents, so that versions grow over a sign-out too.
    last_version: AtomicU64,
    capacity: NonZeroUsize,
}

/// What is known of one agent.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Grows with each change of the agent's session.
    pub version: u64,
    /// `None`: it has ended with this version, and what is older must not bring it back.
    pub session: Option<Arc<Session>>,
    /// Whether it has ended by a sign-out.
    pub signed_out: bool,
    /// A renewal by the gateway starts the time anew.
    pub ttl: Option<Duration>,
    /// Whether it is only known here.
    pub unsynced: bool,
    since: Instant,
}

/// A place in a store for the session of an agent who is being signed in, whatever else is stored
/// meanwhile; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    local: Arc<Local>,
    agent: AgentId,
}

/// What became of an entry that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is what is known now.
    Yes,
    /// What is known is newer.
    Older,
    /// There is no room for it.
    Full,
}

/// How long the end of a session is remembered, against what is on its way still and against a
/// replica that was cut off; as long as in a shared store. There is at most one for each agent.
const END_KEPT: Duration = Duration::from_secs(60 * 60);

// === impl Entry ===

impl Entry {
    /// A session that is stored now.
    pub fn new(version: u64, new: NewSession) -> Self {
        let NewSession { guid, origin, ttl, cookies } = new;
        let session = Session {
            guid,
            origin,
            version,
            renewed_at: SystemTime::now(),
            expires_at: ttl.map(|ttl| Instant::now() + ttl),
            cookies,
        };
        Self::known(version, Some(Arc::new(session)), ttl)
    }

    /// The end of a session.
    pub fn end(version: u64, signed_out: bool) -> Self {
        Self { signed_out, ..Self::known(version, None, None) }
    }

    /// What is known of this version, and the time that a renewal begins anew.
    pub fn known(version: u64, session: Option<Arc<Session>>, ttl: Option<Duration>) -> Self {
        let since = Instant::now();
        Self { version, session, signed_out: false, ttl, unsynced: false, since }
    }

    /// The session, if it is still good.
    pub fn live(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| !session.is_expired())
    }

    /// Whether it is an end that is of no use to anybody else any more.
    pub fn is_old_end(&self) -> bool {
        self.session.is_none() && !self.unsynced && self.since.elapsed() >= END_KEPT
    }

    /// That an agent was signed out is known until there is a session again: this process may have
    /// a password for as long.
    fn may_go(&self) -> bool {
        match &self.session {
            Some(session) => session.is_expired(),
            None => self.is_old_end() && !self.signed_out,
        }
    }
}

// === impl Local ===

impl Local {
    /// Nothing yet, with room for `capacity` sessions.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            entries: Mutex::default(),
            reserved: Mutex::default(),
            last_version: AtomicU64::new(0),
            capacity,
        }
    }

    /// The session, if it is known and still good.
    pub fn get(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.entries().get(&agent)?.live().cloned()
    }

    /// All that is known.
    pub fn entry(&self, agent: AgentId) -> Option<Entry> {
        self.entries().get(&agent).cloned()
    }

    /// How many sessions are known.
    pub fn sessions(&self) -> usize {
        self.entries().values().filter(|entry| entry.session.is_some()).count()
    }

    /// The agents of whom something is known.
    pub fn agents(&self) -> Vec<AgentId> {
        self.entries().keys().copied().collect()
    }

    /// Those of whom something is only known here.
    pub fn unsynced(&self) -> Vec<AgentId> {
        let entries = self.entries();
        entries.iter().filter(|(_, entry)| entry.unsynced).map(|(agent, _)| *agent).collect()
    }

    /// What is answered where there is no room.
    pub fn full(&self) -> StoreError {
        StoreError::Full(self.capacity)
    }

    /// Forgets what is of no use any more.
    pub fn tidy(&self) {
        self.entries().retain(|_, entry| !entry.may_go());
    }

    /// Whether there is room for a session of the agent's, if need be by forgetting what is of no use.
    pub fn has_room(&self, agent: AgentId) -> bool {
        self.make_room(&mut self.entries(), agent)
    }

    /// Takes a place for the session of an agent who is being signed in.
    pub fn reserve(self: &Arc<Self>, agent: AgentId) -> Option<Reservation> {
        let mut entries = self.entries();
        let there_is = self.make_room(&mut entries, agent);
        there_is.then(|| {
            self.reserved().push(agent);
            Reservation { local: self.clone(), agent }
        })
    }

    /// A version above `known` and above each one given before. It is the time in microseconds
    /// where that is higher, so that versions grow over a restart too.
    pub fn next_version(&self, known: u64) -> u64 {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(time.as_micros()).unwrap_or_default();
        let next = |last: u64| (last.max(known) + 1).max(time);
        let update = self
            .last_version
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        update.map_or(known + 1, next)
    }

    /// The right to store what is asked for now in the place of this version.
    pub fn claim(&self, replaces: u64) -> Claim {
        Claim { replaces, version: self.next_version(replaces) }
    }

    /// Notes a version that another process has given.
    pub fn saw_version(&self, version: u64) {
        self.last_version.fetch_max(version, Ordering::Relaxed);
    }

    /// The highest version that was given or seen.
    pub fn last_version(&self) -> u64 {
        self.last_version.load(Ordering::Relaxed)
    }

    /// Takes in what is newer than what is known. Of two that claim one version, the one that all
    /// share is right.
    pub fn offer(&self, agent: AgentId, entry: Entry) -> Taken {
        let mut entries = self.entries();
        self.offer_to(&mut entries, agent, entry)
    }

    /// The same, unless what is known is above the version that the entry is to replace.
    pub fn offer_over(&self, agent: AgentId, entry: Entry, replaces: u64) -> Taken {
        let mut entries = self.entries();
        if entries.get(&agent).is_some_and(|known| known.version > replaces) {
            return Taken::Older;
        }
        self.offer_to(&mut entries, agent, entry)
    }

    /// Takes in an entry of the next version, made by `make`.
    pub fn put(
        &self,
        agent: AgentId,
        make: impl FnOnce(u64) -> Entry,
    ) -> Result<Entry, StoreError> {
        // Locked first, so that the higher version is the later one.
        let mut entries = self.entries();
        let known = entries.get(&agent).map_or(0, |entry| entry.version);
        let entry = make(self.next_version(known));
        match self.offer_to(&mut entries, agent, entry.clone()) {
            Taken::Full => Err(self.full()),
            Taken::Yes | Taken::Older => Ok(entry),
        }
    }

    /// The same, if `version` is the session's, whether or not its time has passed.
    pub fn replace(
        &self,
        agent: AgentId,
        version: u64,
        make: impl FnOnce(u64, &Entry) -> Entry,
    ) -> Option<Entry> {
        let mut entries = self.entries();
        let known = entries.get_mut(&agent)?;
        if known.version != version || known.session.is_none() {
            return None;
        }
        let entry = make(self.next_version(version), known);
        *known = entry.clone();
        Some(entry)
    }

    /// Notes that what is known of an agent is shared by now, if it still is of this version.
    pub fn shared(&self, agent: AgentId, version: u64) {
        if let Some(entry) = self.entries().get_mut(&agent).filter(|e| e.version == version) {
            entry.unsynced = false;
        }
    }

    /// Forgets the session of this version without a trace; tells whether it was there.
    pub fn forget(&self, agent: AgentId, version: u64) -> bool {
        match self.entries().entry(agent) {
            hash_map::Entry::Occupied(entry) if entry.get().version == version => {
                entry.remove();
                true
            }
            _ => false,
        }
    }

    fn offer_to(
        &self,
        entries: &mut HashMap<AgentId, Entry>,
        agent: AgentId,
        entry: Entry,
    ) -> Taken {
        self.saw_version(entry.version);
        if let Some(known) = entries.get(&agent) {
            let same = known.version == entry.version && known.unsynced && !entry.unsynced;
            if known.version >= entry.version && !same {
                return Taken::Older;
            }
        }
        // The end of a session takes no room from others: there may be one for each of them.
        if entry.session.is_some() && !self.make_room(entries, agent) {
            return Taken::Full;
        }
        entries.insert(agent, entry);
        Taken::Yes
    }

    /// Makes room by forgetting what has expired; a live session is never given up for another, and
    /// neither is a place that is reserved for another.
    fn make_room(&self, entries: &mut HashMap<AgentId, Entry>, agent: AgentId) -> bool {
        let reserved = self.reserved();
        if entries.contains_key(&agent) || reserved.contains(&agent) {
            return true;
        }
        if entries.len() + reserved.len() < self.capacity.get() {
            return true;
        }
        entries.retain(|_, entry| !entry.may_go());
        let live = entries.values().filter(|entry| entry.session.is_some()).count();
        let holds = |agent| entries.get(agent).is_some_and(|entry| entry.session.is_some());
        let promised = reserved.iter().filter(|agent| !holds(agent)).count();
        live + promised < self.capacity.get()
    }

    fn reserved(&self) -> MutexGuard<'_, Vec<AgentId>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.local.reserved();
        if let Some(place) = reserved.iter().position(|agent| *agent == self.agent) {
            reserved.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    #[tokio::test(start_paused = true)]
    async fn an_end_is_forgotten_and_a_sign_out_is_not() {
        let local = Local::new(NonZeroUsize::MIN);
        let agents =
            ["1001", "1002"].map(|id| AgentId::parse(id, &DEFAULT_AGENT_IDS).expect("an agent"));
        for (agent, signed_out) in agents.into_iter().zip([false, true]) {
            local.offer(agent, Entry::end(7, signed_out));
        }
        tokio::time::advance(END_KEPT).await;
        local.tidy();
        assert_eq!(local.agents(), agents[1..]);
        assert!(local.entry(agents[1]).is_some_and(|entry| entry.is_old_end()));
    }
}
