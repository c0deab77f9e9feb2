//! Automatic sign-ins, which no `SignIn` asked for: which agent is next, and who does the work.
//!
//! They belong to the agent. A caller who leaves loses its answer, and the agent keeps its place in
//! the queue as long as somebody has asked for it lately. When its moment has come, the call that
//! has the agent's turn signs it in; where there is none, the bridge does by itself.

mod drive;
mod queue;
mod wait;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use self::queue::Queue;
pub(super) use self::wait::Moment;
use super::{SharedSignIns, Tenant, rate_limit::RateLimit};
use crate::{call::Obstacle, config, id::AgentId};

/// A tenant's queue of automatic sign-ins.
#[derive(Debug)]
pub(super) struct SignIns {
    state: Mutex<State>,
    /// Entries of the queue, so that a call for an agent with a session need not lock.
    entries: AtomicUsize,
    rate: RateLimit,
    /// Places for sign-ins under way; the rest of the requests is left to other calls.
    places: Arc<Semaphore>,
    places_max: usize,
}

#[derive(Debug)]
struct State {
    queue: Queue<Waiters>,
    /// Whether a task takes agents from the queue.
    is_driven: bool,
}

/// Who is to hear of an agent's sign-in.
#[derive(Debug, Default)]
struct Waiters {
    /// The call that has the agent's turn.
    call: Option<oneshot::Sender<Grant>>,
    /// The agent's keeper.
    keeper: Option<oneshot::Sender<Settled>>,
    /// The right to sign the agent in, until somebody who has the agent's turn takes it.
    grant: Option<Grant>,
}

/// The right to sign an agent in now. The agent leaves the queue when this is dropped, which must
/// not happen under the queue's lock.
#[derive(Debug)]
pub(super) struct Grant {
    sign_ins: Arc<SignIns>,
    agent: AgentId,
    /// Of the agent's entry.
    ticket: u64,
    queued: Duration,
    result: Result<(), Obstacle>,
    _place: OwnedSemaphorePermit,
}

/// What became of a sign-in that a keeper asked for.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) result: Result<(), Obstacle>,
    /// How long the agent waited for its moment.
    pub(super) queued: Duration,
}

/// How a tenant's queue of sign-ins is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignInQueue {
    /// Agents that wait for their moment.
    pub waiting: usize,
    /// How long the first of them has been waiting.
    pub oldest: Duration,
    /// Sign-ins that are under way.
    pub under_way: usize,
    /// How many agents leave the queue in a second, as measured lately; the configured rate where
    /// the queue has been empty.
    pub per_second: f64,
    /// When the queue will be empty if nobody joins it.
    pub empty_in: Duration,
}

// === impl SignIns ===

impl SignIns {
    pub(super) fn new(config: &config::Tenant, shared: Option<Arc<dyn SharedSignIns>>) -> Self {
        let rate = RateLimit::per_second(config.keep.sign_ins_per_second, shared);
        let queue = Queue::new(rate.interval());
        // Calls for agents who are back already want places, too.
        let places_max = (config.limits.requests.get() * 3 / 4).max(1);
        Self {
            state: Mutex::new(State { queue, is_driven: false }),
            entries: AtomicUsize::new(0),
            rate,
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
        }
    }

    /// By which replicas agree on who signs an agent in; `None`: there are no others.
    pub(super) fn shared(&self) -> Option<&Arc<dyn SharedSignIns>> {
        self.rate.shared()
    }

    /// Whether this session of the agent's is known not to work, and a better one is asked for.
    pub(super) fn is_lost(&self, agent: AgentId, version: u64) -> bool {
        // Most of the time nobody waits.
        self.entries.load(Ordering::Relaxed) > 0
            && self.lock().queue.entry(agent).is_some_and(|entry| entry.refused >= version)
    }

    /// Whoever waits for the agent's sign-in looks again: there is a session that was not made
    /// through this queue.
    pub(super) fn settle(&self, agent: AgentId) {
        if self.entries.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.lock();
        let waits = state.queue.entry(agent).is_some_and(|entry| entry.is_waiting());
        let settled = waits.then(|| state.queue.remove(agent));
        self.count(&state);
        drop(state);
        drop(settled);
    }

    /// How the queue is doing.
    pub(super) fn view(&self) -> SignInQueue {
        let state = self.lock();
        let (waiting, interval) = (state.queue.waiting(), state.queue.interval(Instant::now()));
        let count = u32::try_from(waiting).unwrap_or(u32::MAX);
        SignInQueue {
            waiting,
            oldest: state.queue.oldest().map(|since| since.elapsed()).unwrap_or_default(),
            under_way: self.places_max.saturating_sub(self.places.available_permits()),
            per_second: interval.as_secs_f64().recip(),
            empty_in: interval.saturating_mul(count),
        }
    }

    fn count(&self, state: &State) {
        self.entries.store(state.queue.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tenant ===

impl Tenant {
    /// How its queue of sign-ins is doing.
    pub fn sign_in_queue(&self) -> SignInQueue {
        self.sign_ins.view()
    }
}

// === impl Grant ===

impl Grant {
    /// Tells whoever waits for it what became of the sign-in.
    pub(super) fn finish<T>(mut self, result: &Result<T, Obstacle>) {
        self.result = result.as_ref().map(drop).map_err(Obstacle::clone);
    }

    fn tell(&self, keeper: Option<oneshot::Sender<Settled>>) {
        if let Some(keeper) = keeper {
            let settled = Settled { result: self.result.clone(), queued: self.queued };
            // A keeper that has been stopped meanwhile needs no word.
            let _unheard = keeper.send(settled);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut state = self.sign_ins.lock();
        let is_own = state.queue.entry(self.agent).is_some_and(|e| e.ticket == self.ticket);
        let entry = is_own.then(|| state.queue.remove(self.agent)).flatten();
        self.sign_ins.count(&state);
        drop(state);
        self.tell(entry.and_then(|entry| entry.waiters.keeper));
    }
}
