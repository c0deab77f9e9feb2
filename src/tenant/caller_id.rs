use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::LazyLock,
};

use super::peer_places::address_block;

/// Tells the callers of a tenant from each other, for their shares of what they have in common.
///
/// It is a number that nobody can foresee: otherwise somebody could choose an address that has the number of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(u64);

/// Differ in each process.
static KEYS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let state = RandomState::new();
    [state.hash_one(0), state.hash_one(1) | 1]
});

impl CallerId {
    /// The bridge itself.
    pub const BRIDGE: Self = Self(0);

    /// A caller of which nothing is known but its address. An IPv6 address counts as its /64 network.
    pub fn of_address(peer: IpAddr) -> Self {
        let bits = match address_block(peer) {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
        };
        Self::mixed(bits)
    }

    /// A caller that has shown who it is, and has this number because of that.
    pub fn known(number: u64) -> Self {
        Self(number)
    }

    /// A number for a name that nobody can foresee either.
    pub(super) fn number_of(name: &str) -> u64 {
        static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        STATE.hash_one(name)
    }

    /// The same caller at one tenant among others.
    #[must_use]
    pub(super) fn at(self, tenant: u64) -> Self {
        Self(self.0.rotate_left(1) ^ tenant)
    }

    /// The place of the caller in a table of this many.
    pub(super) fn index(self, of: usize) -> usize {
        usize::try_from(self.0 >> 32).unwrap_or_default() % of.max(1)
    }

    fn mixed(bits: u64) -> Self {
        let [first, second] = *KEYS;
        // Twice, since addresses that follow each other stay at equal distances after one multiplication.
        let once = (bits ^ first).wrapping_mul(second);
        let twice = (once ^ once >> 32).wrapping_mul(second);
        Self(twice ^ twice >> 29)
    }
}

#[cfg(test)]
impl CallerId {
    /// The caller with this number.
    pub(super) fn of_test(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_are_told_apart_and_a_network_of_ipv6_is_one() {
        let id = |address: &str| CallerId::of_address(address.parse().unwrap());
        let of_ipv4 = (0..=255).map(|last| id(&format!("10.0.0.{last}")));
        let of_ipv6 = (0..=255).map(|net| id(&format!("2001:db8:0:{net:x}::1")));
        let ids: HashSet<_> = of_ipv4.chain(of_ipv6).collect();
        assert_eq!(ids.len(), 512);
        let places: HashSet<_> = ids.iter().map(|id| id.index(512)).collect();
        assert!(places.len() > 200, "{}", places.len());
        assert_eq!(id("2001:db8::1"), id("2001:db8::ffff:1"));
        assert_eq!(id("10.0.0.1"), id("::ffff:10.0.0.1"));
    }

    #[test]
    fn a_caller_has_another_number_at_each_tenant() {
        let caller = CallerId::known(7);
        assert_ne!(caller.at(1), caller.at(2));
        assert_eq!(caller.at(1), CallerId::known(7).at(1));
    }
}
