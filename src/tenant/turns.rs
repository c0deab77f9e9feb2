//! One call at a time for each agent, in the order in which they came. The gateway wants it so: a
//! second call before the first is answered is refused (000-007), and sign-in and sign-out must
//! not overlap (cec_07_1202, cec_07_1219).

use std::{
    collections::HashMap,
    future::pending,
    mem,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    call::{CallError, Obstacle, Share},
    gateway::Closing,
    id::AgentId,
};

/// The turns of a tenant's agents. An agent without calls takes no memory.
#[derive(Debug)]
pub(super) struct Turns {
    agents: Mutex<HashMap<AgentId, Queue>>,
    limit: NonZeroUsize,
}

/// The right to make an agent's next call. Whoever was waiting longest gets it when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    place: Option<Place>,
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    /// A request that was given up, and which the gateway may still be at.
    closing: Option<Closing>,
    /// Changes of the session store that nobody waits for any more.
    changes: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    shared: Arc<Shared>,
    /// Calls that wait or have the turn.
    places: usize,
}

#[derive(Debug)]
struct Shared {
    turn: Arc<Semaphore>,
    failed_sign_in: Mutex<Option<(Instant, Obstacle)>>,
    /// When the sign-in is due that the call with the turn waits for.
    sign_in_due: Mutex<Option<Instant>>,
    /// Tells those who wait that it has changed.
    due_changed: Notify,
}

/// A place in an agent's queue; the last one to leave takes the queue down.
#[derive(Debug)]
struct Place {
    turns: Arc<Turns>,
    agent: AgentId,
    shared: Arc<Shared>,
}

// === impl Turns ===

impl Turns {
    pub(super) fn new(limit: NonZeroUsize) -> Self {
        Self { agents: Mutex::default(), limit }
    }

    /// Waits for the agent's turn. Dropping the future gives the place up. The wait ends early if
    /// the agent has to be signed in first, and that is not due before `sign_in_by`; `None`: the call
    /// needs no session.
    pub(super) async fn take(
        self: &Arc<Self>,
        agent: AgentId,
        sign_in_by: Option<Instant>,
    ) -> Result<Turn, Obstacle> {
        let place = self.enter(agent)?;
        let turn = place.shared.turn.clone();
        if let Ok(turn) = turn.clone().try_acquire_owned() {
            return Ok(Turn::new(turn, place));
        }
        tokio::select! {
            biased;
            // The semaphore is fair, and never closed.
            turn = turn.acquire_owned() => {
                Ok(Turn::new(turn.map_err(|_| CallError::Internal)?, place))
            }
            due_in = place.shared.due_after(sign_in_by) => Err(Obstacle::SignInsQueued { due_in }),
        }
    }

    fn enter(self: &Arc<Self>, agent: AgentId) -> Result<Place, Obstacle> {
        let mut agents = self.agents();
        let queue = agents.entry(agent).or_insert_with(Queue::new);
        // The one who has the turn does not wait.
        if queue.places > self.limit.get() {
            return Err(Obstacle::Overloaded { share: Share::AgentQueue, limit: self.limit });
        }
        queue.places += 1;
        Ok(Place { turns: self.clone(), agent, shared: queue.shared.clone() })
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<AgentId, Queue>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn new() -> Self {
        let turn = Arc::new(Semaphore::new(1));
        let shared = Shared {
            turn,
            failed_sign_in: Mutex::default(),
            sign_in_due: Mutex::default(),
            due_changed: Notify::new(),
        };
        Self { shared: Arc::new(shared), places: 0 }
    }
}

impl Shared {
    /// Waits until a sign-in is expected that comes after `latest`; tells in how much time.
    async fn due_after(&self, latest: Option<Instant>) -> Duration {
        let Some(latest) = latest else { return pending().await };
        loop {
            let mut changed = pin!(self.due_changed.notified());
            changed.as_mut().enable();
            let due = *self.sign_in_due.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(due) = due.filter(|due| *due > latest) {
                return due.saturating_duration_since(Instant::now());
            }
            changed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut agents = self.turns.agents();
        if let Some(queue) = agents.get_mut(&self.agent) {
            queue.places -= 1;
            if queue.places == 0 {
                agents.remove(&self.agent);
            }
        }
    }
}

// === impl Turn ===

impl Turn {
    fn new(permit: OwnedSemaphorePermit, place: Place) -> Self {
        let shared = place.shared.clone();
        Self {
            place: Some(place),
            permit: Some(permit),
            shared,
            closing: None,
            changes: Vec::new(),
        }
    }

    /// The next one gets the turn only when the gateway has had the time to notice that this request
    /// was given up: else it would refuse the next, or carry it out first.
    pub(super) fn hold_for(&mut self, closing: Closing) {
        self.closing = Some(closing);
    }

    /// The next one gets the turn only when this change is done, which it has to find.
    pub(super) fn hold_for_change(&mut self, change: JoinHandle<()>) {
        self.changes.push(change);
    }

    /// The changes that the next turn would wait for, in the order in which they began. Whoever takes them
    /// waits for them.
    pub(super) fn take_changes(&mut self) -> Vec<JoinHandle<()>> {
        mem::take(&mut self.changes)
    }

    /// What this turn's next request has to wait for, too.
    pub(super) fn take_closing(&mut self) -> Option<Closing> {
        self.closing.take()
    }

    /// How a sign-in ended that was under way while a call that `arrived` then was waiting. It
    /// counts for that call too: five hundred first calls for one agent with a wrong password
    /// must not try it five hundred times.
    pub(super) fn shared_failure(&self, arrived: Instant) -> Option<Obstacle> {
        let failed = self.failed_sign_in();
        failed.as_ref().filter(|(at, _)| *at >= arrived).map(|(_, error)| error.clone())
    }

    /// The call that has the turn waits for a sign-in that is due then, or no longer does. Calls
    /// behind it that cannot wait so long need not wait at all.
    pub(super) fn expect_sign_in(&self, due: Option<Instant>) {
        let shared = &self.shared;
        *shared.sign_in_due.lock().unwrap_or_else(PoisonError::into_inner) = due;
        shared.due_changed.notify_waiters();
    }

    /// Shares a failed sign-in with the calls that are waiting now.
    pub(super) fn share_failure(&self, error: Obstacle) {
        *self.failed_sign_in() = Some((Instant::now(), error));
    }

    fn failed_sign_in(&self) -> MutexGuard<'_, Option<(Instant, Obstacle)>> {
        self.shared.failed_sign_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (closing, changes) = (self.closing.take(), mem::take(&mut self.changes));
        if closing.is_none() && changes.is_empty() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let held = (self.permit.take(), self.place.take());
        runtime.spawn(async move {
            if let Some(closing) = closing {
                closing.noticed().await;
            }
            let _panics = join_all(changes).await;
            drop(held);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_lite_poll::poll_once;

    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    /// One poll of a future, to see whether it is still waiting.
    mod futures_lite_poll {
        use std::{future::Future, pin::Pin, task::Poll};

        pub(super) async fn poll_once<F: Future + ?Sized>(
            mut future: Pin<&mut F>,
        ) -> Option<F::Output> {
            std::future::poll_fn(move |context| {
                Poll::Ready(match future.as_mut().poll(context) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                })
            })
            .await
        }
    }

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn turns(limit: usize) -> Arc<Turns> {
        Arc::new(Turns::new(NonZeroUsize::new(limit).unwrap()))
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let turns = turns(8);
        let first = turns.take(agent(1001), Some(later())).await.unwrap();
        let mut second = Box::pin(turns.take(agent(1001), Some(later())));
        let mut third = Box::pin(turns.take(agent(1001), Some(later())));
        assert!(poll_once(second.as_mut()).await.is_none());
        assert!(poll_once(third.as_mut()).await.is_none());
        assert!(turns.take(agent(1002), Some(later())).await.is_ok(), "other agents do not wait");

        drop(first);
        assert!(poll_once(third.as_mut()).await.is_none());
        let second = poll_once(second.as_mut()).await.expect("the second's turn").unwrap();
        drop(second);
        assert!(poll_once(third.as_mut()).await.is_some());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_an_empty_one_takes_no_memory() {
        let turns = turns(1);
        let first = turns.take(agent(1001), Some(later())).await.unwrap();
        let mut second = Box::pin(turns.take(agent(1001), Some(later())));
        assert!(poll_once(second.as_mut()).await.is_none());
        let third = turns.take(agent(1001), Some(later())).await;
        assert!(matches!(third, Err(Obstacle::Overloaded { share: Share::AgentQueue, .. })));

        drop(second);
        drop(first);
        assert!(turns.agents().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_kept_until_the_gateway_has_noticed_that_its_request_was_given_up() {
        let turns = turns(8);
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let closing = tokio::spawn(async move { drop(closed.await) });
        let mut turn = turns.take(agent(1001), None).await.unwrap();
        turn.hold_for(Closing::of(closing));
        drop(turn);
        let mut next = Box::pin(turns.take(agent(1001), None));
        let half = Duration::from_millis(500);
        assert!(tokio::time::timeout(half, next.as_mut()).await.is_err(), "it is not closed yet");
        close.send(()).unwrap();
        let begun = Instant::now();
        let mut next = next.await.unwrap();
        let moment = Duration::from_millis(100);
        assert!((moment..2 * moment).contains(&begun.elapsed()), "{:?}", begun.elapsed());

        // A peer that never closes does not keep the agent for ever.
        next.hold_for(Closing::of(tokio::spawn(pending())));
        drop(next);
        turns.take(agent(1001), None).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_a_sign_in_that_comes_too_late_is_told_so() {
        let turns = turns(8);
        let turn = turns.take(agent(1001), Some(later())).await.unwrap();
        let mut patient = Box::pin(turns.take(agent(1001), Some(later())));
        let soon = Some(Instant::now() + Duration::from_secs(1));
        let mut hurried = Box::pin(turns.take(agent(1001), soon));
        assert!(poll_once(patient.as_mut()).await.is_none());
        assert!(poll_once(hurried.as_mut()).await.is_none());

        turn.expect_sign_in(Some(Instant::now() + Duration::from_secs(30)));
        let told = poll_once(hurried.as_mut()).await.expect("told at once").unwrap_err();
        let due_in = Duration::from_secs(30);
        assert!(matches!(told, Obstacle::SignInsQueued { due_in: told } if told == due_in));
        let told = turns.take(agent(1001), soon).await.unwrap_err();
        assert!(matches!(told, Obstacle::SignInsQueued { .. }), "who comes later is told, too");
        assert!(poll_once(patient.as_mut()).await.is_none(), "who can wait does");

        turn.expect_sign_in(None);
        drop(hurried);
        let mut hurried = Box::pin(turns.take(agent(1001), soon));
        assert!(poll_once(hurried.as_mut()).await.is_none(), "no sign-in is expected any more");
        drop(turn);
        assert!(poll_once(patient.as_mut()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_sign_in_counts_for_those_who_waited_for_it() {
        let turns = turns(8);
        let before = Instant::now();
        let turn = turns.take(agent(1001), Some(later())).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        turn.share_failure(CallError::Internal.into());
        assert!(turn.shared_failure(before).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(turn.shared_failure(Instant::now()).is_none());
    }
}
