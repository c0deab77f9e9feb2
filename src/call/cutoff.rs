use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// The signal that callers who still wait have to be answered now, since the bridge or their tenant is
/// about to end. All clones share it.
///
/// Each call checks it several times. So a check, a clone and a drop are atomic operations. Those of a
/// `CancellationToken` lock its mutex. Only a task that has to wait takes a lock, that of the [`Notify`].
#[derive(Clone, Debug, Default)]
pub struct Cutoff(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    given: Notify,
    children: Mutex<Vec<Weak<Signal>>>,
}

impl Cutoff {
    /// Gives the signal. It cannot be taken back.
    pub fn give(&self) {
        self.0.give();
    }

    /// A signal that is given with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::default();
        let mut children = self.0.children();
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        // Under the lock, so that it is not given between the check and the entry.
        if self.is_given() {
            child.give();
        }
        drop(children);
        child
    }

    /// Whether it has been given.
    pub fn is_given(&self) -> bool {
        self.0.is_given.load(Ordering::Acquire)
    }

    /// Waits until it is given; may be dropped at any time.
    pub async fn given(&self) {
        // Created before the check, so that no signal is missed between the check and the wait.
        let given = self.0.given.notified();
        if !self.is_given() {
            given.await;
        }
    }
}

impl Signal {
    fn give(&self) {
        self.is_given.store(true, Ordering::Release);
        self.given.notify_waiters();
        let children = self.children().clone();
        children.iter().filter_map(Weak::upgrade).for_each(|child| child.give());
    }

    fn children(&self) -> MutexGuard<'_, Vec<Weak<Self>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_it_at_once_and_whoever_comes_later_too() {
        let cutoff = Cutoff::default();
        let other = cutoff.clone();
        let mut waiting = [Box::pin(cutoff.given()), Box::pin(other.given())];
        for wait in &mut waiting {
            assert!(poll!(wait).is_pending());
        }
        assert!(!cutoff.is_given());
        other.give();
        for wait in &mut waiting {
            assert!(poll!(wait).is_ready());
        }
        assert!(cutoff.is_given());
        assert!(cutoff.given().now_or_never().is_some());
    }

    #[test]
    fn a_child_is_given_with_its_parent_or_alone() {
        let parent = Cutoff::default();
        let [alone, with] = [parent.child(), parent.child()];
        alone.give();
        assert!(alone.is_given() && !with.is_given() && !parent.is_given());
        parent.give();
        assert!(with.is_given());
        assert!(parent.child().is_given(), "one that is made later");

        let parent = Cutoff::default();
        let live = [parent.child(), parent.child(), parent.child()];
        for _ in 0..10 {
            drop(parent.child());
        }
        assert!(parent.0.children().len() <= live.len() + 1, "those that are gone take no memory");
        parent.give();
        assert!(live.iter().all(Cutoff::is_given));
    }
}
