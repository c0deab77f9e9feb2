//! What new connections of callers go through, and what becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::house::House;
use crate::{
    config,
    tenant::{Displacing, Usage},
};

/// The two bounds on connections: handshakes under way, and connections that are served.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) handshakes: Arc<Displacing>,
    pub(super) house: Arc<House>,
    /// Handshakes that took too long.
    late: AtomicU64,
}

impl Entrance {
    pub(super) fn new(limits: &config::Connections) -> Self {
        let handshakes = Displacing::new(limits.handshakes.get());
        Self { handshakes, house: House::new(limits), late: AtomicU64::default() }
    }

    /// A handshake took too long.
    pub(super) fn note_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// How much is taken of either.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [self.house.usage(), self.handshakes.usage("handshakes")]
    }

    /// How many connections were ended or not begun for want of time or room, by cause.
    pub(super) fn turned_away(&self) -> [(&'static str, u64); 5] {
        let late = self.late.load(Ordering::Relaxed);
        let [idle, house, peer] = self.house.counts();
        let displaced = ("handshakes_full", self.handshakes.displaced());
        [("handshake_late", late), displaced, idle, house, peer]
    }
}
