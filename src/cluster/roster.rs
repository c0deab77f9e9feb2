//! Decides which of a tenant's agents this replica polls.

mod held;
mod polling_without_store;
mod rebalance;
mod store_outage;
mod unheld_leases;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use self::{held::Held, store_outage::Outage};
use super::{Leases, ReplicaId};
use crate::{
    config::WhenAway,
    id::{AgentId, TenantId},
    tenant::{Cause, Claimed, LeaseCounts, PollOwnership, Polls},
};

/// Decides for one replica which of a tenant's agents it polls.
pub struct Roster {
    tenant: TenantId,
    me: ReplicaId,
    leases: Arc<dyn Leases>,
    when_away: WhenAway,
    held: Mutex<Held>,
    outage: Mutex<Outage>,
    /// Makes the next turn come early.
    stirred: Arc<Notify>,
    /// Tells the clock task that there may be a lease where there was none.
    first_lease: Notify,
}

/// How many turns there are in the time of a lease. Two may fail without a lease being lost.
const TURNS: u32 = 4;
/// The shortest time between two turns, since many leases may become free one after the other.
const TURN_PAUSE: Duration = Duration::from_millis(500);
/// The pause between two checks whether the polls under way have been answered.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(50);

impl Roster {
    /// Makes this replica's roster for a tenant. Notifying `stirred` makes its next turn come
    /// early.
    pub fn new(
        tenant: TenantId,
        me: ReplicaId,
        leases: Arc<dyn Leases>,
        when_away: WhenAway,
        stirred: Arc<Notify>,
    ) -> Self {
        Self {
            tenant,
            me,
            when_away,
            held: Mutex::new(Held::after(leases.last_request(), leases.time())),
            leases,
            outage: Mutex::new(Outage::none()),
            stirred,
            first_lease: Notify::new(),
        }
    }

    /// Makes the next turn come early, because replicas or agents have come or gone.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    async fn take_turns(&self, polls: &dyn Polls) {
        loop {
            let begun = Instant::now();
            self.turn(polls).await;
            let pause = self.leases.time() / TURNS;
            let pause = pause.mul_f64(rand::rng().random_range(0.8..=1.0));
            let stirred = async {
                self.stirred.notified().await;
                sleep_until(begun + TURN_PAUSE).await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stirred => {}
            }
        }
    }

    async fn hand_all_over(&self, polls: &dyn Polls, is_told: &AtomicBool) {
        let mut renew_at = Instant::now();
        loop {
            // First, so that the others know who has to poll when the leases are free.
            if !is_told.load(Ordering::Relaxed) {
                is_told.store(self.leases.leave().await.is_ok(), Ordering::Relaxed);
            }
            if is_told.load(Ordering::Relaxed) {
                let agents = self.held().agents();
                self.hand_over(agents, polls).await;
            }
            let left = self.held().agents();
            if left.is_empty() {
                return;
            }
            if Instant::now() >= renew_at {
                renew_at = Instant::now() + self.leases.time() / TURNS;
                self.renew_all(left, polls).await;
                // The others believe leases of those whom they hear.
                let _unheard = self.leases.send_heartbeat().await;
            }
            sleep(HAND_OVER_PAUSE).await;
        }
    }

    /// Ends leases when their time is over, even while a turn is waiting for the store.
    async fn end_leases_in_time(&self, polls: &dyn Polls, when_away: impl Fn() -> WhenAway) {
        loop {
            let next = self.held().next_end();
            let ends = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ends => {}
                // A lease that is asked for later ends later, so only the first one changes the
                // time to wait for.
                () = self.first_lease.notified() => continue,
            }
            let mut held = self.held();
            let is_polled = |agent| polls.is_polling(agent);
            let ended = held.end(when_away() == WhenAway::Keep, is_polled);
            for agent in &ended.stopped {
                polls.stop(*agent);
            }
            drop(held);
            self.log_ended(&ended);
        }
    }

    /// The one place where polls begin. They never begin without a lease that is good or is
    /// assumed.
    fn begin(&self, held: &Held, agent: AgentId, cause: Cause, polls: &dyn Polls) -> bool {
        let may = held.may_poll(agent);
        if may {
            polls.begin(agent, cause);
            self.first_lease.notify_one();
        }
        may
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollOwnership for Roster {
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed> {
        Box::pin(async move {
            let asked = self.held().ask();
            let answer = self.leases.hold(vec![agent], asked.request).await;
            let mut held = self.held();
            match answer {
                Ok(holding) if holding.contains(&agent) => {
                    if !held.granted(agent, asked)
                        || !self.begin(&held, agent, Cause::SignedIn, polls)
                    {
                        drop(held);
                        self.stir();
                        return Claimed::Unknown;
                    }
                    Claimed::Here
                }
                Ok(_) => {
                    if held.refused(agent, asked) {
                        polls.stop(agent);
                    }
                    Claimed::Elsewhere
                }
                Err(_) if self.when_away == WhenAway::Keep => {
                    held.unanswered(agent, asked);
                    held.assume(agent, asked);
                    self.begin(&held, agent, Cause::SignedIn, polls);
                    // If only this answer was lost, the next turn shows who has the lease.
                    self.stir();
                    Claimed::Here
                }
                Err(_) => {
                    held.unanswered(agent, asked);
                    self.stir();
                    let begun = self.begin(&held, agent, Cause::SignedIn, polls);
                    if begun { Claimed::Here } else { Claimed::Unknown }
                }
            }
        })
    }

    fn resume(&self, agent: AgentId, polls: &dyn Polls) -> bool {
        self.begin(&self.held(), agent, Cause::SignedIn, polls)
    }

    fn polls_ended(&self, agent: AgentId, polls: &dyn Polls) {
        let mut held = self.held();
        // Polls may have begun again meanwhile.
        if !polls.is_polling(agent) {
            held.polls_ended(agent);
        }
    }

    fn may_poll(&self, agent: AgentId) -> bool {
        self.held().may_poll(agent)
    }

    fn is_sole_owner(&self, agent: AgentId) -> bool {
        self.held().is_good(agent)
    }

    fn counts(&self, polls: &dyn Polls) -> LeaseCounts {
        // Not counted under the lock of the leases: it is needed to begin polls, and there may be many.
        let overdue = self.held().overdue();
        let overdue = overdue.into_iter().filter(|agent| polls.is_polling(*agent)).count();
        LeaseCounts { overdue, dropped: self.outage().dropped }
    }

    fn lease(&self) -> Duration {
        self.leases.time()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let turns = self.take_turns(polls);
            tokio::join!(turns, self.end_leases_in_time(polls, || self.when_away));
        })
    }

    // Polls end only after the store has been told that this replica goes away. Otherwise nobody would know
    // that somebody else has to poll for the agents.
    fn leave<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let is_told = AtomicBool::new(false);
            // Once the store is told, another replica takes the agents over when their leases end, even if
            // the store fails then. So this one has to stop at that time.
            let when_away =
                || if is_told.load(Ordering::Relaxed) { WhenAway::Stop } else { self.when_away };
            // A poll may stay open for longer than its lease lasts.
            tokio::select! {
                () = self.hand_all_over(polls, &is_told) => {}
                () = self.end_leases_in_time(polls, when_away) => {}
            }
        })
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("me", &self.me).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
