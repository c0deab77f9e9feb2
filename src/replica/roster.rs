use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{Census, Leases, ReplicaId, preferred};
use crate::{id::AgentId, session::StoreError};

/// What a roster starts and ends: the polls of a tenant's agents.
pub trait Polls: Send + Sync {
    /// Begins to poll for an agent, if its session is there.
    fn begin(&self, agent: AgentId) -> impl Future<Output = ()> + Send;

    /// Polls no more for an agent once the poll that is under way has been answered, so that no
    /// event is lost; tells whether that has happened.
    fn finish(&self, agent: AgentId) -> bool;

    /// Polls no more for an agent from this moment on.
    fn stop(&self, agent: AgentId);

    /// Whether the agent is polled for.
    fn is_polling(&self, agent: AgentId) -> bool;
}

/// Decides for one replica which of a tenant's agents it polls.
pub struct Roster {
    me: ReplicaId,
    leases: Arc<dyn Leases>,
    /// Until when each lease is ours for certain, by our own clock.
    held: Mutex<HashMap<AgentId, Instant>>,
    /// Something has happened that should not wait for the next turn.
    stirred: Notify,
}

/// Turns in the time of a lease: two may fail without a lease being lost.
const TURNS: u32 = 4;
/// Between two looks at whether the polls under way have been answered.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(50);

impl Roster {
    /// The roster of this replica.
    pub fn new(me: ReplicaId, leases: Arc<dyn Leases>) -> Self {
        Self { me, leases, held: Mutex::default(), stirred: Notify::new() }
    }

    /// Whether this replica may poll for an agent who was signed in here just now.
    pub async fn claim(&self, agent: AgentId) -> bool {
        let until = self.good_until();
        match self.leases.hold(vec![agent]).await {
            Ok(holding) if holding.contains(&agent) => {
                self.held().insert(agent, until);
                true
            }
            Ok(_) => false,
            // Nobody else can take it now, and the next turn will, or will find who has it.
            Err(_unavailable) => {
                self.held().insert(agent, until);
                true
            }
        }
    }

    /// Has the next turn come at once: replicas or agents have come or gone.
    pub fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Takes turns for ever.
    pub async fn run(&self, polls: &impl Polls) {
        let turns = async {
            loop {
                // A store that does not answer is asked again; what it said before stays good for
                // the time of a lease.
                let _unavailable = self.turn(polls).await;
                let pause = self.leases.time() / TURNS;
                let pause = pause.mul_f64(rand::rng().random_range(0.8..=1.0));
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.stirred.notified() => {}
                }
            }
        };
        tokio::join!(turns, self.watch_the_clock(polls));
    }

    /// Stops polls whose lease may have ended, whatever the turns are waiting for meanwhile.
    async fn watch_the_clock(&self, polls: &impl Polls) {
        loop {
            let never = Instant::now() + self.leases.time();
            let next = self.held().values().min().copied().unwrap_or(never);
            sleep_until(next.min(never)).await;
            let now = Instant::now();
            for (agent, _) in self.held().extract_if(|_, until| *until <= now) {
                polls.stop(agent);
            }
        }
    }

    /// Hands everything over: waits for the polls under way to be answered, then gives the leases
    /// back. Dropping the future leaves the rest to their time.
    pub async fn leave(&self, polls: &impl Polls) {
        // First, so that the others know whose turn it is when the leases are free.
        let _unavailable = self.leases.leave().await;
        loop {
            let held: Vec<AgentId> = self.held().keys().copied().collect();
            if held.is_empty() {
                return;
            }
            self.hand_over(held, polls).await;
            sleep(HAND_OVER_PAUSE).await;
        }
    }

    /// One look at who is there, and what follows from it.
    async fn turn(&self, polls: &impl Polls) -> Result<(), StoreError> {
        let Census { replicas, agents } = self.leases.census().await?;
        let ours: HashSet<AgentId> = agents
            .into_iter()
            .filter(|agent| preferred(*agent, &replicas) == Some(self.me))
            .collect();
        let others: Vec<AgentId> =
            self.held().keys().filter(|agent| !ours.contains(agent)).copied().collect();

        // Also the leases that are to be handed over, as long as their polls are under way.
        let wanted: Vec<AgentId> = ours.iter().chain(&others).copied().collect();
        let until = self.good_until();
        let holding: HashSet<AgentId> = self.leases.hold(wanted).await?.into_iter().collect();
        let lost = self.update(&holding, until);
        for agent in lost {
            polls.stop(agent);
        }
        for agent in ours.intersection(&holding) {
            if !polls.is_polling(*agent) {
                polls.begin(*agent).await;
            }
        }
        self.hand_over(others, polls).await;
        Ok(())
    }

    /// Takes down which leases are ours, and gives those that are not any more.
    fn update(&self, holding: &HashSet<AgentId>, until: Instant) -> Vec<AgentId> {
        let mut held = self.held();
        let lost: Vec<AgentId> =
            held.keys().filter(|agent| !holding.contains(agent)).copied().collect();
        held.retain(|agent, _| holding.contains(agent));
        held.extend(holding.iter().map(|agent| (*agent, until)));
        lost
    }

    async fn hand_over(&self, agents: Vec<AgentId>, polls: &impl Polls) {
        let finished: Vec<AgentId> =
            agents.into_iter().filter(|agent| polls.finish(*agent)).collect();
        if finished.is_empty() {
            return;
        }
        self.held().retain(|agent, _| !finished.contains(agent));
        let _unavailable = self.leases.release(finished).await;
    }

    /// When a lease that is asked for now ends at the earliest, with something left for clocks that
    /// do not run alike.
    fn good_until(&self) -> Instant {
        Instant::now() + self.leases.time().mul_f64(0.9)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AgentId, Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("me", &self.me).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
