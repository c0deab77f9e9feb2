mod expiry;
mod known;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use self::known::{Known, Places};
use super::{Claim, Guid, NewSession, Origin, Session, StoreError};
use crate::id::{AgentId, Parts};

/// What a process knows of sessions by itself. Each part of the agents has a lock of its own, and nobody holds two.
#[derive(Debug)]
pub struct Local {
    parts: Parts<Mutex<Known>>,
    places: Arc<Places>,
    /// One for all agents, so that versions grow over a sign-out too.
    last_version: AtomicU64,
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
    /// The session that a sign-out has ended, by its [`made`](Session::made): no renewal of it is good any more, whatever
    /// its version.
    pub ended: Option<u64>,
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
    /// It was renewed, or given up, while another process signed the agent out, or the other way round. So what is known now is
    /// an end that is newer than both, and that nobody else knows yet.
    SignedOut,
}

/// How long the end of a session is remembered, against what is on its way still and against a
/// replica that was cut off; as long as in a shared store. There is at most one for each agent.
const END_KEPT: Duration = Duration::from_secs(60 * 60);

/// A part with at least so many entries for each allowed session no longer remembers which expired sessions their owners had
/// registered.
const LET_GO_TIMES: usize = 4;

/// How many sessions a call may forget to make room. That takes it less than a millisecond.
const DROPPED_AT_ONCE: usize = 1_000;

/// How many expired sessions are forgotten for each one that is taken in. With more than one, few are left after a while, so
/// that the places in use are about those of sessions that are good.
const DROPPED_FOR_EACH: usize = 2;

/// How long after its time a session is left alone by those that come while there is room: the answer to a request that was
/// sent in time may still renew it. By default, no request takes as long.
const LATE_ANSWERS: Duration = Duration::from_secs(60);

// === impl Entry ===

impl Entry {
    /// A session that is stored now.
    pub fn new(version: u64, new: NewSession) -> Self {
        Self::made_at(version, version, new)
    }

    /// This session with a new Guid. Its time to live begins again.
    pub fn renewed(version: u64, old: &Session, guid: Guid, ttl: Option<Duration>) -> Self {
        let (origin, cookies) = (old.origin, old.cookies.clone());
        Self::made_at(old.made, version, NewSession { guid, origin, ttl, cookies })
    }

    fn made_at(made: u64, version: u64, new: NewSession) -> Self {
        let NewSession { guid, origin, ttl, cookies } = new;
        let session = Session {
            guid,
            origin,
            version,
            made,
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

    /// The end by a sign-out of the session that was [`made`](Session::made) with this version.
    pub fn signed_out(version: u64, made: u64) -> Self {
        Self { ended: Some(made), ..Self::end(version, true) }
    }

    /// What is known of this version, and the time that a renewal begins anew.
    pub fn known(version: u64, session: Option<Arc<Session>>, ttl: Option<Duration>) -> Self {
        let since = Instant::now();
        Self { version, session, signed_out: false, ended: None, ttl, unsynced: false, since }
    }

    /// The session, if it is still good.
    pub fn live(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| !session.is_expired())
    }

    /// The end that follows if one of two entries is a sign-out and the other a renewal of the session which that has ended:
    /// whoever renewed it did not know of the sign-out. Also where both end one version, and this one proves more than the
    /// other: whoever gave the session up did not know that the agent was signed out. `None`: the newer one counts.
    pub fn sign_out_over(&self, other: &Self) -> Option<Self> {
        let (end, renewed) = if self.session.is_none() { (self, other) } else { (other, self) };
        let Some(session) = &renewed.session else { return self.proven_over(other) };
        if end.ended != Some(session.made) || end.version > renewed.version {
            return None;
        }
        let end = Self::signed_out(renewed.version.saturating_add(1), session.made);
        Some(Self { unsynced: true, ..end })
    }

    /// Whether both end one version, and this one proves more than the other.
    fn is_better_end(&self, other: &Self) -> bool {
        let proof = |end: &Self| (end.ended.is_some(), end.signed_out);
        let are_ends = self.session.is_none() && other.session.is_none();
        are_ends && self.version == other.version && proof(self) > proof(other)
    }

    fn proven_over(&self, other: &Self) -> Option<Self> {
        if !self.is_better_end(other) {
            return None;
        }
        let end = Self::end(self.version.saturating_add(1), self.signed_out);
        Some(Self { ended: self.ended, unsynced: true, ..end })
    }

    /// Whether it is an end that is of no use to anybody else any more.
    pub fn is_old_end(&self) -> bool {
        self.session.is_none() && !self.unsynced && self.since.elapsed() >= END_KEPT
    }

    /// What is left of a session whose time is over: that it was its owner's, since what a caller once gave must not be used
    /// for the agent any more.
    fn let_go(&self) -> Option<Self> {
        let owners = self.session.as_ref().filter(|session| session.origin == Origin::Registered);
        let end = || Self { session: None, signed_out: true, unsynced: false, ..self.clone() };
        owners.is_some().then(end)
    }

    /// When the entry can be forgotten; `None`: never, as it is now. A sign-out is remembered
    /// until there is a session again, since this process may hold the agent's password that long.
    fn expires_at(&self) -> Option<Instant> {
        match &self.session {
            Some(session) => session.expires_at,
            None if self.unsynced || self.signed_out => None,
            None => Some(self.since + END_KEPT),
        }
    }
}

// === impl Local ===

impl Local {
    /// Nothing yet, with room for `capacity` sessions.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let places = Arc::new(Places::new(capacity));
        let parts = Parts::for_agents(capacity, || Mutex::new(Known::new(places.clone())));
        Self { parts, places, last_version: AtomicU64::new(0) }
    }

    /// Has room for `capacity` sessions from now on. Those that there are stay.
    pub fn set_capacity(&self, capacity: NonZeroUsize) {
        self.places.set_most(capacity);
    }

    /// The session, if it is known and still good.
    pub fn get(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.known(agent).entries.get(&agent)?.live().cloned()
    }

    /// Whether the agent was signed out, or its session is its owner's, also if its time is over.
    pub fn is_let_go(&self, agent: AgentId) -> bool {
        self.known(agent).entries.get(&agent).is_some_and(|entry| match &entry.session {
            Some(session) => session.origin == Origin::Registered,
            None => entry.signed_out,
        })
    }

    /// The agents whose sessions the bridge has made and that are still good.
    pub fn signed_in(&self) -> Vec<AgentId> {
        self.agents_with(|entry| entry.live().is_some_and(|it| it.origin == Origin::SignedIn))
    }

    /// All that is known.
    pub fn entry(&self, agent: AgentId) -> Option<Entry> {
        self.known(agent).entries.get(&agent).cloned()
    }

    /// How many sessions are known, expired ones too until they are forgotten.
    pub fn sessions(&self) -> usize {
        self.parts.all().map(|part| lock(part).sessions).sum()
    }

    /// The agents of whom something is known.
    pub fn agents(&self) -> Vec<AgentId> {
        self.agents_with(|_| true)
    }

    /// Those of whom something is only known here.
    pub fn unsynced(&self) -> Vec<AgentId> {
        self.agents_with(|entry| entry.unsynced)
    }

    fn agents_with(&self, is_wanted: impl Fn(&Entry) -> bool) -> Vec<AgentId> {
        let mut agents = Vec::new();
        for part in self.parts.all() {
            let known = lock(part);
            let wanted = known.entries.iter().filter(|(_, entry)| is_wanted(entry));
            agents.extend(wanted.map(|(agent, _)| *agent));
        }
        agents
    }

    /// What is answered where there is no room.
    pub fn full(&self) -> StoreError {
        StoreError::Full(self.places.most())
    }

    /// Forgets what is of no use any more.
    pub fn tidy(&self) {
        let (now, most) = (Instant::now(), self.entries_max());
        for part in self.parts.all() {
            let mut known = lock(part);
            while known.drop_expired_session(now, most) || known.drop_old_end(now) {}
        }
    }

    /// Whether there is room for a session of the agent's, if need be by forgetting what is of no use.
    pub fn has_room(&self, agent: AgentId) -> bool {
        self.with_room(|| self.known(agent).has_room(agent).then_some(())).is_some()
    }

    /// Takes a place for the session of an agent who is being signed in.
    pub fn reserve(self: &Arc<Self>, agent: AgentId) -> Option<Reservation> {
        self.with_room(|| {
            let mut known = self.known(agent);
            known.take_place(agent).then(|| known.reserve(agent))
        })?;
        Some(Reservation { local: self.clone(), agent })
    }

    /// Does what needs room, and does it again while that can be made by forgetting what has expired, or another call has
    /// made some. A live session is never given up for another, and neither is a place that is reserved for another. `None`:
    /// there is no room.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let done = attempt();
            if done.is_some() || (!self.drop_expired(Instant::now()) && !self.places.are_left()) {
                return done;
            }
        }
    }

    /// Forgets some sessions whose time has been over for long.
    pub fn drop_long_expired(&self) {
        if let Some(then) = before_late_answers() {
            self.drop_expired(then);
        }
    }

    /// Forgets some sessions whose time was over by `then`; tells whether there were any.
    fn drop_expired(&self, then: Instant) -> bool {
        let mut dropped = 0;
        for part in self.parts.all() {
            dropped += self.drop_expired_of(&mut lock(part), then, DROPPED_AT_ONCE - dropped);
        }
        dropped > 0
    }

    /// Forgets sessions of a part whose time was over by `then`, but not more than `most`; tells how many there were.
    fn drop_expired_of(&self, known: &mut Known, then: Instant, most: usize) -> usize {
        let entries_max = self.entries_max();
        (0..most).take_while(|_| known.drop_expired_session(then, entries_max)).count()
    }

    /// From this many entries on, a part no longer remembers that an expired session was its owner's.
    fn entries_max(&self) -> usize {
        let all = self.places.most().get().saturating_mul(LET_GO_TIMES);
        all.div_ceil(self.parts.all().count())
    }

    /// A version above `known` and above each one given before. It is the time in microseconds
    /// where that is higher, so that versions grow over a restart too.
    pub fn next_version(&self, known: u64) -> u64 {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(time.as_micros()).unwrap_or_default();
        let next = |last: u64| last.max(known).saturating_add(1).max(time);
        let update = self
            .last_version
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        update.map_or(known.saturating_add(1), next)
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
    /// share is right, and of two ends the one that proves more. A session that was signed out stays out,
    /// also if it was renewed meanwhile.
    pub fn offer(&self, agent: AgentId, entry: &Entry) -> Taken {
        self.offer_over(agent, entry, u64::MAX)
    }

    /// The same, unless what is known is above the version that the entry is to replace.
    pub fn offer_over(&self, agent: AgentId, entry: &Entry, replaces: u64) -> Taken {
        let taken = self.with_room(|| {
            let mut known = self.known(agent);
            if known.entries.get(&agent).is_some_and(|known| known.version > replaces) {
                return Some(Taken::Older);
            }
            self.offer_to(&mut known, agent, entry)
        });
        taken.unwrap_or(Taken::Full)
    }

    /// Takes in a session with the next version.
    pub fn put(&self, agent: AgentId, new: &NewSession) -> Result<Entry, StoreError> {
        let put = self.with_room(|| {
            // Locked first, so that the higher version is the later one.
            let mut known = self.known(agent);
            let version = known.entries.get(&agent).map_or(0, |entry| entry.version);
            let entry = Entry::new(self.next_version(version), new.clone());
            self.offer_to(&mut known, agent, &entry).map(|_| entry)
        });
        put.ok_or_else(|| self.full())
    }

    /// Takes in an entry of the next version, made by `make`, if `version` is the session's, whether or not its time has
    /// passed.
    pub fn replace(
        &self,
        agent: AgentId,
        version: u64,
        make: impl FnOnce(u64, &Entry) -> Entry,
    ) -> Option<Entry> {
        let mut known = self.known(agent);
        let old = known.entries.get(&agent)?;
        if old.version != version || old.session.is_none() {
            return None;
        }
        let entry = make(self.next_version(version), old);
        known.set(agent, entry.clone());
        Some(entry)
    }

    /// Notes that what is known of an agent is shared by now, if it still is of this version.
    pub fn shared(&self, agent: AgentId, version: u64) {
        let mut known = self.known(agent);
        if let Some(entry) = known.entries.get(&agent).filter(|entry| entry.version == version) {
            let entry = Entry { unsynced: false, ..entry.clone() };
            known.set(agent, entry);
        }
    }

    /// Forgets the session of this version without a trace; tells whether it was there.
    pub fn forget(&self, agent: AgentId, version: u64) -> bool {
        let mut known = self.known(agent);
        let is_it = known.entries.get(&agent).is_some_and(|entry| entry.version == version);
        if is_it {
            known.forget(agent);
        }
        is_it
    }

    /// `None`: there is no room for it.
    fn offer_to(&self, known: &mut Known, agent: AgentId, entry: &Entry) -> Option<Taken> {
        self.saw_version(entry.version);
        let end = known.entries.get(&agent).and_then(|known| known.sign_out_over(entry));
        if let Some(end) = end {
            self.saw_version(end.version);
            known.set(agent, end);
            return Some(Taken::SignedOut);
        }
        if let Some(known) = known.entries.get(&agent) {
            let is_shared = known.version == entry.version && known.unsynced && !entry.unsynced;
            if known.version >= entry.version && !is_shared && !entry.is_better_end(known) {
                return Some(Taken::Older);
            }
        }
        // The end of a session takes no room from others: there may be one for each of them.
        if entry.session.is_some() {
            // First, since one of them may be the agent's own, whose place goes with it.
            if let Some(then) = before_late_answers() {
                self.drop_expired_of(known, then, DROPPED_FOR_EACH);
            }
            if !known.take_place(agent) {
                return None;
            }
        }
        known.set(agent, entry.clone());
        Some(Taken::Yes)
    }

    fn known(&self, agent: AgentId) -> MutexGuard<'_, Known> {
        lock(self.parts.of(agent))
    }
}

/// No answer comes any more for a session whose time was over by then. `None`: the machine has not been up for as long.
fn before_late_answers() -> Option<Instant> {
    Instant::now().checked_sub(LATE_ANSWERS)
}

fn lock(part: &Mutex<Known>) -> MutexGuard<'_, Known> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        self.local.known(self.agent).release(self.agent);
    }
}

#[cfg(test)]
mod tests;
