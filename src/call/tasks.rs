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
