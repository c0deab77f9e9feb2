//! Automatic sign-ins (not requested by `SignIn`): which agent is next, and who does the work.
//!
//! A sign-in belongs to the agent, not to the call. If the caller leaves, the agent keeps its place
//! in the queue as long as somebody has asked for it lately. When the agent's moment has come, the
//! call that has the agent's turn signs it in. If there is no such call, the bridge does it by
//! itself.

mod drive;
mod queue;
mod rate;
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

pub(super) use self::wait::Moment;
use self::{queue::Queue, rate::RateLimit};
use super::{SharedSignIns, Tenant, pool};
use crate::{call::Obstacle, config, id::AgentId};

/// A tenant's queue of automatic sign-ins.
#[derive(Debug)]
pub(super) struct SignIns {
    state: Mutex<State>,
    /// The number of entries in the queue, so that calls need not lock it while it is empty.
    entries: AtomicUsize,
    rate: RateLimit,
    /// Places for sign-ins under way. They are fewer than the tenant's requests, so that other
    /// calls get some.
    places: Arc<Semaphore>,
    places_max: AtomicUsize,
}

#[derive(Debug)]
struct State {
    queue: Queue<Waiters>,
    /// Whether a task takes agents from the queue.
    is_driven: bool,
}

/// Who waits for an agent's sign-in.
#[derive(Debug, Default)]
struct Waiters {
    /// The call that has the agent's turn.
    call: Option<oneshot::Sender<Grant>>,
    /// The agent's keeper.
    keeper: Option<oneshot::Sender<Settled>>,
    /// The right to sign the agent in, until a call that has the agent's turn takes it.
    grant: Option<Grant>,
}

/// The right to sign an agent in now. Dropping it removes the agent from the queue, and locks the
/// queue for that. So it must not be dropped under the queue's lock.
#[derive(Debug)]
pub(super) struct Grant {
    /// The agent has been signed out since it was given, so that only a caller may use it.
    is_withdrawn: bool,
    /// A call has asked for it lately, and may come back for the agent.
    is_for_caller: bool,
    sign_ins: Arc<SignIns>,
    agent: AgentId,
    /// The ticket of the agent's entry.
    ticket: u64,
    queued: Duration,
    result: Result<(), Obstacle>,
    _place: OwnedSemaphorePermit,
}

/// The result of a sign-in that a keeper asked for.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) result: Result<(), Obstacle>,
    /// How long the agent waited in the queue.
    pub(super) queued: Duration,
}

/// The state of a tenant's queue of sign-ins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignInQueue {
    /// How many agents wait.
    pub waiting: usize,
    /// How long the longest waiting of them has waited.
    pub oldest: Duration,
    /// How many sign-ins are under way.
    pub under_way: usize,
    /// How many agents leave the queue per second, as measured lately; this replica's even part of the configured rate if
    /// the queue has been empty.
    pub per_second: f64,
    /// The time until the queue is empty, if no agent joins it.
    pub empty_in: Duration,
}

// === impl SignIns ===

impl SignIns {
    pub(super) fn new(config: &config::Tenant, shared: Option<Arc<dyn SharedSignIns>>) -> Self {
        let rate = RateLimit::per_second(config.keep.sign_ins_per_second, shared);
        let queue = Queue::new(rate.intervals());
        let places_max = places(&config.limits);
        Self {
            state: Mutex::new(State { queue, is_driven: false }),
            entries: AtomicUsize::new(0),
            rate,
            places: Arc::new(Semaphore::new(places_max)),
            places_max: places_max.into(),
        }
    }

    /// Takes over the limits of a changed configuration.
    pub(super) fn change(&self, config: &config::Tenant) {
        self.rate.set_per_second(config.keep.sign_ins_per_second);
        self.lock().queue.set_intervals(self.rate.intervals());
        let places_max = places(&config.limits);
        pool::resize(&self.places, self.places_max.swap(places_max, Ordering::Relaxed), places_max);
    }

    /// The coordination with other replicas; `None` if there are none.
    pub(super) fn shared(&self) -> Option<&Arc<dyn SharedSignIns>> {
        self.rate.shared()
    }

    /// Whether this version of the agent's session is known not to work, and a sign-in is queued.
    pub(super) fn is_lost(&self, agent: AgentId, version: u64) -> bool {
        // Usually the queue is empty. Then no lock is needed.
        self.entries.load(Ordering::Relaxed) > 0
            && self.lock().queue.entry(agent).is_some_and(|entry| entry.refused >= version)
    }

    /// Removes a waiting agent from the queue, because it has a session that was made in another
    /// way. Those who wait for its sign-in then look for that session.
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

    /// The state of the queue.
    pub(super) fn view(&self) -> SignInQueue {
        let state = self.lock_to_estimate();
        let (waiting, interval) = (state.queue.waiting(), state.queue.interval(Instant::now()));
        let count = u32::try_from(waiting).unwrap_or(u32::MAX);
        SignInQueue {
            waiting,
            oldest: state.queue.oldest().map(|since| since.elapsed()).unwrap_or_default(),
            // Those who are due stay until they are signed in.
            under_way: state.queue.len() - waiting,
            per_second: interval.as_secs_f64().recip(),
            empty_in: interval.saturating_mul(count),
        }
    }

    /// Like [`settle`](Self::settle), after the agent has been signed out. A sign-in that is due, and that nobody has begun,
    /// is made only for a caller who comes after that.
    pub(super) fn withdraw(&self, agent: AgentId) {
        self.settle(agent);
        let mut state = self.lock();
        if let Some(grant) = state.queue.entry(agent).and_then(|it| it.waiters.grant.as_mut()) {
            grant.is_withdrawn = true;
        }
    }

    fn count(&self, state: &State) {
        self.entries.store(state.queue.len(), Ordering::Relaxed);
    }

    /// The queue, with what it can expect by the replicas that there are now. Whoever is told a time that is too short comes
    /// again and again; one that is too long costs nobody its place.
    fn lock_to_estimate(&self) -> MutexGuard<'_, State> {
        let intervals = self.rate.intervals();
        let mut state = self.lock();
        state.queue.expect(intervals);
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sign-ins may be under way. The rest of the requests is for calls for agents who are signed in
/// again already.
fn places(limits: &config::Limits) -> usize {
    (limits.requests.get() * 3 / 4).max(1)
}

// === impl Tenant ===

impl Tenant {
    /// The state of the tenant's queue of sign-ins.
    pub fn sign_in_queue(&self) -> SignInQueue {
        self.sign_ins.view()
    }
}

// === impl Grant ===

impl Grant {
    /// Whether a call has asked for it lately.
    pub(super) fn is_for_caller(&self) -> bool {
        self.is_for_caller
    }

    /// Ends the sign-in, and tells its result to those who wait for it.
    pub(super) fn finish<T>(mut self, result: &Result<T, Obstacle>) {
        self.result = result.as_ref().map(drop).map_err(Obstacle::clone);
    }

    fn tell(&self, keeper: Option<oneshot::Sender<Settled>>) {
        if let Some(keeper) = keeper {
            let settled = Settled { result: self.result.clone(), queued: self.queued };
            // A keeper that has been stopped meanwhile does not receive it.
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
