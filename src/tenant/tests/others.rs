//! Other replicas, as a test has them be.

use std::{
    collections::VecDeque,
    future::ready,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::{
    event::{Events, NoRelay, Relay},
    id::{AgentId, TenantId},
    session::{StoreError, StoreFuture},
    tenant::{
        Attempt, Cause, Claimed, Grant, LeaseCounts, Lock, Moments, Peers, PollOwnership, Polls,
        Replicas, SharedSignIns,
    },
};

pub(super) const LOCK_TIME: Duration = Duration::from_millis(300);
/// Nobody else has anything to do with the agent.
pub(super) const OURS: Lock = Lock { grant: Some(Grant(1)), others: 0, stored: 0 };
/// The same, after the lock had been lost.
pub(super) const OURS_AGAIN: Lock = Lock { grant: Some(Grant(2)), ..OURS };
/// Another replica is signing the agent in.
pub(super) const THEIRS: Lock = Lock { grant: None, others: 1, stored: 0 };

/// What replicas agree on.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    pub(super) polls: Arc<SharedPolls>,
    pub(super) sign_ins: Arc<Locks>,
}

/// Who polls.
#[derive(Debug)]
pub(super) struct SharedPolls {
    pub(super) claimed: Mutex<Claimed>,
    pub(super) may_poll: AtomicBool,
    pub(super) is_sole: AtomicBool,
    pub(super) runs: AtomicUsize,
    pub(super) left: AtomicUsize,
    pub(super) ended: AtomicUsize,
}

/// Who signs in. `answers` come first, and then the last of them for ever.
#[derive(Debug, Default)]
pub(super) struct Locks {
    pub(super) answers: Mutex<VecDeque<Option<Lock>>>,
    pub(super) asked: AtomicUsize,
    pub(super) unlocked: AtomicUsize,
    /// Whether others have taken all moments.
    pub(super) takes_all_moments: AtomicBool,
    /// How many moments were given to this replica.
    pub(super) moments: AtomicU32,
}

impl Default for SharedPolls {
    fn default() -> Self {
        Self {
            claimed: Mutex::new(Claimed::Here),
            may_poll: AtomicBool::new(true),
            is_sole: AtomicBool::new(true),
            runs: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }
}

impl Others {
    /// Those whose store answers like this; `None`: not at all.
    pub(super) fn answering(answers: impl IntoIterator<Item = Option<Lock>>) -> Self {
        let others = Self::default();
        others.answer(answers);
        others
    }

    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Option<Lock>>) {
        *self.sign_ins.answers.lock().unwrap_or_else(PoisonError::into_inner) =
            answers.into_iter().collect();
    }
}

impl Replicas for Others {
    fn of(&self, _: &TenantId) -> Peers {
        Peers { polls: self.polls.clone(), sign_ins: self.sign_ins.clone() }
    }

    fn relay(
        &self,
        _: &TenantId,
        _: Arc<Events>,
        _: usize,
    ) -> (Arc<dyn Relay>, BoxFuture<'static, ()>) {
        (Arc::new(NoRelay), Box::pin(ready(())))
    }
}

impl PollOwnership for SharedPolls {
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed> {
        let claimed = *self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed == Claimed::Here {
            polls.begin(agent, Cause::SignedIn);
        }
        Box::pin(ready(claimed))
    }

    fn resume(&self, agent: AgentId, polls: &dyn Polls) -> bool {
        let may = self.may_poll(agent);
        if may {
            polls.begin(agent, Cause::SignedIn);
        }
        may
    }

    fn polls_ended(&self, _: AgentId, _: &dyn Polls) {
        self.ended.fetch_add(1, Relaxed);
    }

    fn may_poll(&self, _: AgentId) -> bool {
        self.may_poll.load(Relaxed)
    }

    fn is_sole_owner(&self, _: AgentId) -> bool {
        self.is_sole.load(Relaxed)
    }

    fn counts(&self, _: &dyn Polls) -> LeaseCounts {
        LeaseCounts { overdue: 1, dropped: 2 }
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(80)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, _: &'a dyn Polls) -> BoxFuture<'a, ()> {
        self.runs.fetch_add(1, Relaxed);
        Box::pin(ready(()))
    }

    fn leave<'a>(&'a self, _: &'a dyn Polls) -> BoxFuture<'a, ()> {
        self.left.fetch_add(1, Relaxed);
        Box::pin(ready(()))
    }
}

impl SharedSignIns for Locks {
    fn lock_time(&self) -> Duration {
        LOCK_TIME
    }

    fn lock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, Lock> {
        self.asked.fetch_add(1, Relaxed);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match answers.len() {
            0 => Some(OURS),
            1 => answers[0],
            _ => answers.pop_front().flatten(),
        };
        Box::pin(ready(answer.ok_or_else(|| StoreError::Unavailable("away".into()))))
    }

    fn unlock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, ()> {
        self.unlocked.fetch_add(1, Relaxed);
        Box::pin(ready(Ok(())))
    }

    fn sign_in_moments(&self, count: u32, _: Duration) -> StoreFuture<'_, Moments> {
        let count = if self.takes_all_moments.load(Relaxed) { 0 } else { count };
        self.moments.fetch_add(count, Relaxed);
        Box::pin(ready(Ok(Moments { count, wait: Duration::ZERO })))
    }

    fn replicas(&self) -> u32 {
        2
    }
}
