//! Heartbeats of a tenant's replicas, by which they know each other.

mod missing;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use self::missing::Missing;
use super::{
    ReplicaId,
    seals::{CLOCKS_APART_MAX, Seals},
};
use crate::{
    keyring::Purpose,
    session::Doubt,
    telemetry::log::LogInterval,
    time::{millis, millis_now},
};

/// What this replica knows of the others of a tenant by their heartbeats.
///
/// The list of replicas in the store is one of heartbeats. A store that takes no writes still carries
/// messages. So replicas that cannot renew their entry in the list publish heartbeats instead. Each receives
/// those of all, including its own.
///
/// Whoever can write to the store can set back the heartbeats of a replica that has died, one after the other. So each
/// names the replicas whose heartbeats its replica has heard: an old one cannot name a replica that has started since.
#[derive(Debug)]
pub struct Heartbeats {
    me: ReplicaId,
    /// How long a lease lasts.
    time: Duration,
    seals: Seals,
    began: Instant,
    /// How many heartbeats this process has made.
    made: AtomicU64,
    /// The highest number of its requests for leases.
    requests: AtomicU64,
    /// Whether this replica goes away.
    leaves: AtomicBool,
    heard: Mutex<HashMap<ReplicaId, Heard>>,
    missing: Mutex<Missing>,
    /// When it was last said that the clock of another replica is ahead.
    told_ahead: LogInterval,
}

/// What is known of one replica.
#[derive(Debug)]
struct Heard {
    /// How many heartbeats it had made before its latest one.
    nth: u64,
    /// When that was received.
    at: Instant,
    /// When one was last received as a message; `None` also if it says that its replica goes away.
    called: Option<Instant>,
    /// Since when heartbeats have been received without a gap of a lease.
    since: Instant,
    /// When it was made, by the clock of its replica, in milliseconds since 1970.
    made: u64,
    /// When the latest one was received that names this replica.
    named: Option<Instant>,
    /// The numbers of its requests for leases, and when they were heard: the oldest one that still counts, and newer
    /// ones.
    requests: VecDeque<(Instant, u64)>,
}

/// A heartbeat before it is sealed.
#[derive(Serialize, Deserialize)]
struct Heartbeat {
    replica: u64,
    /// How many the replica had made before.
    nth: u64,
    /// When it was made, in milliseconds since 1970.
    made: u64,
    /// The highest number of its requests for leases.
    requests: u64,
    /// The replicas whose heartbeats it has heard lately.
    heard: Vec<u64>,
    /// Whether it goes away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaves: bool,
}

/// How a heartbeat has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As a message.
    Called,
    /// In the list of replicas.
    Listed,
}

/// The beginning of a heartbeat message; the sealed heartbeat follows.
const ALIVE: &[u8] = b"alive:";
/// The longest sealed heartbeat that is read.
pub(super) const HEARTBEAT_MAX: usize = 4096;
/// The most replicas that a heartbeat names. There never are so many.
const NAMED_MAX: usize = 64;
/// How far the clocks of replicas may be apart until it is said.
const CLOCKS_AGREE_WITHIN: Duration = Duration::from_secs(5);
/// The shortest time between two log lines about that.
const TELL_AHEAD_EVERY: Duration = Duration::from_secs(600);
/// How long a replica is remembered that tells nothing new. After that its heartbeats are not from now.
const REMEMBERED: Duration = Duration::from_secs(2 * 24 * 60 * 60);

impl Heartbeats {
    pub(super) fn new(me: ReplicaId, time: Duration, seals: Seals) -> Self {
        let (made, requests, leaves, heard, missing, told_ahead) = <_>::default();
        let began = Instant::now();
        Self { me, time, seals, began, made, requests, leaves, heard, missing, told_ahead }
    }

    /// This replica.
    pub(super) fn me(&self) -> ReplicaId {
        self.me
    }

    /// What seals the heartbeats.
    pub(super) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// The next heartbeat of this replica, sealed; `None` if it cannot be sealed.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let heard = self.heard();
        let mut latest: Vec<_> =
            heard.iter().filter(|(_, heard)| heard.at.elapsed() < 2 * self.time).collect();
        // Somebody may bring back heartbeats of any number of replicas that have gone, so those that live come first.
        latest.sort_by_key(|(replica, heard)| (!self.lives(**replica, heard), heard.at.elapsed()));
        let heard = latest.into_iter().take(NAMED_MAX).map(|(ReplicaId(id), _)| *id).collect();
        let heartbeat = Heartbeat {
            replica: self.me.0,
            nth: self.made.fetch_add(1, Ordering::Relaxed),
            made: millis_now(),
            requests: self.requests.load(Ordering::Relaxed),
            heard,
            leaves: self.leaves.load(Ordering::Relaxed),
        };
        let plain = serde_json::to_vec(&heartbeat).ok()?;
        self.seals.seal(Purpose::Heartbeat, "", &plain).ok()
    }

    /// The message with a heartbeat.
    pub(super) fn message(sealed: &[u8]) -> Vec<u8> {
        [ALIVE, sealed].concat()
    }

    /// Notes a heartbeat that was published. Returns whether the message was one.
    pub(crate) fn receive(&self, message: &[u8]) -> bool {
        let Some(sealed) = message.strip_prefix(ALIVE) else { return false };
        self.read_by(sealed, Way::Called);
        true
    }

    /// Reads a heartbeat of the list, and returns whose it is. `None` if no replica has sealed it, or it is not from now.
    pub(super) fn read(&self, sealed: &[u8]) -> Option<ReplicaId> {
        self.read_by(sealed, Way::Listed)
    }

    fn read_by(&self, sealed: &[u8], way: Way) -> Option<ReplicaId> {
        let heartbeat = self.opened(sealed);
        if heartbeat.is_none() {
            self.seals.doubt(Doubt::Heartbeat);
        }
        let heartbeat = heartbeat?;
        let replica = ReplicaId(heartbeat.replica);
        self.note(replica, &heartbeat, way);
        Some(replica)
    }

    fn opened(&self, sealed: &[u8]) -> Option<Heartbeat> {
        let sealed = Some(sealed).filter(|sealed| sealed.len() <= HEARTBEAT_MAX)?;
        let plain = self.seals.open(Purpose::Heartbeat, "", sealed)?;
        let heartbeat = serde_json::from_slice::<Heartbeat>(&plain).ok()?;
        let apart = millis_now().abs_diff(heartbeat.made);
        (apart <= millis(CLOCKS_APART_MAX)).then_some(heartbeat)
    }

    fn note(&self, replica: ReplicaId, heartbeat: &Heartbeat, way: Way) {
        let (now, names_me) = (Instant::now(), heartbeat.heard.contains(&self.me.0));
        let mut all = self.heard();
        if !all.contains_key(&replica) {
            all.retain(|_, heard| heard.at.elapsed() < REMEMBERED);
        } else if all.get(&replica).is_some_and(|heard| heard.nth >= heartbeat.nth) {
            return;
        }
        let heard = all.entry(replica).or_insert_with(|| Heard {
            nth: 0,
            at: now,
            called: None,
            since: now,
            made: 0,
            named: None,
            requests: VecDeque::new(),
        });
        if heard.at.elapsed() >= self.time {
            heard.since = now;
        }
        self.compare_clocks(heartbeat);
        (heard.nth, heard.at, heard.made) = (heartbeat.nth, now, heartbeat.made);
        if way == Way::Called {
            heard.called = Some(now);
        }
        heard.called = heard.called.filter(|_| !heartbeat.leaves);
        if names_me {
            heard.named = Some(now);
            self.missing().found(replica);
        }
        heard.requests.push_back((now, heartbeat.requests));
        while heard.requests.get(1).is_some_and(|(at, _)| at.elapsed() >= self.time) {
            heard.requests.pop_front();
        }
    }

    /// Says now and then that the clock of another replica is ahead. If it is behind, that replica says so: a heartbeat that
    /// was made earlier may only have been on its way for long.
    fn compare_clocks(&self, heartbeat: &Heartbeat) {
        let ahead = Duration::from_millis(heartbeat.made.saturating_sub(millis_now()));
        if ahead <= CLOCKS_AGREE_WITHIN || !self.told_ahead.is_due(TELL_AHEAD_EVERY) {
            return;
        }
        let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
        warn!(ccgw.tenant.id = %self.seals.tenant(), "the clock of another replica is {ahead} ahead of the one here: what has a time ends too early or too late at one of them; have both set their clocks by the network (NTP)");
    }

    /// Whether a heartbeat of the replica was received lately.
    pub(super) fn is_heard(&self, replica: ReplicaId) -> bool {
        self.heard().get(&replica).is_some_and(|heard| heard.at.elapsed() < 2 * self.time)
    }

    /// Whether the replica lives: it has told something new lately, and has heard of this one. Until this one has had
    /// time to be heard, the others are believed without that.
    pub(super) fn is_alive(&self, replica: ReplicaId) -> bool {
        let heard = self.heard();
        heard.get(&replica).is_some_and(|heard| self.lives(replica, heard))
    }

    fn lives(&self, replica: ReplicaId, heard: &Heard) -> bool {
        let lately = |at: Instant| at.elapsed() < 2 * self.time;
        lately(heard.at)
            && (lately(self.began) || replica == self.me || heard.named.is_some_and(lately))
    }

    /// The other replicas that live and have called for themselves within a lease, and have not said that they go away.
    pub(super) fn calling(&self) -> BTreeSet<ReplicaId> {
        let heard = self.heard();
        let calls = |heard: &Heard| heard.called.is_some_and(|at| at.elapsed() < self.time);
        let live = heard.iter().filter(|(id, heard)| calls(heard) && self.lives(**id, heard));
        live.map(|(replica, _)| *replica).collect()
    }

    /// Notes whether this replica goes away.
    pub(super) fn leaves(&self, leaves: bool) {
        self.leaves.store(leaves, Ordering::Relaxed);
    }

    /// Notes the number of a request for leases.
    pub(super) fn asked(&self, request: u64) {
        self.requests.fetch_max(request, Ordering::Relaxed);
    }

    /// The highest number of its requests for leases.
    pub(super) fn last_request(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether a lease that this request has taken, and that its replica has sealed, may be good still. It is not if
    /// the replica has made others since for as long as a lease lasts, or if it has not been heard for long.
    pub(super) fn may_hold(&self, replica: ReplicaId, request: u64) -> bool {
        if replica == self.me {
            return true;
        }
        let heard = self.heard();
        let known = heard.get(&replica);
        let over = known.and_then(|heard| heard.requests.front());
        let is_old =
            |(at, number): &(Instant, u64)| at.elapsed() >= self.time && request <= *number;
        if over.is_some_and(is_old) {
            return false;
        }
        if known.is_some_and(|heard| self.lives(replica, heard)) {
            return true;
        }
        if heard.get(&self.me).is_some_and(|own| self.hears_well(own)) {
            self.missing().is_new_among_heard(replica, self.time)
        } else {
            self.missing().is_new(replica, self.time)
        }
    }

    /// Whether this replica has heard itself for a while, and so would have heard the others. After a pause it hears
    /// itself before they have heard it and named it.
    fn hears_well(&self, own: &Heard) -> bool {
        own.at.elapsed() < self.time && own.since.elapsed() >= 2 * self.time
    }

    /// Whether something that a replica has done at this time of its clock may still go on if it takes at most `time`.
    /// `None` if the clocks cannot be compared, since nothing is known of that replica.
    pub(super) fn may_go_on(&self, replica: ReplicaId, since: u64, time: Duration) -> Option<bool> {
        let heard = self.heard();
        if let Some(Heard { at, made, .. }) = heard.get(&replica) {
            let before = Duration::from_millis(made.saturating_sub(since));
            let after = Duration::from_millis(since.saturating_sub(*made));
            return Some((at.elapsed() + before).saturating_sub(after) < time);
        }
        // Where no agents are polled for, there are no heartbeats.
        let is_hearing = heard.get(&self.me).is_some_and(|own| own.at.elapsed() < 2 * self.time);
        (is_hearing && !self.missing().is_new(replica, self.time)).then_some(false)
    }

    /// When the last heartbeat of each replica that lives was received.
    pub(super) fn last_received(&self) -> HashMap<ReplicaId, Instant> {
        let heard = self.heard();
        let live = heard.iter().filter(|(replica, heard)| self.lives(**replica, heard));
        live.map(|(replica, heard)| (*replica, heard.at)).collect()
    }

    fn missing(&self) -> MutexGuard<'_, Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<ReplicaId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
