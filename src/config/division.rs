use std::collections::BTreeMap;

use super::Tenant;
use crate::id::TenantId;

/// How the server's places for calls are divided among the tenants.
///
/// Each tenant has an even part for itself, so that its calls are accepted whatever the other tenants
/// do. If a tenant's `limits.calls` is below its part, the rest of the part goes to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// All places. `server.limits.calls`.
    pub places: usize,
    /// Places that are reserved for each tenant.
    pub own: BTreeMap<TenantId, usize>,
    /// Places that are not reserved; any tenant may take them.
    pub common: usize,
}

impl Division {
    /// Divides `places` among tenants, each with the number of places that it wants.
    pub fn new(places: usize, wanted: impl IntoIterator<Item = (TenantId, usize)>) -> Self {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        // Tenants who want few come first: the rest of their parts goes to those who want more.
        wanted.sort_by_key(|(_, want)| *want);
        let (mut common, mut tenants) = (places, wanted.len());
        let mut own = BTreeMap::new();
        for (id, want) in wanted {
            let part = want.min(common / tenants.max(1));
            common -= part;
            tenants = tenants.saturating_sub(1);
            own.insert(id, part);
        }
        Self { places, own, common }
    }

    /// The most places that a tenant can have, if the others take none of the common ones.
    pub fn most(&self, tenant: &TenantId) -> usize {
        self.own.get(tenant).copied().unwrap_or_default() + self.common
    }
}

/// A warning if a tenant's part of `server.limits.calls` is below its `limits.calls`.
pub(super) fn warning(division: &Division, tenants: &BTreeMap<TenantId, Tenant>) -> Option<String> {
    let (id, tenant) =
        tenants.iter().find(|(id, tenant)| division.most(id) < tenant.limits.calls.get())?;
    let (places, most, limit) = (division.places, division.most(id), tenant.limits.calls);
    let all: usize = tenants.values().map(|tenant| tenant.limits.calls.get()).sum();
    Some(format!(
        "server.limits.calls is {places}, but limits.calls of all tenants add up to {all}: each \
         tenant gets an even part of the server's places, so {id} can have {most} calls at once \
         and not {limit}; raise server.limits.calls to {all}, or lower limits.calls"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn divided(places: usize, wanted: &[usize]) -> (Vec<usize>, usize) {
        let id = |index: usize| TenantId::parse(&format!("t{index:03}")).expect("an id");
        let wanted = wanted.iter().enumerate().map(|(index, want)| (id(index), *want));
        let Division { own, common, .. } = Division::new(places, wanted);
        (own.into_values().collect(), common)
    }

    #[test]
    fn places_are_even_and_no_tenant_has_more_than_it_wants() {
        for (places, wanted, own, common) in [
            (100, &[2048][..], &[100][..], 0),
            (10_000, &[2048], &[2048], 7952),
            (60, &[2048; 6], &[10; 6], 0),
            (62, &[2048; 6], &[10, 10, 10, 10, 11, 11], 0),
            (100, &[10, 2048, 2048], &[10, 45, 45], 0),
            (100, &[10, 20, 30], &[10, 20, 30], 40),
            (2, &[5, 5, 5], &[0, 1, 1], 0),
        ] {
            assert_eq!(divided(places, wanted), (own.to_vec(), common), "{places} {wanted:?}");
        }
    }

    proptest! {
        #[test]
        fn no_tenant_has_less_than_an_even_part(
            places in 1..10_000_usize,
            wanted in proptest::collection::vec(1..3000_usize, 1..40),
        ) {
            let (own, common) = divided(places, &wanted);
            prop_assert_eq!(own.iter().sum::<usize>() + common, places);
            for (own, want) in own.iter().zip(&wanted) {
                prop_assert!(*own >= (places / wanted.len()).min(*want));
                prop_assert!(own <= want);
            }
        }
    }
}
