//! Work that outlives its caller.
//!
//! A request to the gateway must not end because the caller went away. Its connection would be
//! closed, and it would stay unknown what the gateway did. But most callers stay until the work is
//! done. So the caller's own task does it for as long as the caller waits, which saves each call a
//! second task, and the way there and back. If the caller leaves, or is answered before the work is
//! done, a task of its own does the rest. The work learns from its [`CallerWait`] when nobody waits
//! any more.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

use super::{CallError, Cutoff, Deadline, Obstacle, Stage, Tasks, Untouched, Wait, tasks::Counted};

/// Work that is done by whoever polls this. A task does what is left of it when this is dropped.
struct Attached<T: Send + 'static>(Option<Counted<BoxFuture<'static, Result<T, CallError>>>>);

/// What detached work knows about its caller.
#[derive(Debug)]
pub struct CallerWait {
    waiting: Waiting,
    cutoff: Cutoff,
    /// Whether the work continues when nobody waits any more.
    committed: bool,
}

#[derive(Debug)]
enum Waiting {
    /// A caller waits.
    Caller(Deadline, oneshot::Sender<CallError>),
    /// The caller has been answered.
    Answered,
    /// The bridge does the work for itself.
    Bridge,
}

/// Why nobody waits any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// The caller's deadline passed.
    Deadline,
    /// The caller cancelled, or its connection broke.
    Gone,
    /// The bridge is about to end.
    Cutoff,
}

/// Does `work`, and waits for it as long as the caller does.
///
/// Dropping the returned future, or an early answer by [`CallerWait::answer`], ends the wait but
/// never the work. Whoever has begun to poll the future has to go on polling it, or to drop it: in
/// between the work stands still, and holds what it holds. It counts among `tasks` from its
/// beginning to its end. `cutoff` is given when the bridge is about to end.
///
/// # Errors
///
/// Those of `work`. [`CallError::Internal`] if it panicked.
pub async fn detached<T, W>(
    tasks: &Tasks,
    deadline: Deadline,
    cutoff: Cutoff,
    work: impl FnOnce(CallerWait) -> W,
) -> Result<T, CallError>
where
    T: Send + 'static,
    W: Future<Output = Result<T, CallError>> + Send + 'static,
{
    let (early, answered) = oneshot::channel();
    // Boxed at once and never moved again, since it has some kilobytes.
    let work: BoxFuture<'static, _> =
        Box::pin(work(CallerWait::of(Waiting::Caller(deadline, early), cutoff)));
    let mut work = Attached(Some(tasks.count(work)));
    tokio::select! {
        biased;
        done = &mut work => done,
        // Moved in here, so that it is dropped before the work. Whoever goes on with the work then sees that the
        // caller has left.
        Ok(early) = answered => Err(early),
    }
}

impl<T: Send + 'static> Future for Attached<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        // A panic ends this work alone. The caller's task has to answer, and may have other work.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(work).poll(context)));
        let done = ready!(polled.unwrap_or(Poll::Ready(Err(CallError::Internal))));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Attached<T> {
    fn drop(&mut self) {
        // Without a runtime there is nobody left to do it.
        if let Some(rest) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(rest);
        }
    }
}

impl CallerWait {
    /// For the bridge's own work, which goes on until the bridge ends.
    pub fn of_bridge(cutoff: Cutoff) -> Self {
        Self::of(Waiting::Bridge, cutoff)
    }

    fn of(waiting: Waiting, cutoff: Cutoff) -> Self {
        Self { waiting, cutoff, committed: false }
    }

    /// Checks whether something may still be started that takes the gateway's time.
    ///
    /// # Errors
    ///
    /// The reason why it may not.
    pub fn may_start(&self) -> Result<(), Obstacle> {
        if self.cutoff.is_given() {
            return Err(Obstacle::ShuttingDown);
        }
        let late = match &self.waiting {
            Waiting::Caller(deadline, early) => {
                early.is_closed() || Instant::now() >= deadline.start_by()
            }
            Waiting::Answered => true,
            Waiting::Bridge => false,
        };
        let late = late && !self.committed;
        if late { Err(Obstacle::Deadline(Wait::Queue)) } else { Ok(()) }
    }

    /// Waits until nobody waits any more. If the caller has been answered already, this never
    /// returns for uncommitted work, and returns at the end of the bridge for committed work.
    pub async fn abandoned(&mut self) -> Abandoned {
        match &mut self.waiting {
            Waiting::Caller(deadline, early) => tokio::select! {
                biased;
                () = early.closed() => Abandoned::Gone,
                () = sleep_until(deadline.answer_by()) => Abandoned::Deadline,
                () = self.cutoff.given() => Abandoned::Cutoff,
            },
            Waiting::Answered if !self.committed => std::future::pending().await,
            Waiting::Answered | Waiting::Bridge => {
                self.cutoff.given().await;
                Abandoned::Cutoff
            }
        }
    }

    /// As [`abandoned`](Self::abandoned), but no longer than until `moment`: `None` if that comes first. One timer is
    /// enough for both.
    pub async fn abandoned_before(&mut self, moment: Instant) -> Option<Abandoned> {
        let Waiting::Caller(deadline, early) = &mut self.waiting else {
            return timeout_at(moment, self.abandoned()).await.ok();
        };
        let answer_by = deadline.answer_by();
        tokio::select! {
            biased;
            () = early.closed() => Some(Abandoned::Gone),
            () = sleep_until(answer_by.min(moment)) => {
                (answer_by < moment).then_some(Abandoned::Deadline)
            }
            () = self.cutoff.given() => Some(Abandoned::Cutoff),
        }
    }

    /// Whether the work continues at `moment`, or the caller may still be waiting then.
    pub fn lasts_until(&self, moment: Instant) -> bool {
        match &self.waiting {
            _ if self.committed => true,
            Waiting::Caller(deadline, _) => moment <= deadline.start_by(),
            Waiting::Answered => false,
            Waiting::Bridge => true,
        }
    }

    /// Sets whether the work continues when nobody waits any more.
    pub fn commit(&mut self, committed: bool) {
        self.committed = committed;
    }

    /// Waits for `work` that has to come before the request, as long as anybody waits for the call.
    /// If the call is [committed](Self::commit), the caller is answered when its time is over, and
    /// the work is still waited for.
    ///
    /// # Errors
    ///
    /// The obstacle that nobody waits any more, so the request is not sent.
    pub async fn before_sending<T>(
        &mut self,
        untouched: &Untouched,
        wait: Wait,
        work: impl Future<Output = T>,
    ) -> Result<T, Obstacle> {
        let mut work = pin!(work);
        let abandoned = tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            abandoned = self.abandoned() => abandoned,
        };
        if self.goes_on(abandoned, wait, untouched) {
            Ok(work.await)
        } else {
            Err(abandoned.before(wait))
        }
    }

    /// Waits for `work` to its end. A caller whose time is over before that is told `known`.
    pub async fn answering<T>(
        &mut self,
        known: impl FnOnce() -> CallError,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            _abandoned = self.abandoned() => {
                self.answer(known());
                work.await
            }
        }
    }

    /// Whether abandoned work continues, since it is committed. If so, the caller has been told
    /// that its own request was not sent.
    pub fn goes_on(&mut self, abandoned: Abandoned, wait: Wait, untouched: &Untouched) -> bool {
        let goes_on = self.committed && abandoned != Abandoned::Cutoff;
        if goes_on {
            self.answer(untouched.because(abandoned.before(wait)));
        }
        goes_on
    }

    /// Answers the caller while the work continues. Later answers are dropped.
    pub fn answer(&mut self, error: CallError) {
        if let Waiting::Caller(_, early) = mem::replace(&mut self.waiting, Waiting::Answered) {
            // The caller may have left at this moment. Then nobody needs the answer.
            let _unheard = early.send(error);
        }
    }

    /// Whether the result of the work can still reach the caller.
    pub fn is_awaited(&self) -> bool {
        match &self.waiting {
            Waiting::Caller(_, early) => !early.is_closed(),
            Waiting::Answered => false,
            Waiting::Bridge => true,
        }
    }
}

impl Abandoned {
    /// The obstacle for a request that had not been sent when the wait was abandoned.
    pub fn before(self, wait: Wait) -> Obstacle {
        match self {
            Self::Deadline | Self::Gone => Obstacle::Deadline(wait),
            Self::Cutoff => Obstacle::ShuttingDown,
        }
    }

    /// The error for the caller when its request had been sent and `stage` was in progress.
    pub fn after_sending(self, stage: Stage) -> CallError {
        match self {
            Self::Deadline | Self::Gone => CallError::Deadline(stage),
            Self::Cutoff => CallError::NoAnswer("this replica had to shut down first".into()),
        }
    }
}

#[cfg(test)]
mod tests;
