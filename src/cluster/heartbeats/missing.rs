//! For how long replicas that are not heard may still be there.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::REMEMBERED;
use crate::cluster::ReplicaId;

/// Since when replicas have been missed whose leases or locks are in the store.
///
/// Leases say nothing of when they were made, so somebody may have kept those of all replicas that there have ever been.
#[derive(Debug, Default)]
pub(super) struct Missing {
    since: HashMap<ReplicaId, Instant>,
    /// When one was last believed to be there although the others are heard.
    believed: Option<Instant>,
}

/// After how many leases the next such replica is believed to be there.
const BELIEVED_EVERY: u32 = 10;

impl Missing {
    /// Notes that a replica is not missed any more.
    pub(super) fn found(&mut self, replica: ReplicaId) {
        self.since.remove(&replica);
    }

    /// Whether this replica has not been missed for long: it may have just begun, or this one has just come back.
    pub(super) fn is_new(&mut self, replica: ReplicaId, lease: Duration) -> bool {
        self.since.retain(|_, since| since.elapsed() < REMEMBERED);
        self.since.entry(replica).or_insert_with(Instant::now).elapsed() < 2 * lease
    }

    /// The same where the others are heard well. Then there is a moment for one that has just begun, and not one for each
    /// that has gone.
    pub(super) fn is_new_among_heard(&mut self, replica: ReplicaId, lease: Duration) -> bool {
        if !self.is_new(replica, lease) {
            return false;
        }
        let is_recent = |at: &Instant| at.elapsed() < BELIEVED_EVERY * lease;
        let believed = self.believed.filter(is_recent).unwrap_or_else(Instant::now);
        self.believed = Some(believed);
        believed.elapsed() < lease
    }
}
