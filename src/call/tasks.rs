use tokio::task::JoinHandle;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerWaitFuture};

/// Tasks that somebody waits for at the end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    own: TaskTracker,
    /// Those of the bridge, if these are a tenant's.
    all: Option<TaskTracker>,
}

impl Tasks {
    /// The tasks of a tenant. Waiting for these waits for them alone; waiting for the bridge's waits for
    /// them too.
    #[must_use]
    pub fn of_tenant(&self) -> Self {
        Self { own: TaskTracker::new(), all: Some(self.own.clone()) }
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.all {
            Some(all) => self.own.spawn(all.track_future(task)),
            None => self.own.spawn(task),
        }
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
}
