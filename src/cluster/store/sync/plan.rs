//! What has to be synced with Redis, and when.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

/// What has to be synced with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    Nothing,
    /// Write the changes that only this replica knows.
    Push,
    /// Compare everything, since messages may have been missed.
    Reconcile,
}

/// The next task, and the times at which one is due.
#[derive(Debug)]
pub(super) struct Plan {
    task: Task,
    failures: u32,
    /// When the task is tried again.
    retry_at: Option<Instant>,
    /// When everything is compared, whatever else is done before.
    compare_at: Instant,
}

/// The time between two full comparisons, plus or minus a tenth.
const RECONCILE_EVERY: Duration = Duration::from_secs(600);
/// The mean pause before the next attempt; twice that after another failure. A call that needs a
/// session known only to this replica waits as long.
pub(super) const RETRY: Duration = Duration::from_millis(500);
const DOUBLINGS_MAX: u32 = 1;

impl Plan {
    pub(super) fn new() -> Self {
        let compare_at = after(RECONCILE_EVERY);
        Self { task: Task::Nothing, failures: 0, retry_at: None, compare_at }
    }

    pub(super) fn task(&self) -> Task {
        self.task
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// When the next task is due, unless another one is added before.
    pub(super) fn due(&self) -> Instant {
        self.retry_at.map_or(self.compare_at, |at| at.min(self.compare_at))
    }

    pub(super) fn add(&mut self, task: Task) {
        self.task = self.task.max(task);
    }

    /// The time [`due`](Self::due) has come.
    pub(super) fn is_due(&mut self) {
        if Instant::now() >= self.compare_at {
            // Set now, so that a failure waits for its own pause.
            self.compare_at = after(RECONCILE_EVERY);
            self.add(Task::Reconcile);
        }
    }

    /// The task is done. `is_good`: Redis has not refused anything a moment ago either, perhaps to another request of this
    /// process.
    pub(super) fn done(&mut self, is_good: bool) {
        if self.task == Task::Reconcile {
            self.compare_at = after(RECONCILE_EVERY);
        }
        self.failures = 0;
        (self.task, self.retry_at) =
            if is_good { (Task::Nothing, None) } else { (Task::Push, Some(after(RETRY))) };
    }

    pub(super) fn failed(&mut self) {
        self.retry_at = Some(after(RETRY * 2_u32.pow(self.failures)));
        self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
    }
}

/// With jitter, so that replicas which started together do not ask together.
fn after(time: Duration) -> Instant {
    Instant::now() + time.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everything_is_compared_in_time_however_often_changes_are_written() {
        let (begun, mut plan, mut compared) = (Instant::now(), Plan::new(), 0);
        while begun.elapsed() < RECONCILE_EVERY * 10 {
            let change = Instant::now() + RECONCILE_EVERY / 20;
            if plan.due() < change {
                sleep_until(plan.due()).await;
                plan.is_due();
            } else {
                sleep_until(change).await;
                plan.add(Task::Push);
            }
            compared += u32::from(plan.task() == Task::Reconcile);
            plan.done(true);
        }
        assert!((9..=11).contains(&compared), "{compared}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_soon_and_is_not_forgotten() {
        let mut plan = Plan::new();
        for (task, is_first) in [(Task::Push, true), (Task::Reconcile, false)] {
            sleep_until(plan.compare_at - RETRY * 4).await;
            advance(if is_first { Duration::ZERO } else { RETRY * 4 }).await;
            plan.is_due();
            plan.add(Task::Push);
            for _ in 0..3 {
                assert_eq!(plan.task(), task);
                plan.failed();
                let pause = plan.due() - Instant::now();
                assert!(pause > Duration::ZERO && pause < RETRY * 3, "{pause:?}");
            }
            plan.done(true);
            assert!(plan.due() > Instant::now() && !plan.has_failed());
        }
    }
}
