//! A bounded number of places, whose bound can be changed while places are taken.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Usage;
use crate::call::{Obstacle, Share};

/// A bounded number of places. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    share: Share,
    /// The limit that callers are told.
    limit: Arc<AtomicUsize>,
    places: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(share: Share, limit: NonZeroUsize) -> Self {
        Self::of(share, limit, Arc::new(Semaphore::new(limit.get())))
    }

    /// These places, which may be a part of those that `limit` counts.
    pub(super) fn of(share: Share, limit: NonZeroUsize, places: Arc<Semaphore>) -> Self {
        Self { share, limit: Arc::new(limit.get().into()), places }
    }

    /// The same limit with other places.
    pub(super) fn with(&self, places: Arc<Semaphore>) -> Self {
        Self { places, ..self.clone() }
    }

    /// Changes the number of places.
    pub(super) fn resize(&self, limit: NonZeroUsize) {
        resize(&self.places, self.set_limit(limit.get()), limit.get());
    }

    /// Changes the number of places, which are a part of those that callers are told.
    pub(super) fn resize_part(&self, from: usize, to: usize) {
        resize(&self.places, from, to);
    }

    /// The limit that callers are told.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many places are free.
    pub(super) fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// Changes only what callers are told. Returns what they were told before.
    pub(super) fn set_limit(&self, limit: usize) -> usize {
        self.limit.swap(limit, Ordering::Relaxed)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.share, self.limit(), &self.places)
    }

    pub(super) fn take_now(&self) -> Result<OwnedSemaphorePermit, Obstacle> {
        self.places.clone().try_acquire_owned().map_err(|_| self.used_up())
    }

    fn used_up(&self) -> Obstacle {
        let limit = NonZeroUsize::new(self.limit());
        Obstacle::Overloaded { share: self.share, limit: limit.unwrap_or(NonZeroUsize::MIN) }
    }
}

/// Changes the number of places from `from` to `to`. If more are taken than there will be, they are
/// given back one after the other, and nobody gets one before.
pub(super) fn resize(places: &Arc<Semaphore>, from: usize, to: usize) {
    if let Some(more) = to.checked_sub(from) {
        return places.add_permits(more);
    }
    let (places, fewer) = (places.clone(), u32::try_from(from - to).unwrap_or(u32::MAX));
    tokio::spawn(async move {
        // The semaphore is never closed.
        if let Ok(surplus) = places.acquire_many(fewer).await {
            surplus.forget();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    /// Takes as many places as there are.
    fn fill(pool: &Pool) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| pool.take_now().ok()).collect()
    }

    #[tokio::test]
    async fn a_limit_that_is_lowered_holds_once_the_surplus_places_are_given_back() {
        let pool = Pool::new(Share::TenantCalls, count(5));
        let mut taken = fill(&pool);
        assert_eq!(taken.len(), 5);
        pool.resize(count(2));
        tokio::task::yield_now().await;
        for left in [4, 3, 2] {
            taken.pop();
            assert!(pool.take_now().is_err(), "with {left} taken");
            tokio::task::yield_now().await;
        }
        taken.pop();
        assert_eq!(fill(&pool).len(), 1);
        assert_eq!(pool.usage().limit, 2);
        pool.resize(count(4));
        assert_eq!(fill(&pool).len(), 3);
    }
}
