//! The slots for connections that are served: how many there are, and which idle connection is
//! closed when a new one needs its slot.

mod demand;
mod served_connection;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::warn;

pub(super) use self::served_connection::{OpenCall, ServedConnection};
use self::{demand::Demand, served_connection::milliseconds_since};
use super::{
    send_buffers::{Listed, SendBuffers},
    turned_away::TurnedAway,
};
use crate::{
    config,
    telemetry::log::{LOG_AGAIN, LogInterval},
    tenant::{Resource, Usage, address_block},
};

/// The slots for connections that are served. An idle connection keeps its slot as long as others
/// are free, since callers keep channels open for hours. When none is free, the connection that has
/// been idle longest is closed.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    max: usize,
    per_peer: usize,
    /// Times of served connections are counted from here.
    epoch: Instant,
    occupied: Mutex<Occupied>,
    /// Has one send buffer for each served connection.
    send_buffers: Arc<SendBuffers>,
    freed: Notify,
    /// Connections that were closed to free their slot.
    made_room: AtomicU64,
    /// New connections that found no slot free.
    no_room: Shortage,
    /// New connections that found no slot free for their address.
    no_share: Shortage,
}

/// What one of the limits has led to.
#[derive(Debug, Default)]
struct Shortage {
    /// Connections that got no slot.
    turned_away: AtomicU64,
    lines: LogInterval,
}

#[derive(Debug, Default)]
struct Occupied {
    next: u64,
    all: HashMap<u64, Arc<ServedConnection>>,
    by_peer: HashMap<IpAddr, usize>,
    demand: Demand,
}

/// A new connection that waits for a slot. Dropping this ends the wait.
#[derive(Debug)]
struct Waiter<'a> {
    slots: &'a Arc<ConnectionSlots>,
    peer: IpAddr,
    /// The limit that it waits for, if it is counted in the demand.
    waits_for: Option<Full>,
}

/// A connection's slot. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<ConnectionSlots>,
    number: u64,
    pub(super) served: Arc<ServedConnection>,
    _buffer: Listed,
}

/// The limit that leaves no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Full {
    /// `server.connections.max`.
    Server,
    /// `server.connections.per_peer`, for this address.
    Peer(IpAddr),
}

/// How long an evicted connection may take to end before the next one is evicted.
const EVICT_AGAIN: Duration = Duration::from_millis(500);

// === impl ConnectionSlots ===

impl ConnectionSlots {
    pub(super) fn new(limits: &config::Connections, send_buffers: Arc<SendBuffers>) -> Arc<Self> {
        Arc::new(Self {
            max: limits.max.get(),
            per_peer: limits.per_peer.get(),
            epoch: Instant::now(),
            occupied: Mutex::default(),
            send_buffers,
            freed: Notify::new(),
            made_room: AtomicU64::default(),
            no_room: Shortage::default(),
            no_share: Shortage::default(),
        })
    }

    /// Gets a slot for a connection from `peer`. If none is free, the connection that has been idle
    /// longest is evicted. If all are busy, this waits until `end`. No more connections are evicted
    /// than new ones wait.
    /// # Errors
    ///
    /// [`Full`] if no slot has become free by then.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        peer: IpAddr,
        end: Instant,
    ) -> Result<Slot, Full> {
        let mut waiter = Waiter { slots: self, peer: address_block(peer), waits_for: None };
        loop {
            // Register before the attempt, so that a slot that is freed between attempt and wait is
            // not missed.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let full = match waiter.try_acquire() {
                Ok(slot) => return Ok(slot),
                Err(full) => full,
            };
            self.log_full(full);
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                self.shortage(full).turned_away.fetch_add(1, Ordering::Relaxed);
                return Err(full);
            }
            let _next_try = timeout(remaining.min(EVICT_AGAIN), freed).await;
        }
    }

    /// How many slots are taken.
    pub(super) fn usage(&self) -> Usage {
        let taken = self.occupied().all.len();
        Usage { resource: Resource::Connections, limit: self.max, taken }
    }

    /// How many connections were closed to free their slot, and how many got no slot, by cause.
    pub(super) fn counts(&self) -> [(TurnedAway, u64); 3] {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            (TurnedAway::Idle, count(&self.made_room)),
            (TurnedAway::ConnectionsFull, count(&self.no_room.turned_away)),
            (TurnedAway::PerPeerFull, count(&self.no_share.turned_away)),
        ]
    }

    /// The limit that leaves no slot for `peer`, if any.
    fn full(&self, occupied: &Occupied, peer: IpAddr) -> Option<Full> {
        let of_peer = occupied.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_peer {
            Some(Full::Peer(peer))
        } else {
            (occupied.all.len() >= self.max).then_some(Full::Server)
        }
    }

    fn occupy(self: &Arc<Self>, occupied: &mut Occupied, peer: IpAddr) -> Slot {
        let buffer = self.send_buffers.open(peer);
        let served = Arc::new(ServedConnection::new(peer, self.epoch, buffer.clone()));
        let number = occupied.next;
        occupied.next += 1;
        occupied.all.insert(number, served.clone());
        *occupied.by_peer.entry(peer).or_default() += 1;
        Slot { slots: self.clone(), number, served, _buffer: buffer }
    }

    /// Logs that no slot is free, once in a while for each limit.
    fn log_full(&self, full: Full) {
        if !self.shortage(full).lines.is_due(LOG_AGAIN) {
            return;
        }
        let [(_, made_room), (_, server), (_, peer)] = self.counts();
        let turned_away = server + peer;
        match full {
            Full::Server => warn!(
                bound = "server.connections.max",
                limit = self.max,
                made_room,
                turned_away,
                "every place for connections is taken; idle ones are closed for new ones"
            ),
            Full::Peer(peer) => warn!(
                bound = "server.connections.per_peer",
                limit = self.per_peer,
                %peer,
                made_room,
                turned_away,
                "every place for connections from one address is taken; idle ones are closed for \
                 new ones"
            ),
        }
    }

    fn shortage(&self, full: Full) -> &Shortage {
        match full {
            Full::Server => &self.no_room,
            Full::Peer(_) => &self.no_share,
        }
    }

    fn occupied(&self) -> MutexGuard<'_, Occupied> {
        self.occupied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Occupied ===

impl Occupied {
    /// Evicts the connection that has been idle longest, if more connections wait for `full` than
    /// are being evicted for it.
    fn evict_idle(&mut self, full: Full, now_ms: u64) {
        let now = Instant::now();
        if !self.demand.wants_more(full, now) {
            return;
        }
        let concerned = |served: &ServedConnection| match full {
            Full::Server => true,
            Full::Peer(peer) => served.peer == peer,
        };
        let all = self.all.iter().filter(|(_, served)| concerned(served));
        let idle = all
            .filter_map(|(number, served)| Some((served.evictable_since(now_ms)?, number, served)));
        // Of connections that got their slots in the same millisecond, take the one that came
        // first.
        let oldest = idle.min_by_key(|(since, number, _)| (*since, **number));
        if let Some((_, &number, longest)) = oldest {
            longest.evicted.cancel();
            self.demand.note_evicted(number, full, now);
        }
    }
}

// === impl Waiter ===

impl Waiter<'_> {
    /// Gets a slot if one is free. Otherwise counts this connection as waiting, and evicts an idle
    /// one if there is any.
    fn try_acquire(&mut self) -> Result<Slot, Full> {
        let mut occupied = self.slots.occupied();
        // Under the same lock as taking the slot, so that a connection is never counted as both.
        self.stop_waiting(&mut occupied);
        let Some(full) = self.slots.full(&occupied, self.peer) else {
            return Ok(self.slots.occupy(&mut occupied, self.peer));
        };
        occupied.demand.wait(full);
        self.waits_for = Some(full);
        occupied.evict_idle(full, milliseconds_since(self.slots.epoch));
        Err(full)
    }

    fn stop_waiting(&mut self, occupied: &mut Occupied) {
        if let Some(full) = self.waits_for.take() {
            occupied.demand.stop_waiting(full);
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.waits_for.is_some() {
            let slots = self.slots;
            self.stop_waiting(&mut slots.occupied());
        }
    }
}

// === impl Slot ===

#[cfg(test)]
impl Slot {
    /// A slot among slots of its own, for tests.
    pub(super) fn alone() -> Self {
        let count = std::num::NonZeroUsize::MIN;
        let limits = config::Connections {
            max: count,
            handshakes: count,
            per_peer: count,
            handshake_timeout: Duration::MAX,
            max_age: Duration::MAX,
            max_age_grace: Duration::MAX,
            requests_per_second: count,
            resets_per_second: count,
        };
        let slots = ConnectionSlots::new(&limits, SendBuffers::new());
        let mut occupied = slots.occupied();
        slots.occupy(&mut occupied, IpAddr::from([127, 0, 0, 1]))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut occupied = self.slots.occupied();
        if self.served.evicted.is_cancelled() {
            self.slots.made_room.fetch_add(1, Ordering::Relaxed);
        }
        occupied.all.remove(&self.number);
        occupied.demand.note_gone(self.number);
        if let Some(count) = occupied.by_peer.get_mut(&self.served.peer) {
            *count -= 1;
            if *count == 0 {
                occupied.by_peer.remove(&self.served.peer);
            }
        }
        drop(occupied);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
