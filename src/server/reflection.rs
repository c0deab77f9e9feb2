//! Limits how many reflection streams may be open at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    call::{Obstacle, Share},
    tenant::{Resource, Usage, address_block},
};

/// The places of reflection streams, by address.
///
/// An address gets another place only while more places are free than it has. So a single address
/// gets eight of sixteen, and the next one half of what is left. A place is never taken away: a
/// stream that lost it would hold memory until its peer has read that the stream is over.
#[derive(Debug, Default)]
pub(super) struct Reflection {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place of a stream. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ReflectionPlace {
    of: Arc<Reflection>,
    peer: IpAddr,
}

/// Tools open one stream at a time, and only briefly.
const MAX: NonZeroUsize = NonZeroUsize::new(16).unwrap();

// === impl Reflection ===

impl Reflection {
    /// Takes a place for a stream of `peer`. IPv6 addresses of the same /64 count as one address.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if the address has its part already, or if no place is free.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<ReflectionPlace, Obstacle> {
        let peer = address_block(peer);
        let mut taken = self.taken();
        let free = MAX.get().saturating_sub(taken.values().sum());
        let own = taken.get(&peer).copied().unwrap_or_default();
        if own >= free {
            return Err(Obstacle::Overloaded { share: Share::ServerReflection, limit: MAX });
        }
        taken.insert(peer, own + 1);
        Ok(ReflectionPlace { of: self.clone(), peer })
    }

    /// How many places are taken.
    pub(super) fn usage(&self) -> Usage {
        let taken = self.taken().values().sum();
        Usage { resource: Resource::Share(Share::ServerReflection), limit: MAX.get(), taken }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReflectionPlace {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        match taken.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    /// Takes as many places as one address gets.
    fn all(places: &Arc<Reflection>, number: u8) -> Vec<ReflectionPlace> {
        std::iter::from_fn(|| places.enter(peer(number)).ok()).collect()
    }

    #[test]
    fn each_address_gets_half_of_what_is_left_and_no_more_than_all_are_given() {
        let places = Arc::new(Reflection::default());
        let held: Vec<_> = (0..9).map(|number| all(&places, number)).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [8, 4, 2, 1, 1, 0, 0, 0, 0]);
        assert_eq!(places.usage().taken, MAX.get());
        drop(held);
        assert!(places.taken().is_empty());
        assert_eq!(all(&places, 1).len(), 8);
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_address() {
        let places = Arc::new(Reflection::default());
        let held: Vec<_> = (0..20)
            .filter_map(|host: u16| places.enter([0x2001, 0xdb8, 0, 1, 0, 0, 0, host].into()).ok())
            .collect();
        assert_eq!(held.len(), 8);
    }
}
