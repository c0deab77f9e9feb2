use tokio_util::sync::CancellationToken;

use crate::call::{Cutoff, Tasks};

/// The tasks and stop signals of detached work: of the bridge, or of one tenant. Whoever gives the
/// signals waits for the tasks.
#[derive(Clone, Debug, Default)]
pub struct DetachedWork {
    /// All work that may have a request under way, whether it has a task of its own or not.
    pub tasks: Tasks,
    /// Given when callers that still wait have to be answered.
    pub cutoff: Cutoff,
    /// Cancelled when the bridge begins to stop, or the tenant is removed: streams end, and agents are
    /// handed over.
    pub stopping: CancellationToken,
    /// Cancelled when all keepers have to end, because nobody or another process will keep the sessions.
    pub keeping: CancellationToken,
    /// Cancelled last, when all events have been told to the other replicas, or it is too late for them.
    pub relaying: CancellationToken,
    /// [`DetachedWork::stopping`] of the bridge, if this is a tenant's.
    bridge_stopping: Option<CancellationToken>,
}

impl DetachedWork {
    /// The work of a tenant, which stops with the bridge's, or alone.
    #[must_use]
    pub fn of_tenant(&self) -> Self {
        Self {
            tasks: self.tasks.of_tenant(),
            cutoff: self.cutoff.child(),
            stopping: self.stopping.child_token(),
            keeping: self.keeping.child_token(),
            relaying: self.relaying.child_token(),
            bridge_stopping: Some(self.stopping.clone()),
        }
    }

    /// Whether this stops, and the bridge does not.
    pub(super) fn stops_alone(&self) -> bool {
        let goes_on = |bridge: &CancellationToken| !bridge.is_cancelled();
        self.stopping.is_cancelled() && self.bridge_stopping.as_ref().is_some_and(goes_on)
    }

    /// Ends everything at once.
    pub fn end(&self) {
        self.cut_short();
        self.relaying.cancel();
    }

    /// Ends everything but the relay of events, at once.
    pub fn cut_short(&self) {
        self.stopping.cancel();
        self.cutoff.give();
        self.keeping.cancel();
        self.tasks.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_tenant_is_stopped_alone_and_the_bridge_waits_for_its_tasks() {
        let bridge = DetachedWork::default();
        let [one, other] = [bridge.of_tenant(), bridge.of_tenant()];
        let stopping = one.stopping.clone();
        one.tasks.spawn(async move { stopping.cancelled().await });
        bridge.tasks.close();
        one.tasks.close();
        assert!(bridge.tasks.wait().now_or_never().is_none());
        assert_eq!((one.tasks.len(), other.tasks.is_empty()), (1, true));
        one.stopping.cancel();
        one.tasks.wait().await;
        bridge.tasks.wait().await;
        assert!(!other.stopping.is_cancelled() && !bridge.stopping.is_cancelled());
        assert!(one.stops_alone() && !other.stops_alone());
        bridge.end();
        assert!(other.stopping.is_cancelled() && other.keeping.is_cancelled());
        assert!(other.cutoff.is_given() && !other.stops_alone());
    }
}
