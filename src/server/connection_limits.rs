//! The limits that new connections have to pass, and how many did not pass them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::task::TaskTracker;

use super::{
    connection_slots::ConnectionSlots, flood::FloodKind, misbehaved::Misbehaved,
    send_buffers::SendBuffers, turned_away::TurnedAway,
};
use crate::{
    config,
    tenant::{PeerPlaces, Resource, Usage},
};

/// The limits on connections: handshakes in progress, connections that are served, and how much
/// memory their unread answers may take.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    pub(super) handshakes: Arc<PeerPlaces>,
    pub(super) slots: Arc<ConnectionSlots>,
    pub(super) send_buffers: Arc<SendBuffers>,
    /// Peers that are being told that no slot is free.
    pub(super) rejections: Arc<PeerPlaces>,
    /// Connections that have ended and whose peers may still be reading.
    pub(super) lingering: Arc<PeerPlaces>,
    /// The tasks of `lingering`. A drain waits for them only briefly, at its end.
    pub(super) lingering_tasks: TaskTracker,
    /// Peers whose new connections get less than others.
    pub(super) misbehaved: Misbehaved,
    /// Handshakes that took too long.
    late_handshakes: AtomicU64,
    /// Connections whose peers sent too many frames without progress.
    floods: AtomicU64,
    /// Connections whose peers reset too many streams.
    reset_floods: AtomicU64,
}

impl ConnectionLimits {
    pub(super) fn new(limits: &config::Connections) -> Self {
        let send_buffers = SendBuffers::new();
        let places = || PeerPlaces::new(limits.handshakes.get());
        Self {
            handshakes: places(),
            slots: ConnectionSlots::new(limits, send_buffers.clone()),
            send_buffers,
            rejections: places(),
            lingering: PeerPlaces::shared(limits.max.get(), limits.per_peer.get()),
            lingering_tasks: TaskTracker::new(),
            misbehaved: Misbehaved::default(),
            late_handshakes: AtomicU64::default(),
            floods: AtomicU64::default(),
            reset_floods: AtomicU64::default(),
        }
    }

    /// Counts a handshake that took too long.
    pub(super) fn note_late_handshake(&self) {
        self.late_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that its peer has flooded.
    pub(super) fn note_flood(&self, kind: FloodKind) {
        let count = match kind {
            FloodKind::Frames => &self.floods,
            FloodKind::Resets => &self.reset_floods,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How much of each limit is used.
    pub(super) fn usage(&self) -> [Usage; 4] {
        let Self { handshakes, slots, send_buffers, lingering, .. } = self;
        let handshakes = handshakes.usage(Resource::Handshakes);
        let lingering = lingering.usage(Resource::LingeringConnections);
        [slots.usage(), handshakes, lingering, send_buffers.usage()]
    }

    /// How many connections were closed or rejected because of a limit, by cause.
    pub(super) fn turned_away(&self) -> [(TurnedAway, u64); 10] {
        let late = (TurnedAway::HandshakeLate, self.late_handshakes.load(Ordering::Relaxed));
        let [idle, server, peer] = self.slots.counts();
        let displaced = (TurnedAway::HandshakesFull, self.handshakes.displaced());
        let [unread, unread_full] = self.send_buffers.counts();
        let lingering = (TurnedAway::LingeringFull, self.lingering.displaced());
        let floods = (TurnedAway::Flood, self.floods.load(Ordering::Relaxed));
        let resets = (TurnedAway::ResetFlood, self.reset_floods.load(Ordering::Relaxed));
        [late, displaced, idle, server, peer, lingering, unread, unread_full, floods, resets]
    }
}
