//! A bounded number of places for peers, in which no network address can keep the others out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::{
    CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned,
};

use super::{Resource, Usage};

/// A bounded number of places, of which no network address can keep the others out. There are two
/// ways to get one.
///
/// [`PeerPlaces::enter`] always gives the newcomer a place. If all are taken, the address with the
/// most places (counting the newcomer's) loses its oldest one. Use it for what takes an honest peer
/// milliseconds, such as a handshake: there an old place belongs to a peer that has stalled. Use it
/// also for streams that are easily opened again.
///
/// [`PeerPlaces::enter_fairly`] gives the newcomer a place only if one is free, or from an address
/// that has more. Use it for places that are held for long.
#[derive(Debug)]
pub struct PeerPlaces {
    limit: NonZeroUsize,
    /// The most that one address gets by [`PeerPlaces::enter`].
    per_peer: NonZeroUsize,
    held: Mutex<Held>,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_peer: HashMap<IpAddr, Places>,
    /// One for each address of `by_peer`. The last one loses a place next.
    ranks: BTreeSet<Rank>,
    taken: usize,
}

/// The places of one address, in the order of arrival.
type Places = BTreeMap<u64, CancellationToken>;
/// How many places an address has, and the number of its oldest one. Among addresses with equally
/// many places, the one with the oldest place ranks highest.
type Rank = (usize, Reverse<u64>, IpAddr);

/// A place; released when dropped.
#[derive(Debug)]
pub struct PeerPlace {
    of: Arc<PeerPlaces>,
    peer: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl PeerPlaces {
    /// Makes `limit` places, at least one. One address may have all of them.
    pub fn new(limit: usize) -> Arc<Self> {
        Self::shared(limit, limit)
    }

    /// Makes `limit` places, of which one address may have `per_peer`; at least one each.
    pub fn shared(limit: usize, per_peer: usize) -> Arc<Self> {
        let (held, displaced) = (Mutex::default(), AtomicU64::default());
        let some = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let (limit, per_peer) = (some(limit), some(per_peer));
        Arc::new(Self { limit, per_peer, held, displaced })
    }

    /// Takes a place for `peer`. If none is free, the address with the most places loses its oldest
    /// one. If `peer` has reached the limit of one address, it loses its own oldest one. An IPv6
    /// address counts as its /64 network.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> PeerPlace {
        let (peer, lost) = (address_block(peer), CancellationToken::new());
        let mut held = self.held();
        let number = held.add(peer, lost.clone());
        let displaced = match held.of(peer) {
            own if own > self.per_peer.get() => held.displace_of(peer),
            _ if held.taken > self.limit.get() => held.displace(),
            _ => None,
        };
        drop(held);
        if let Some(displaced) = displaced {
            displaced.cancel();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        PeerPlace { of: self.clone(), peer, number, lost }
    }

    /// Takes a place for `peer`, if one is free, or if another address has more than `peer` will
    /// have: that address then loses its newest one. So one address may have all places until
    /// others want their part, and no address loses one to an address that has as many.
    pub fn enter_fairly(self: &Arc<Self>, peer: IpAddr) -> Option<PeerPlace> {
        let (peer, lost) = (address_block(peer), CancellationToken::new());
        let mut held = self.held();
        let displaced =
            if held.taken >= self.limit.get() { Some(held.displace_for(peer)?) } else { None };
        let number = held.add(peer, lost.clone());
        drop(held);
        if let Some(displaced) = displaced {
            displaced.cancel();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        Some(PeerPlace { of: self.clone(), peer, number, lost })
    }

    /// How many places there are.
    pub fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    /// How many places are taken.
    pub fn usage(&self, resource: Resource) -> Usage {
        Usage { resource, limit: self.limit.get(), taken: self.held().taken }
    }

    /// How many places newcomers have taken from their holders.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Adds a place, and returns its number.
    fn add(&mut self, peer: IpAddr, lost: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        self.change(peer, |places| places.insert(number, lost));
        number
    }

    /// How many places an address has.
    fn of(&self, peer: IpAddr) -> usize {
        self.by_peer.get(&peer).map_or(0, Places::len)
    }

    /// Removes the oldest place of this address.
    fn displace_of(&mut self, peer: IpAddr) -> Option<CancellationToken> {
        let (&oldest, _) = self.by_peer.get(&peer)?.first_key_value()?;
        self.remove(peer, oldest)
    }

    /// Removes the oldest place of the address that has the most.
    fn displace(&mut self) -> Option<CancellationToken> {
        let &(_, Reverse(oldest), peer) = self.ranks.last()?;
        self.remove(peer, oldest)
    }

    /// Removes the newest place of the address that has the most, if that is more than `peer` will
    /// have.
    fn displace_for(&mut self, peer: IpAddr) -> Option<CancellationToken> {
        let own = self.of(peer);
        let &(most, _, other) = self.ranks.last()?;
        let (&newest, _) = self.by_peer.get(&other)?.last_key_value()?;
        (most > own + 1).then(|| self.remove(other, newest)).flatten()
    }

    /// Removes a place, unless a newcomer has taken it already.
    fn remove(&mut self, peer: IpAddr, number: u64) -> Option<CancellationToken> {
        let removed = self.change(peer, |places| places.remove(&number));
        self.taken -= usize::from(removed.is_some());
        removed
    }

    /// Changes the places of one address, and its rank with them.
    fn change<T>(&mut self, peer: IpAddr, change: impl FnOnce(&mut Places) -> T) -> T {
        let places = self.by_peer.entry(peer).or_default();
        if let Some(rank) = rank(peer, places) {
            self.ranks.remove(&rank);
        }
        let changed = change(places);
        match rank(peer, places) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.by_peer.remove(&peer)),
        }
        changed
    }
}

/// The rank of an address; `None` if it has no places.
fn rank(peer: IpAddr, places: &Places) -> Option<Rank> {
    let (&oldest, _) = places.first_key_value()?;
    Some((places.len(), Reverse(oldest), peer))
}

impl PeerPlace {
    /// Waits until a newcomer has taken the place.
    pub fn lost(&self) -> WaitForCancellationFuture<'_> {
        self.lost.cancelled()
    }

    /// Whether a newcomer has taken the place.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// A token that is cancelled when a newcomer has taken the place.
    pub fn lost_token(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Like [`PeerPlace::lost`], but does not borrow the place.
    pub fn lost_owned(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        self.of.held().remove(self.peer, self.number);
    }
}

/// What counts as one address: an IPv4 address, or a /64 network, since an IPv6 host has all of
/// one.
pub fn address_block(peer: IpAddr) -> IpAddr {
    const HOST: u128 = u64::MAX as u128;
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !HOST).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn peer(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn a_flood_from_one_address_displaces_only_itself() {
        let places = PeerPlaces::new(8);
        let others: Vec<_> = (1..=4).map(|other| places.enter(peer(other))).collect();
        let flood: Vec<_> = (0..100).map(|_| places.enter(HERE)).collect();
        assert!(!others.iter().any(PeerPlace::is_lost));
        assert_eq!(flood.iter().filter(|place| !place.is_lost()).count(), 4);
        assert!(!flood[96..].iter().any(PeerPlace::is_lost), "its newest are left");

        // A newcomer from another address takes a place from the flooding address, too.
        let next = places.enter(peer(5));
        assert!(!others.iter().chain([&next]).any(PeerPlace::is_lost));
        assert!(flood[96].is_lost());
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (8, 97));

        drop((others, flood, next));
        let held = places.held();
        assert_eq!((held.taken, held.by_peer.len(), held.ranks.len()), (0, 0, 0));
    }

    #[test]
    fn an_address_has_no_more_places_than_one_may_have() {
        let places = PeerPlaces::shared(8, 3);
        let flood: Vec<_> = (0..10).map(|_| places.enter(HERE)).collect();
        let lost: Vec<_> = flood.iter().map(PeerPlace::is_lost).collect();
        assert_eq!(lost.iter().filter(|lost| !**lost).count(), 3);
        assert!(!flood[7..].iter().any(PeerPlace::is_lost), "its newest are left");
        let other = places.enter(peer(1));
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (4, 7));
        drop((flood, other));
        assert_eq!(places.usage(Resource::Handshakes).taken, 0);
    }

    #[test]
    fn among_addresses_with_as_many_places_the_oldest_place_is_lost() {
        let places = PeerPlaces::new(3);
        // The order of arrival is not that of the addresses.
        let held = [3, 1, 2].map(|number| places.enter(peer(number)));
        let _newcomer = places.enter(peer(0));
        assert_eq!(held.each_ref().map(PeerPlace::is_lost), [true, false, false]);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let places = PeerPlaces::new(2);
        let other = places.enter(peer(1));
        let flood =
            [1, 2, 3].map(|host| places.enter(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])));
        assert!(!other.is_lost());
        assert_eq!(flood.each_ref().map(PeerPlace::is_lost), [true, true, false]);
    }

    #[test]
    fn a_newcomer_gets_the_place_that_was_held_longest() {
        let places = PeerPlaces::new(2);
        let (first, second) = (places.enter(HERE), places.enter(HERE));
        assert_eq!(places.usage(Resource::Handshakes).taken, 2);
        let third = places.enter(HERE);
        assert!(first.lost().now_or_never().is_some());
        assert!(second.lost().now_or_never().is_none());
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (2, 1));

        // Dropping a place that was lost releases no other.
        drop(first);
        assert_eq!(places.usage(Resource::Handshakes).taken, 2);
        drop(second);
        assert_eq!(places.usage(Resource::Handshakes).taken, 1);
        let _fourth = places.enter(HERE);
        assert!(third.lost().now_or_never().is_none());
    }

    #[test]
    fn an_address_has_all_places_until_another_one_wants_its_part() {
        let places = PeerPlaces::new(4);
        let first: Vec<_> = (0..4).filter_map(|_| places.enter_fairly(peer(1))).collect();
        assert_eq!(first.len(), 4);
        assert!(places.enter_fairly(peer(1)).is_none(), "nobody has more");
        let second: Vec<_> = (0..4).filter_map(|_| places.enter_fairly(peer(2))).collect();
        assert_eq!(second.len(), 2);
        let lost: Vec<_> = first.iter().map(PeerPlace::is_lost).collect();
        assert_eq!(lost, [false, false, true, true], "the newest");
        assert!(places.enter_fairly(peer(1)).is_none(), "it would have more than the other");
        let third = places.enter_fairly(peer(3));
        assert!(third.is_some());
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (4, 3));
        drop((first, second, third));
        assert_eq!(places.usage(Resource::Handshakes).taken, 0);
    }

    #[test]
    fn the_only_place_is_lost_to_nobody() {
        let places = PeerPlaces::new(1);
        let _first = places.enter_fairly(peer(1));
        assert!(places.enter_fairly(peer(2)).is_none());
    }

    #[test]
    fn hosts_of_ipv6_are_told_apart_by_their_network() {
        let network = |text: &str| address_block(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
