//! The queue of each agent: one call at a time, in the order of arrival. The gateway requires it.
//! It refuses a second call before the first is answered (000-007), and sign-in and sign-out must
//! not overlap (cec_07_1202, cec_07_1219).

use std::{
    future::pending,
    mem,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

use super::{Activity, AgentRecords};
use crate::{
    call::{CallError, Obstacle, Share},
    gateway::Closing,
    id::AgentId,
};

/// The right to make an agent's next call. When it is dropped, the call that has waited longest
/// gets it.
#[derive(Debug)]
pub(in crate::tenant) struct Turn {
    place: Option<Place>,
    permit: Option<OwnedSemaphorePermit>,
    /// A request that was given up, which the gateway may still be processing.
    closing: Option<Closing>,
    /// Changes that the session store is still making, and no caller waits for.
    changes: Vec<JoinHandle<()>>,
}

/// The part of a record with the calls that wait for the agent.
#[derive(Debug)]
pub(super) struct Queue {
    gate: Arc<Gate>,
    /// How many calls wait or have the turn.
    places: usize,
    /// What the call with the turn has told the others about sign-ins.
    sign_in: Option<Box<SignInNews>>,
}

/// The semaphore and the signal that the calls for one agent wait on.
#[derive(Debug)]
struct Gate {
    /// The call that holds its only permit has the turn. It is fair, and never closed.
    turn: Arc<Semaphore>,
    /// Tells waiting calls that the time of the expected sign-in has changed.
    due_changed: Notify,
}

/// What calls that wait for an agent have to know about its sign-ins.
#[derive(Debug, Default)]
struct SignInNews {
    failed: Option<(Instant, Obstacle)>,
    /// When the sign-in that the call with the turn waits for is due.
    due: Option<Due>,
}

/// When a sign-in that waits for its moment is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) struct Due {
    /// Not before this time. A call fails at once only if its own time ends earlier.
    pub(in crate::tenant) earliest: Instant,
    /// At about this time, which callers are told.
    pub(in crate::tenant) expected: Instant,
}

/// A place in an agent's queue. Dropping the last one removes the queue.
#[derive(Debug)]
struct Place {
    agents: Arc<AgentRecords>,
    agent: AgentId,
    gate: Arc<Gate>,
    /// What the call has learned about the agent, to be entered into its record when the turn is over.
    learned: Option<Activity>,
    /// When the gateway was asked that has taken the agent's session for good.
    good_at: Option<Instant>,
}

// === impl AgentRecords ===

impl AgentRecords {
    /// Waits for the agent's turn. Dropping the future leaves the queue. The wait ends early if the
    /// agent has to be signed in first, and that sign-in cannot be due by `sign_in_by`. `None`:
    /// the call needs no session.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if the queue is full, and [`Obstacle::SignInsQueued`] if the
    /// sign-in is due too late.
    pub(in crate::tenant) async fn turn(
        self: &Arc<Self>,
        agent: AgentId,
        sign_in_by: Option<Instant>,
    ) -> Result<Turn, Obstacle> {
        let place = self.enter_queue(agent)?;
        let turn = place.gate.turn.clone();
        if let Ok(permit) = turn.clone().try_acquire_owned() {
            return Ok(Turn::new(permit, place));
        }
        tokio::select! {
            biased;
            permit = turn.acquire_owned() => {
                Ok(Turn::new(permit.map_err(|_| CallError::Internal)?, place))
            }
            due_in = place.due_after(sign_in_by) => Err(Obstacle::SignInsQueued { due_in }),
        }
    }

    fn enter_queue(self: &Arc<Self>, agent: AgentId) -> Result<Place, Obstacle> {
        let limit = self.queue_limit.load(Ordering::Relaxed);
        let gate = self.with(agent, |record| {
            let queue = record.queue.get_or_insert_with(Queue::new);
            // `<=`, since the limit is for calls that wait, and the call with the turn does not.
            let has_room = queue.places <= limit;
            has_room.then(|| {
                queue.places += 1;
                queue.gate.clone()
            })
        });
        let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        let gate = gate.ok_or(Obstacle::Overloaded { share: Share::AgentQueue, limit })?;
        Ok(Place { agents: self.clone(), agent, gate, learned: None, good_at: None })
    }
}

impl Queue {
    fn new() -> Self {
        let gate = Gate { turn: Arc::new(Semaphore::new(1)), due_changed: Notify::new() };
        Self { gate: Arc::new(gate), places: 0, sign_in: None }
    }
}

impl Place {
    /// Waits until a sign-in is expected that cannot be due by `latest`. Returns the time until it
    /// probably is.
    async fn due_after(&self, latest: Option<Instant>) -> Duration {
        let Some(latest) = latest else { return pending().await };
        loop {
            let mut changed = pin!(self.gate.due_changed.notified());
            changed.as_mut().enable();
            let due = self.sign_in_news(|news| news.due);
            if let Some(due) = due.filter(|due| due.earliest > latest) {
                return due.expected.saturating_duration_since(Instant::now());
            }
            changed.await;
        }
    }

    fn sign_in_news<T>(&self, read: impl FnOnce(&SignInNews) -> Option<T>) -> Option<T> {
        let news =
            self.agents.look(self.agent, |record| read(record.queue.as_ref()?.sign_in.as_ref()?));
        news.flatten()
    }

    fn change_sign_in_news(&self, change: impl FnOnce(&mut SignInNews)) {
        self.agents.with(self.agent, |record| {
            if let Some(queue) = &mut record.queue {
                change(queue.sign_in.get_or_insert_default());
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.agents.with(self.agent, |record| {
            if let Some(queue) = &mut record.queue {
                queue.places -= 1;
            }
            record.activity = self.learned.or(record.activity);
            if let Some(asked) = self.good_at {
                record.was_good(asked);
            }
            record.queue.take_if(|queue| queue.places == 0)
        });
    }
}

// === impl Turn ===

impl Turn {
    fn new(permit: OwnedSemaphorePermit, place: Place) -> Self {
        Self { place: Some(place), permit: Some(permit), closing: None, changes: Vec::new() }
    }

    /// Notes what the call has learned about what the agent is doing.
    pub(in crate::tenant) fn learn(&mut self, activity: Activity) {
        let Some(place) = &mut self.place else { return };
        place.learned = Some(activity);
    }

    /// Notes that the gateway has taken the agent's session for good; see [`AgentRecords::was_good`].
    pub(in crate::tenant) fn was_good(&mut self, asked: Option<Instant>) {
        if let Some(place) = &mut self.place {
            place.good_at = place.good_at.max(asked);
        }
    }

    /// What the agent was doing when the gateway last said so.
    pub(in crate::tenant) fn activity(&self) -> Option<Activity> {
        let place = self.place.as_ref()?;
        let of_record = || place.agents.look(place.agent, |record| record.activity).flatten();
        place.learned.or_else(of_record)
    }

    /// Delays the next turn until the gateway has had the time to notice that this request was
    /// given up. Otherwise it would refuse the next request, or carry it out first.
    pub(in crate::tenant) fn hold_for(&mut self, closing: Closing) {
        self.closing = Some(closing);
    }

    /// Delays the next turn until this change of the store is done, since the next call has to find
    /// it.
    pub(in crate::tenant) fn hold_for_change(&mut self, change: JoinHandle<()>) {
        self.changes.push(change);
    }

    /// Takes the changes that the next turn would wait for, in the order in which they began. The
    /// caller has to wait for them instead.
    pub(in crate::tenant) fn take_changes(&mut self) -> Vec<JoinHandle<()>> {
        mem::take(&mut self.changes)
    }

    /// Takes the request that was given up. The caller has to wait for it before this turn's next
    /// request.
    pub(in crate::tenant) fn take_closing(&mut self) -> Option<Closing> {
        self.closing.take()
    }

    /// The failure of a sign-in that ended after a call `arrived` and while it waited. It counts
    /// for that call too: if five hundred calls wait for one agent with a wrong password, the
    /// bridge must not try it five hundred times.
    pub(in crate::tenant) fn shared_failure(&self, arrived: Instant) -> Option<Obstacle> {
        let lately = |news: &SignInNews| {
            let (at, error) = news.failed.as_ref()?;
            (*at >= arrived).then(|| error.clone())
        };
        self.place.as_ref()?.sign_in_news(lately)
    }

    /// Says when the sign-in is due that the call with the turn waits for; `None`: it waits for
    /// none. Waiting calls whose time ends before that fail at once.
    pub(in crate::tenant) fn expect_sign_in(&self, due: Option<Due>) {
        if let Some(place) = &self.place {
            place.change_sign_in_news(|news| news.due = due);
            place.gate.due_changed.notify_waiters();
        }
    }

    /// Shares a failed sign-in with the calls that are waiting now.
    pub(in crate::tenant) fn share_failure(&self, error: Obstacle) {
        if let Some(place) = &self.place {
            place.change_sign_in_news(|news| news.failed = Some((Instant::now(), error)));
        }
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
    use futures_util::FutureExt as _;

    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    fn agent(id: u32) -> AgentId {
        AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn agents(queue: usize) -> Arc<AgentRecords> {
        Arc::new(AgentRecords::of_test(queue, 8))
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let agents = agents(8);
        let first = agents.turn(agent(1001), Some(later())).await.unwrap();
        let mut second = Box::pin(agents.turn(agent(1001), Some(later())));
        let mut third = Box::pin(agents.turn(agent(1001), Some(later())));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(agents.turn(agent(1002), Some(later())).await.is_ok(), "other agents do not wait");

        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        let second = second.as_mut().now_or_never().expect("the second's turn").unwrap();
        drop(second);
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_an_empty_one_takes_no_memory() {
        let agents = agents(1);
        let first = agents.turn(agent(1001), Some(later())).await.unwrap();
        let mut second = Box::pin(agents.turn(agent(1001), Some(later())));
        assert!(second.as_mut().now_or_never().is_none());
        let third = agents.turn(agent(1001), Some(later())).await;
        assert!(matches!(third, Err(Obstacle::Overloaded { share: Share::AgentQueue, .. })));

        drop(second);
        drop(first);
        assert_eq!(agents.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_kept_until_the_gateway_has_noticed_that_its_request_was_given_up() {
        let agents = agents(8);
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let closing = tokio::spawn(async move { drop(closed.await) });
        let mut turn = agents.turn(agent(1001), None).await.unwrap();
        turn.hold_for(Closing::of(closing));
        drop(turn);
        let mut next = Box::pin(agents.turn(agent(1001), None));
        let half = Duration::from_millis(500);
        assert!(tokio::time::timeout(half, next.as_mut()).await.is_err(), "it is not closed yet");
        close.send(()).unwrap();
        let begun = Instant::now();
        let mut next = next.await.unwrap();
        let moment = Duration::from_millis(100);
        assert!((moment..2 * moment).contains(&begun.elapsed()), "{:?}", begun.elapsed());

        // A peer that never closes the connection does not block the agent for ever.
        next.hold_for(Closing::of(tokio::spawn(pending())));
        drop(next);
        agents.turn(agent(1001), None).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_a_sign_in_that_comes_too_late_is_told_so() {
        let agents = agents(8);
        let turn = agents.turn(agent(1001), Some(later())).await.unwrap();
        let mut patient = Box::pin(agents.turn(agent(1001), Some(later())));
        let soon = Some(Instant::now() + Duration::from_secs(1));
        let mut hurried = Box::pin(agents.turn(agent(1001), soon));
        assert!(patient.as_mut().now_or_never().is_none());
        assert!(hurried.as_mut().now_or_never().is_none());

        let due = |earliest, expected| {
            let after = |seconds| Instant::now() + Duration::from_secs(seconds);
            Some(Due { earliest: after(earliest), expected: after(expected) })
        };
        turn.expect_sign_in(due(1, 30));
        assert!(hurried.as_mut().now_or_never().is_none(), "it may come in time");
        turn.expect_sign_in(due(2, 30));
        let told = hurried.as_mut().now_or_never().expect("told at once").unwrap_err();
        let due_in = Duration::from_secs(30);
        assert!(matches!(told, Obstacle::SignInsQueued { due_in: told } if told == due_in));
        let told = agents.turn(agent(1001), soon).await.unwrap_err();
        assert!(matches!(told, Obstacle::SignInsQueued { .. }), "who comes later is told, too");
        assert!(patient.as_mut().now_or_never().is_none(), "who can wait does");

        turn.expect_sign_in(None);
        drop(hurried);
        let mut hurried = Box::pin(agents.turn(agent(1001), soon));
        assert!(hurried.as_mut().now_or_never().is_none(), "no sign-in is expected any more");
        drop(turn);
        assert!(patient.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_sign_in_counts_for_those_who_waited_for_it() {
        let agents = agents(8);
        let before = Instant::now();
        let turn = agents.turn(agent(1001), Some(later())).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        turn.share_failure(CallError::Internal.into());
        assert!(turn.shared_failure(before).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(turn.shared_failure(Instant::now()).is_none());
    }
}
