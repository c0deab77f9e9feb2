//! How long the store has been away, who is alive by heartbeats meanwhile, and the log lines about
//! it.

use std::{
    mem,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Roster, held::Ended};
use crate::{
    cluster::{ReplicaId, redis::LONGEST_PAUSE},
    config::WhenAway,
};

/// The state of an outage of the store.
#[derive(Debug)]
pub(super) struct Outage {
    /// When the store last returned the membership.
    answered: Instant,
    /// When it first failed to do so since then.
    failing: Option<Instant>,
    /// Since when this replica has received heartbeats, including its own, without a gap.
    hearing: Option<Instant>,
    /// Until then, free leases are left to the replicas that have polled without them.
    settles: Instant,
    /// How many agents are no longer polled because their leases have ended.
    pub(super) dropped: usize,
    /// Whether this has been logged.
    is_told: bool,
}

impl Outage {
    pub(super) fn none() -> Self {
        let now = Instant::now();
        Self {
            answered: now,
            failing: None,
            hearing: None,
            settles: now,
            dropped: 0,
            is_told: false,
        }
    }
}

impl Roster {
    /// Notes that the store answers. Returns whether it has been away until a short time ago. The
    /// other replicas, which went on polling, will then come for their leases, and the first one
    /// that comes must not take them all.
    pub(super) fn is_settling(&self) -> bool {
        let (now, length) = (Instant::now(), self.leases.time());
        let mut outage = self.outage();
        if now.duration_since(outage.answered) >= length {
            // Another replica may have to wait for its longest pause and then for its next turn,
            // which comes within a quarter of a lease. Another quarter is for connections and slow
            // answers.
            outage.settles = now + LONGEST_PAUSE + length / 2;
        }
        (outage.answered, outage.failing, outage.hearing) = (now, None, None);
        self.when_away == WhenAway::Keep && now < outage.settles
    }

    /// Notes that the store has failed. Returns for how long it has been failing.
    pub(super) fn note_failure(&self) -> Duration {
        self.outage().failing.get_or_insert_with(Instant::now).elapsed()
    }

    /// Removes the replicas that are not alive, as far as heartbeats show it. One without a
    /// heartbeat for the time of a lease is gone, or is cut off from the store. Missing heartbeats
    /// show nothing while this replica does not receive its own.
    pub(super) fn remove_silent(&self, replicas: &mut Vec<ReplicaId>) {
        let (heard, length) = (self.leases.heartbeats(), self.leases.time());
        let is_heard = |replica: &ReplicaId, within| {
            heard.get(replica).is_some_and(|at| at.elapsed() < within)
        };
        let mut outage = self.outage();
        // Half a lease is two turns.
        outage.hearing = if is_heard(&self.me, length / 2) {
            outage.hearing.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        if outage.hearing.is_some_and(|since| since.elapsed() >= length) {
            replicas.retain(|replica| *replica == self.me || is_heard(replica, length));
        }
    }

    /// Notes that the store could not be read, so heartbeats may have been lost too.
    pub(super) fn note_unreadable(&self) {
        self.outage().hearing = None;
    }

    /// Logs that leases have ended. If the store did not answer, this is logged once per outage.
    pub(super) fn log_ended(&self, ended: &Ended) {
        let Ended { stopped, unanswered, overdue, coming } = ended;
        let (tenant, late) = (&self.tenant, stopped.len() - unanswered);
        if late > 0 {
            warn!(ccgw.tenant.id = %tenant, agents = late, "leases have ended that this replica did not renew in time, though the store has not failed: the process was suspended, or had too little time to run; the next holders of the leases poll for these agents");
        }
        if unanswered + overdue == 0 {
            return;
        }
        let mut outage = self.outage();
        outage.dropped += unanswered;
        if mem::replace(&mut outage.is_told, true) {
            return;
        }
        // Leases of several requests end one after the other, so those that will end soon are
        // counted too.
        let agents = unanswered + overdue + coming;
        match self.when_away {
            WhenAway::Keep => {
                warn!(ccgw.tenant.id = %tenant, agents, "leases have ended and the store cannot be asked for new ones; these agents are polled without leases, since store.when_away is \"keep\"");
            }
            WhenAway::Stop => {
                warn!(ccgw.tenant.id = %tenant, agents, "leases have ended and the store cannot be asked for new ones; these agents are no longer polled, since store.when_away is \"stop\", and the gateway signs them out within two minutes");
            }
        }
    }

    /// Notes that the store has answered all requests, and logs the end of an outage.
    pub(super) fn note_recovery(&self) {
        let mut outage = self.outage();
        outage.dropped = 0;
        if mem::take(&mut outage.is_told) {
            info!(ccgw.tenant.id = %self.tenant, "the store gives leases again");
        }
    }

    pub(super) fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
