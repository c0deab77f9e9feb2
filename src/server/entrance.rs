//! What new connections of callers go through, and what becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::task::TaskTracker;

use super::{house::House, send_buffers::SendBuffers};
use crate::{
    config,
    tenant::{PeerPlaces, Usage},
};

/// The bounds on connections: handshakes under way, connections that are served, and what these hold
/// of answers that are not read.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) handshakes: Arc<PeerPlaces>,
    pub(super) house: Arc<House>,
    pub(super) send_buffers: Arc<SendBuffers>,
    /// Peers that are being told that there is no place.
    pub(super) farewells: Arc<PeerPlaces>,
    /// Connections that have ended, and whose peers may be reading still.
    pub(super) lingering: Arc<PeerPlaces>,
    /// What waits for them. A drain does not, but for a moment at its end.
    pub(super) last_moments: TaskTracker,
    /// Handshakes that took too long.
    late: AtomicU64,
}

impl Entrance {
    pub(super) fn new(limits: &config::Connections) -> Self {
        let send_buffers = SendBuffers::new();
        let places = || PeerPlaces::new(limits.handshakes.get());
        Self {
            handshakes: places(),
            house: House::new(limits, send_buffers.clone()),
            send_buffers,
            farewells: places(),
            lingering: PeerPlaces::shared(limits.max.get(), limits.per_peer.get()),
            last_moments: TaskTracker::new(),
            late: AtomicU64::default(),
        }
    }

    /// A handshake took too long.
    pub(super) fn note_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// How much is taken of each.
    pub(super) fn usage(&self) -> [Usage; 4] {
        let Self { handshakes, house, send_buffers, lingering, .. } = self;
        let (handshakes, lingering) =
            (handshakes.usage("handshakes"), lingering.usage("lingering_connections"));
        [house.usage(), handshakes, lingering, send_buffers.usage()]
    }

    /// How many connections were ended or not begun for want of time or room, by cause.
    pub(super) fn turned_away(&self) -> [(&'static str, u64); 8] {
        let late = self.late.load(Ordering::Relaxed);
        let [idle, house, peer] = self.house.counts();
        let displaced = ("handshakes_full", self.handshakes.displaced());
        let [unread, unread_full] = self.send_buffers.counts();
        let lingering = ("lingering_full", self.lingering.displaced());
        [("handshake_late", late), displaced, idle, house, peer, lingering, unread, unread_full]
    }
}
