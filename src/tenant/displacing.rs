//! A bounded set that a newcomer always gets into.

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

/// Places of which no address can keep the others out. There are two ways in. With
/// [`Displacing::enter`] a newcomer always gets a place: where all are taken, the one that has been
/// held longest at the address that holds most, the newcomer's own included. This is for what takes
/// an honest peer milliseconds, such as a handshake, since an old place then belongs to a peer that
/// stands still; and for streams that are easily opened again. With [`Displacing::enter_fairly`] a
/// newcomer gets a place only from an address that has more, so that places may be held for long.
#[derive(Debug)]
pub struct Displacing {
    limit: NonZeroUsize,
    /// The most that one address gets by [`Displacing::enter`].
    per_peer: NonZeroUsize,
    held: Mutex<Held>,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    by_peer: HashMap<IpAddr, Places>,
    /// One for each of `by_peer`; the last is who loses a place next.
    ranks: BTreeSet<Rank>,
    taken: usize,
}

/// The places of one address, in the order of arrival.
type Places = BTreeMap<u64, CancellationToken>;
/// How many places an address has, and which is its oldest: among addresses with as many, the one
/// with the oldest place ranks highest.
type Rank = (usize, Reverse<u64>, IpAddr);

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    of: Arc<Displacing>,
    peer: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl Displacing {
    /// So many places; at least one.
    pub fn new(limit: usize) -> Arc<Self> {
        Self::shared(limit, limit)
    }

    /// So many places, and so many for one address; at least one.
    pub fn shared(limit: usize, per_peer: usize) -> Arc<Self> {
        let (held, displaced) = (Mutex::default(), AtomicU64::default());
        let some = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let (limit, per_peer) = (some(limit), some(per_peer));
        Arc::new(Self { limit, per_peer, held, displaced })
    }

    /// A place for `peer`. If there is no other, it is the oldest one of the address that holds
    /// most; if `peer` has as many as one address may have, it is its own oldest. An IPv6 address stands
    /// for its /64.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Place {
        let (peer, lost) = (block(peer), CancellationToken::new());
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
        Place { of: self.clone(), peer, number, lost }
    }

    /// A place for `peer`, if there is one, or if another address has more than `peer` will have: then
    /// that one loses its newest. So an address may have all places until others want their part,
    /// and nobody loses one to an address that has as many.
    pub fn enter_fairly(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let (peer, lost) = (block(peer), CancellationToken::new());
        let mut held = self.held();
        let displaced =
            if held.taken >= self.limit.get() { Some(held.displace_for(peer)?) } else { None };
        let number = held.add(peer, lost.clone());
        drop(held);
        if let Some(displaced) = displaced {
            displaced.cancel();
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        Some(Place { of: self.clone(), peer, number, lost })
    }

    /// How many places there are.
    pub fn limit(&self) -> NonZeroUsize {
        self.limit
    }

    /// How many places are taken.
    pub fn usage(&self, resource: Resource) -> Usage {
        Usage { resource, limit: self.limit.get(), taken: self.held().taken }
    }

    /// How many have lost their place to a newcomer.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Adds a place, and gives its number.
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

    /// Takes the oldest place of this address.
    fn displace_of(&mut self, peer: IpAddr) -> Option<CancellationToken> {
        let (&oldest, _) = self.by_peer.get(&peer)?.first_key_value()?;
        self.remove(peer, oldest)
    }

    /// Takes the oldest place of the address that has most.
    fn displace(&mut self) -> Option<CancellationToken> {
        let &(_, Reverse(oldest), peer) = self.ranks.last()?;
        self.remove(peer, oldest)
    }

    /// Takes the newest place of the address that has most, if it has more than `peer` will have.
    fn displace_for(&mut self, peer: IpAddr) -> Option<CancellationToken> {
        let own = self.of(peer);
        let &(most, _, other) = self.ranks.last()?;
        let (&newest, _) = self.by_peer.get(&other)?.last_key_value()?;
        (most > own + 1).then(|| self.remove(other, newest)).flatten()
    }

    /// Takes a place, unless it has been displaced.
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

/// `None` for an address without places.
fn rank(peer: IpAddr, places: &Places) -> Option<Rank> {
    let (&oldest, _) = places.first_key_value()?;
    Some((places.len(), Reverse(oldest), peer))
}

impl Place {
    /// Waits until a newcomer has got the place.
    pub fn lost(&self) -> WaitForCancellationFuture<'_> {
        self.lost.cancelled()
    }

    /// Whether a newcomer has got the place.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Cancelled when a newcomer has got the place.
    pub fn lost_token(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// The same, for whoever cannot borrow it.
    pub fn lost_owned(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.held().remove(self.peer, self.number);
    }
}

/// What counts as one address: an IPv6 host has a whole /64 for itself.
pub fn block(peer: IpAddr) -> IpAddr {
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
        let places = Displacing::new(8);
        let others: Vec<_> = (1..=4).map(|other| places.enter(peer(other))).collect();
        let flood: Vec<_> = (0..100).map(|_| places.enter(HERE)).collect();
        assert!(!others.iter().any(Place::is_lost));
        assert_eq!(flood.iter().filter(|place| !place.is_lost()).count(), 4);
        assert!(!flood[96..].iter().any(Place::is_lost), "its newest are left");

        // The next of another address gets a place of the flood's too.
        let next = places.enter(peer(5));
        assert!(!others.iter().chain([&next]).any(Place::is_lost));
        assert!(flood[96].is_lost());
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (8, 97));

        drop((others, flood, next));
        let held = places.held();
        assert_eq!((held.taken, held.by_peer.len(), held.ranks.len()), (0, 0, 0));
    }

    #[test]
    fn an_address_has_no_more_places_than_one_may_have() {
        let places = Displacing::shared(8, 3);
        let flood: Vec<_> = (0..10).map(|_| places.enter(HERE)).collect();
        let lost: Vec<_> = flood.iter().map(Place::is_lost).collect();
        assert_eq!(lost.iter().filter(|lost| !**lost).count(), 3);
        assert!(!flood[7..].iter().any(Place::is_lost), "its newest are left");
        let other = places.enter(peer(1));
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (4, 7));
        drop((flood, other));
        assert_eq!(places.usage(Resource::Handshakes).taken, 0);
    }

    #[test]
    fn among_addresses_with_as_many_places_the_oldest_place_is_lost() {
        let places = Displacing::new(3);
        // The order of arrival is not that of the addresses.
        let held = [3, 1, 2].map(|number| places.enter(peer(number)));
        let _newcomer = places.enter(peer(0));
        assert_eq!(held.each_ref().map(Place::is_lost), [true, false, false]);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let places = Displacing::new(2);
        let other = places.enter(peer(1));
        let flood =
            [1, 2, 3].map(|host| places.enter(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])));
        assert!(!other.is_lost());
        assert_eq!(flood.each_ref().map(Place::is_lost), [true, true, false]);
    }

    #[test]
    fn a_newcomer_gets_the_place_that_was_held_longest() {
        let places = Displacing::new(2);
        let (first, second) = (places.enter(HERE), places.enter(HERE));
        assert_eq!(places.usage(Resource::Handshakes).taken, 2);
        let third = places.enter(HERE);
        assert!(first.lost().now_or_never().is_some());
        assert!(second.lost().now_or_never().is_none());
        assert_eq!((places.usage(Resource::Handshakes).taken, places.displaced()), (2, 1));

        // Whoever has lost a place gives back none.
        drop(first);
        assert_eq!(places.usage(Resource::Handshakes).taken, 2);
        drop(second);
        assert_eq!(places.usage(Resource::Handshakes).taken, 1);
        let _fourth = places.enter(HERE);
        assert!(third.lost().now_or_never().is_none());
    }

    #[test]
    fn an_address_has_all_places_until_another_one_wants_its_part() {
        let places = Displacing::new(4);
        let first: Vec<_> = (0..4).filter_map(|_| places.enter_fairly(peer(1))).collect();
        assert_eq!(first.len(), 4);
        assert!(places.enter_fairly(peer(1)).is_none(), "nobody has more");
        let second: Vec<_> = (0..4).filter_map(|_| places.enter_fairly(peer(2))).collect();
        assert_eq!(second.len(), 2);
        let lost: Vec<_> = first.iter().map(Place::is_lost).collect();
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
        let places = Displacing::new(1);
        let _first = places.enter_fairly(peer(1));
        assert!(places.enter_fairly(peer(2)).is_none());
    }

    #[test]
    fn hosts_of_ipv6_are_told_apart_by_their_network() {
        let block = |text: &str| block(text.parse().expect("an address"));
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:2"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    }
}
