use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// The signal that the bridge is about to end. All clones share it.
///
/// There is one for the process, and each call checks it several times. So a check, a clone and a drop
/// are atomic operations. Those of a `CancellationToken` lock its mutex. Only a task that has to wait
/// takes a lock, that of the [`Notify`].
#[derive(Clone, Debug, Default)]
pub struct Cutoff(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    given: Notify,
}

impl Cutoff {
    /// Gives the signal. It cannot be taken back.
    pub fn give(&self) {
        self.0.is_given.store(true, Ordering::Release);
        self.0.given.notify_waiters();
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
}
