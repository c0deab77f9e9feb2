use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Tells all work that the bridge is about to end. Clones are the same signal.
///
/// Every call looks at it several times, and there is one for the whole process. So a look, a clone and a
/// drop are atomic operations, where those of a `CancellationToken` take its mutex. Only whoever has to
/// wait registers, which takes the lock of the [`Notify`].
#[derive(Clone, Debug, Default)]
pub struct Cutoff(Arc<Signal>);

#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    given: Notify,
}

impl Cutoff {
    /// Gives the signal, which stays.
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
        // From before the look, so that no signal is missed between the look and the wait.
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
