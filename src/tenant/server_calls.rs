//! The server's places for calls, and how tenants share them.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use super::{
    Resource, Usage,
    pool::{Pool, resize},
};
use crate::{call::Share, config::Division, id::TenantId};

/// The server's places for calls. Each tenant has a part for itself, and the rest is common to all.
/// So a call is refused only if its tenant's part and the common part are both used up.
#[derive(Debug)]
pub struct ServerCalls(Mutex<Parts>);

#[derive(Debug)]
struct Parts {
    division: Division,
    own: BTreeMap<TenantId, Pool>,
    common: Arc<Semaphore>,
}

// === impl ServerCalls ===

impl ServerCalls {
    /// Makes the places as `division` divides them.
    pub fn new(division: Division) -> Self {
        let common = Arc::new(Semaphore::new(division.common));
        let own = division.own.iter().map(|(id, own)| (id.clone(), part(&division, id, *own)));
        Self(Mutex::new(Parts { own: own.collect(), common, division }))
    }

    /// Divides the places anew among tenants, each with the number of places that it wants. Calls that have a place keep it, so
    /// that for a moment there may be more than the server has places.
    pub fn divide(&self, wanted: impl IntoIterator<Item = (TenantId, usize)>) {
        let mut parts = self.parts_now();
        let Parts { division: before, own, common } = &mut *parts;
        let division = Division::new(before.places, wanted);
        for (id, places) in &division.own {
            let Some(known) = own.get(id) else {
                own.insert(id.clone(), part(&division, id, *places));
                continue;
            };
            let former = before.own.get(id).copied().unwrap_or_default();
            known.resize_part(former, *places);
            known.set_limit(division.most(id));
        }
        own.retain(|id, _| division.own.contains_key(id));
        resize(common, before.common, division.common);
        *before = division;
    }

    /// How many places are taken.
    pub fn usage(&self) -> Usage {
        let parts = self.parts_now();
        let own: usize = parts.own.values().map(Pool::free).sum();
        let (limit, free) = (parts.division.places, own + parts.common.available_permits());
        let taken = limit.saturating_sub(free);
        Usage { resource: Resource::Share(Share::ServerCalls), limit, taken }
    }

    /// A tenant's own part, and the common part.
    pub(super) fn parts(&self, tenant: &TenantId) -> [Pool; 2] {
        let mut parts = self.parts_now();
        let Parts { division, own, common } = &mut *parts;
        // One that comes later gets its part by `divide`.
        let own = own.entry(tenant.clone()).or_insert_with(|| part(division, tenant, 0));
        [own.clone(), own.with(common.clone())]
    }

    fn parts_now(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of `own` places. Its holder is told how many it can have with the common ones.
fn part(division: &Division, tenant: &TenantId, own: usize) -> Pool {
    let most = NonZeroUsize::new(division.most(tenant)).unwrap_or(NonZeroUsize::MIN);
    Pool::of(Share::ServerCalls, most, Arc::new(Semaphore::new(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn wanted(tenants: &[&str]) -> impl Iterator<Item = (TenantId, usize)> {
        tenants.iter().map(|name| (id(name), 100))
    }

    fn own(calls: &ServerCalls, tenant: &str) -> usize {
        let [own, _] = calls.parts(&id(tenant));
        std::iter::from_fn(|| own.take_now().ok()).collect::<Vec<_>>().len()
    }

    #[tokio::test]
    async fn parts_change_with_the_tenants_and_places_that_are_taken_stay_counted() {
        let calls = ServerCalls::new(Division::new(12, wanted(&["a", "b"])));
        assert_eq!((own(&calls, "a"), own(&calls, "b")), (6, 6));
        let [a, _] = calls.parts(&id("a"));
        let held: Vec<_> = (0..5).map(|_| a.take_now().expect("free")).collect();
        assert_eq!((calls.usage().taken, calls.usage().limit), (5, 12));

        let [c, _] = calls.parts(&id("c"));
        assert!(c.take_now().is_err(), "it has no part yet");
        calls.divide(wanted(&["a", "b", "c"]));
        tokio::task::yield_now().await;
        assert_eq!((own(&calls, "b"), own(&calls, "c")), (4, 4));
        assert!(c.take_now().is_ok(), "what it had before is its part now");
        assert!(a.take_now().is_err(), "five are taken, and four are its part");
        drop(held);
        tokio::task::yield_now().await;
        assert_eq!((own(&calls, "a"), a.usage().limit, calls.usage().taken), (4, 4, 0));

        calls.divide(wanted(&["a"]));
        tokio::task::yield_now().await;
        assert_eq!((own(&calls, "a"), a.usage().limit, calls.usage().taken), (12, 12, 0));
    }
}
