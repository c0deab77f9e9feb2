//! The queue of each agent: one call at a time, in the order of arrival. The gateway requires it.
//! It refuses a second call before the first is answered (000-007), and sign-in and sign-out must
//! not overlap (cec_07_1202, cec_07_1219).

use std::{
    future::pending,
    mem,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
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
    /// A request that was given up, which the gateway may still be processing.
    closing: Option<Closing>,
    /// Changes that the session store is still making, and no caller waits for.
    changes: Vec<JoinHandle<()>>,
}

/// The part of a record with the calls that wait for the agent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How many calls wait or have the turn.
    places: usize,
    /// `None` as long as there is nothing to wait for or to tell, as with nearly all calls.
    waiting: Option<Arc<Waiting>>,
}

/// What the calls that wait for one agent wait on.
#[derive(Debug)]
struct Waiting {
    /// Has a permit for the next call when a turn is over that another call may have. It is fair, and never closed.
    over: Semaphore,
    /// What the call with the turn has told the others about sign-ins.
    news: watch::Sender<SignInNews>,
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
    has_turn: bool,
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
        let limit = self.queue_limit.load(Ordering::Relaxed);
        let waiting = self.with(agent, |record| record.queue.enter(limit))?;
        let has_turn = waiting.is_none();
        let mut place =
            Place { agents: self.clone(), agent, has_turn, learned: None, good_at: None };
        let Some(waiting) = waiting else { return Ok(Turn::new(place)) };
        tokio::select! {
            biased;
            over = waiting.over.acquire() => {
                over.map_err(|_| CallError::Internal)?.forget();
                place.has_turn = true;
                Ok(Turn::new(place))
            }
            due_in = waiting.due_after(sign_in_by) => Err(Obstacle::SignInsQueued { due_in }),
        }
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.places == 0
    }

    /// Takes a place, unless `limit` calls wait already. Returns what the call has to wait on; `None`: it has the turn.
    fn enter(&mut self, limit: usize) -> Result<Option<Arc<Waiting>>, Obstacle> {
        // The limit is for calls that wait, and the call with the turn does not.
        if self.places > limit {
            let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
            return Err(Obstacle::Overloaded { share: Share::AgentQueue, limit });
        }
        self.places += 1;
        Ok((self.places > 1).then(|| self.waiting()))
    }

    /// Gives a place back. Returns where others wait, or may have waited.
    fn leave(&mut self) -> Option<Arc<Waiting>> {
        self.places -= 1;
        if self.is_empty() { self.waiting.take() } else { self.waiting.clone() }
    }

    fn waiting(&mut self) -> Arc<Waiting> {
        let new = || Waiting { over: Semaphore::new(0), news: watch::Sender::default() };
        self.waiting.get_or_insert_with(|| Arc::new(new())).clone()
    }
}

impl Waiting {
    /// Waits until a sign-in is expected that cannot be due by `latest`. Returns the time until it
    /// probably is.
    async fn due_after(&self, latest: Option<Instant>) -> Duration {
        let Some(latest) = latest else { return pending().await };
        let mut news = self.news.subscribe();
        loop {
            let due = news.borrow_and_update().due;
            if let Some(due) = due.filter(|due| due.earliest > latest) {
                return due.expected.saturating_duration_since(Instant::now());
            }
            // The sender is here.
            let _never_closed = news.changed().await;
        }
    }
}

impl Place {
    fn change_sign_in_news(&self, change: impl FnOnce(&mut SignInNews)) {
        let waiting = self.agents.with(self.agent, |record| record.queue.waiting());
        waiting.news.send_modify(change);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = self.agents.with(self.agent, |record| {
            record.activity = self.learned.or(record.activity);
            if let Some(asked) = self.good_at {
                record.was_good(asked);
            }
            record.queue.leave()
        });
        // If the last of those who waited has left in between, the queue has let go of this, and nobody will wait
        // on it: the permit is then lost without harm.
        if let Some(waiting) = waiting.filter(|_| self.has_turn) {
            waiting.over.add_permits(1);
        }
    }
}

// === impl Turn ===

impl Turn {
    fn new(place: Place) -> Self {
        Self { place: Some(place), closing: None, changes: Vec::new() }
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
        let place = self.place.as_ref()?;
        let waiting = place.agents.look(place.agent, |record| record.queue.waiting.clone());
        lately(&waiting??.news.borrow())
    }

    /// Says when the sign-in is due that the call with the turn waits for; `None`: it waits for
    /// none. Waiting calls whose time ends before that fail at once.
    pub(in crate::tenant) fn expect_sign_in(&self, due: Option<Due>) {
        if let Some(place) = &self.place {
            place.change_sign_in_news(|news| news.due = due);
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
        let held = self.place.take();
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

    /// Nearly no call has to wait for its agent.
    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_takes_no_memory_of_its_own() {
        let agents = agents(8);
        let waiting = |id| agents.look(agent(id), |record| record.queue.waiting.is_some());
        let first = agents.turn(agent(1001), Some(later())).await.unwrap();
        assert_eq!(waiting(1001), Some(false));
        let mut second = Box::pin(agents.turn(agent(1001), Some(later())));
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(waiting(1001), Some(true));
        drop((first, second));
        assert_eq!(waiting(1001), None);
    }

    #[tokio::test]
    async fn a_turn_of_a_call_that_has_left_goes_to_the_next_one() {
        let agents = agents(8);
        let turn = || Box::pin(agents.turn(agent(1001), Some(later())));
        let first = turn().await.unwrap();
        let (mut second, mut third) = (turn(), turn());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let mut fourth = turn();
        assert!(fourth.as_mut().now_or_never().is_none(), "it comes after those who waited");
        drop(second);
        let third = third.as_mut().now_or_never().expect("the third's turn").unwrap();
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(third);
        assert!(fourth.as_mut().now_or_never().is_some());
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
        let closing = async move { drop(closed.await) };
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
        next.hold_for(Closing::of(pending()));
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
