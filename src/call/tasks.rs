use tokio::task::JoinHandle;
use tokio_util::task::{
    TaskTracker,
    task_tracker::{TaskTrackerWaitFuture, TrackedFuture},
};

/// Tasks that somebody waits for at the end, and work that counts as one.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    own: TaskTracker,
    /// Those of the bridge, if these are a tenant's; else nobody waits for them.
    all: TaskTracker,
}

/// A future that is counted as a task until it is dropped.
pub(super) type Counted<W> = TrackedFuture<TrackedFuture<W>>;

impl Tasks {
    /// The tasks of a tenant. Waiting for these waits for them alone; waiting for the bridge's waits for
    /// them too.
    #[must_use]
    pub fn of_tenant(&self) -> Self {
        Self { own: TaskTracker::new(), all: self.own.clone() }
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        tokio::spawn(self.count(task))
    }

    /// Counts `work` as one of the tasks, whoever polls it, until it is dropped.
    pub(super) fn count<W: Future>(&self, work: W) -> Counted<W> {
        self.own.track_future(self.all.track_future(work))
    }

    /// Lets [`Tasks::wait`] end when there is no task.
    pub fn close(&self) {
        self.own.close();
    }

    /// Waits until they are closed and there is none.
    pub fn wait(&self) -> TaskTrackerWaitFuture<'_> {
        self.own.wait()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_tasks_goes_on_when_they_are_closed_and_the_last_has_ended() {
        let tasks = Tasks::default();
        let count = || (tasks.len(), tasks.is_empty());
        assert_eq!(count(), (0, true));
        let (end, ended) = oneshot::channel::<()>();
        let (alone, of_tenant) = (tasks.spawn(ended), tasks.of_tenant().spawn(async {}));
        assert_eq!(count(), (2, false));
        of_tenant.await.expect("no panic");
        tasks.close();
        assert!(tasks.wait().now_or_never().is_none(), "one goes on");
        drop(end);
        alone.await.expect("no panic").expect_err("nothing was sent");
        assert!(tasks.wait().now_or_never().is_some());
        assert_eq!(count(), (0, true));
    }

    #[tokio::test]
    async fn work_is_one_of_a_tenants_tasks_and_of_the_bridges_until_it_is_dropped() {
        let bridge = Tasks::default();
        let [one, other] = [bridge.of_tenant(), bridge.of_tenant()];
        let count = || [&bridge, &one, &other].map(Tasks::len);
        let works = [bridge.count(pending::<()>()), one.count(pending())];
        assert_eq!(count(), [2, 1, 0]);
        drop(works);
        assert_eq!(count(), [0, 0, 0]);
        bridge.count(async {}).await;
        assert_eq!(count(), [0, 0, 0]);
    }
}
