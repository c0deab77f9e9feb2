//! A bounded set that a newcomer always gets into.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::{
    CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned,
};

use crate::tenant::Usage;

/// Places for things that take an honest peer milliseconds, such as a handshake. Where all are
/// taken, the newcomer gets the place that has been held longest: peers that stand still hold the
/// oldest places, so they cannot keep others out by being many.
#[derive(Debug)]
pub(super) struct Displacing {
    limit: NonZeroUsize,
    held: Mutex<Held>,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// In the order of arrival.
    places: BTreeMap<u64, CancellationToken>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Displacing>,
    number: u64,
    lost: CancellationToken,
}

impl Displacing {
    /// So many places; at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let (held, displaced) = (Mutex::default(), AtomicU64::default());
        let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        Arc::new(Self { limit, held, displaced })
    }

    /// A place, taken from whoever has held one longest if there is no other.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let lost = CancellationToken::new();
        let mut held = self.held();
        if held.places.len() >= self.limit.get()
            && let Some((_, oldest)) = held.places.pop_first()
        {
            oldest.cancel();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        let number = held.next;
        held.next += 1;
        held.places.insert(number, lost.clone());
        drop(held);
        Place { of: self.clone(), number, lost }
    }

    /// How many places there are.
    pub(super) fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    /// How many places are taken.
    pub(super) fn usage(&self, share: &'static str) -> Usage {
        Usage { share, limit: self.limit.get(), taken: self.held().places.len() }
    }

    /// How many have lost their place to a newcomer.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until a newcomer has got the place.
    pub(super) fn lost(&self) -> WaitForCancellationFuture<'_> {
        self.lost.cancelled()
    }

    /// The same, for whoever cannot borrow it.
    pub(super) fn lost_owned(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.held().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_newcomer_gets_the_place_that_was_held_longest() {
        let places = Displacing::new(2);
        let (first, second) = (places.enter(), places.enter());
        assert_eq!(places.usage("x").taken, 2);
        let third = places.enter();
        assert!(first.lost().now_or_never().is_some());
        assert!(second.lost().now_or_never().is_none());
        assert_eq!((places.usage("x").taken, places.displaced()), (2, 1));

        // Whoever has lost a place gives back none.
        drop(first);
        assert_eq!(places.usage("x").taken, 2);
        drop(second);
        assert_eq!(places.usage("x").taken, 1);
        let _fourth = places.enter();
        assert!(third.lost().now_or_never().is_none());
    }
}
