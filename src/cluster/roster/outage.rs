//! What a roster does, and says, while the store cannot be asked.

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

/// What follows from a store that cannot be asked.
#[derive(Debug)]
pub(super) struct Outage {
    /// When the store last told who is there.
    answered: Instant,
    /// When it was first asked in vain since then.
    failing: Option<Instant>,
    /// Since when this replica has heard what replicas call out, itself among them, without a pause.
    hearing: Option<Instant>,
    /// Until then, free leases are left to those who have polled without them.
    settles: Instant,
    /// Agents who are polled no more since their leases have ended.
    pub(super) dropped: usize,
    /// Whether the log says so.
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
    /// Whether the store has been away until a moment ago. The others, who have polled on, are about
    /// to come for their leases; whoever comes first must not take them all.
    pub(super) fn is_settling(&self) -> bool {
        let (now, length) = (Instant::now(), self.leases.time());
        let mut outage = self.outage();
        if now.duration_since(outage.answered) >= length {
            // The others may be in their longest pause, and then need a turn, which comes within a
            // quarter of a lease; as much again is for connections and answers that take time.
            outage.settles = now + LONGEST_PAUSE + length / 2;
        }
        (outage.answered, outage.failing, outage.hearing) = (now, None, None);
        self.when_away == WhenAway::Keep && now < outage.settles
    }

    /// The store has not told who is there; gives for how long it has not.
    pub(super) fn fails(&self) -> Duration {
        self.outage().failing.get_or_insert_with(Instant::now).elapsed()
    }

    /// Whether each of these replicas is alive, as far as can be told while the store keeps no list: one
    /// that has not been heard for the time of a lease is gone, or is cut off from the store. Nothing is
    /// told by silence while this replica does not hear itself.
    pub(super) fn living(&self, replicas: &mut Vec<ReplicaId>) {
        let (heard, length) = (self.leases.heard(), self.leases.time());
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

    /// The store could not be read: what replicas call out may not have come either.
    pub(super) fn stops_hearing(&self) {
        self.outage().hearing = None;
    }

    /// Says that leases have ended, and once that it is because the store could not be asked.
    pub(super) fn tell_of(&self, ended: &Ended) {
        let Ended { stopped, unanswered, overdue, coming } = ended;
        let (tenant, late) = (&self.tenant, stopped.len() - unanswered);
        if late > 0 {
            warn!(ccgw.tenant.id = %tenant, agents = late, "leases have ended that this replica did not renew in time, though the store has not failed: the process was asleep, or had too little time to run; these agents are polled by whoever has their leases next");
        }
        if unanswered + overdue == 0 {
            return;
        }
        let mut outage = self.outage();
        outage.dropped += unanswered;
        if mem::replace(&mut outage.is_told, true) {
            return;
        }
        // They were asked for in several requests, and end one after the other.
        let agents = unanswered + overdue + coming;
        match self.when_away {
            WhenAway::Keep => {
                warn!(ccgw.tenant.id = %tenant, agents, "leases have ended and the store cannot be asked for new ones; polling goes on without them, since store.when_away is \"keep\"");
            }
            WhenAway::Stop => {
                warn!(ccgw.tenant.id = %tenant, agents, "leases have ended and the store cannot be asked for new ones; these agents are polled no more, since store.when_away is \"stop\", and the gateway signs them out within two minutes");
            }
        }
    }

    /// The store has answered to everything.
    pub(super) fn tell_of_the_end(&self) {
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
