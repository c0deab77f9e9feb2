//! The connections that are served: how many there may be, and who makes room for others.

mod demand;
mod guest;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::warn;

pub(super) use self::guest::{Guest, OpenCall};
use self::{demand::Demand, guest::milliseconds_since};
use super::send_buffers::{Listed, SendBuffers};
use crate::{
    config,
    tenant::{Usage, address_block},
};

/// All connections that are served. One that is idle is kept as long as there is room: callers keep
/// channels open for hours. Where there is none, the one that has been idle longest makes it.
#[derive(Debug)]
pub(super) struct House {
    max: usize,
    per_peer: usize,
    /// Of the times of guests.
    born: Instant,
    guests: Mutex<Guests>,
    /// One for each guest.
    send_buffers: Arc<SendBuffers>,
    left: Notify,
    /// Connections that have been closed for others.
    made_room: AtomicU64,
    /// Of places in the house.
    no_room: Shortage,
    /// Of places for one address.
    no_share: Shortage,
}

/// What one of the bounds has led to.
#[derive(Debug, Default)]
struct Shortage {
    /// Connections that found no room.
    turned_away: AtomicU64,
    /// When the log was last told.
    said: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: HashMap<u64, Arc<Guest>>,
    by_peer: HashMap<IpAddr, usize>,
    demand: Demand,
}

/// A newcomer on its way in; waits no more when dropped.
#[derive(Debug)]
struct Newcomer<'a> {
    house: &'a Arc<House>,
    peer: IpAddr,
    /// The bound for which it is counted among those who wait.
    waits_for: Option<Full>,
}

/// A place in the house; given back when dropped.
#[derive(Debug)]
pub(super) struct Stay {
    house: Arc<House>,
    number: u64,
    pub(super) guest: Arc<Guest>,
    _buffer: Listed,
}

/// The bound that leaves no room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Full {
    /// `server.connections.max`.
    House,
    /// `server.connections.per_peer`, of this address.
    Peer(IpAddr),
}

/// How long to wait for a guest that was asked to leave before the next one is asked.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Between two lines of the log that say that the house is full.
const SAY_AGAIN: Duration = Duration::from_secs(10);

// === impl House ===

impl House {
    pub(super) fn new(limits: &config::Connections, send_buffers: Arc<SendBuffers>) -> Arc<Self> {
        Arc::new(Self {
            max: limits.max.get(),
            per_peer: limits.per_peer.get(),
            born: Instant::now(),
            guests: Mutex::default(),
            send_buffers,
            left: Notify::new(),
            made_room: AtomicU64::default(),
            no_room: Shortage::default(),
            no_share: Shortage::default(),
        })
    }

    /// A place for a connection from `peer`. Where there is none, the connection that has been
    /// idle longest is asked to leave; where all are in use, this waits until `end`. No more
    /// connections are asked than newcomers wait.
    ///
    /// # Errors
    ///
    /// [`Full`] if no place has become free by then.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr, end: Instant) -> Result<Stay, Full> {
        let mut newcomer = Newcomer { house: self, peer: address_block(peer), waits_for: None };
        loop {
            // From before the look, so that no leaving is missed between the look and the wait.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let full = match newcomer.try_enter() {
                Ok(stay) => return Ok(stay),
                Err(full) => full,
            };
            self.say(full);
            let patience = end.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                self.shortage(full).turned_away.fetch_add(1, Ordering::Relaxed);
                return Err(full);
            }
            let _next_try = timeout(patience.min(ASK_AGAIN), left).await;
        }
    }

    /// How many places are taken.
    pub(super) fn usage(&self) -> Usage {
        Usage { share: "connections", limit: self.max, taken: self.guests().all.len() }
    }

    /// How many connections were closed for others, and how many found no room, by cause.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("idle", count(&self.made_room)),
            ("connections_full", count(&self.no_room.turned_away)),
            ("per_peer_full", count(&self.no_share.turned_away)),
        ]
    }

    /// The bound that leaves no room for `peer`, if one does.
    fn full(&self, guests: &Guests, peer: IpAddr) -> Option<Full> {
        let of_peer = guests.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_peer {
            Some(Full::Peer(peer))
        } else {
            (guests.all.len() >= self.max).then_some(Full::House)
        }
    }

    fn seat(self: &Arc<Self>, guests: &mut Guests, peer: IpAddr) -> Stay {
        let buffer = self.send_buffers.open(peer);
        let guest = Arc::new(Guest::new(peer, self.born, buffer.clone()));
        let number = guests.next;
        guests.next += 1;
        guests.all.insert(number, guest.clone());
        *guests.by_peer.entry(peer).or_default() += 1;
        Stay { house: self.clone(), number, guest, _buffer: buffer }
    }

    /// Says in the log that there is no room, now and then.
    fn say(&self, full: Full) {
        if !self.shortage(full).is_news() {
            return;
        }
        let [(_, made_room), (_, house), (_, peer)] = self.counts();
        let turned_away = house + peer;
        match full {
            Full::House => warn!(
                bound = "server.connections.max",
                limit = self.max,
                made_room,
                turned_away,
                "every place for connections is taken; idle ones are closed for new ones"
            ),
            Full::Peer(peer) => warn!(
                bound = "server.connections.per_peer",
                limit = self.per_peer,
                %peer,
                made_room,
                turned_away,
                "every place for connections from one address is taken; idle ones are closed for \
                 new ones"
            ),
        }
    }

    fn shortage(&self, full: Full) -> &Shortage {
        match full {
            Full::House => &self.no_room,
            Full::Peer(_) => &self.no_share,
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shortage {
    /// Whether the log has not been told for a while; it is told now.
    fn is_news(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if news {
            *said = Some(Instant::now());
        }
        news
    }
}

// === impl Guests ===

impl Guests {
    /// Asks the guest that has been idle longest to leave, if more newcomers wait for `full` than
    /// guests are about to make room.
    fn ask(&mut self, full: Full, house_age: u64) {
        let now = Instant::now();
        if !self.demand.is_open(full, now) {
            return;
        }
        let concerned = |guest: &Guest| match full {
            Full::House => true,
            Full::Peer(peer) => guest.peer == peer,
        };
        let all = self.all.iter().filter(|(_, guest)| concerned(guest));
        let idle =
            all.filter_map(|(number, guest)| Some((guest.dispensable(house_age)?, number, guest)));
        // Of those that were seated in the same millisecond, the one that came first.
        let oldest = idle.min_by_key(|(since, number, _)| (*since, **number));
        if let Some((_, &number, longest)) = oldest {
            longest.gives_way.cancel();
            self.demand.note_asked(number, full, now);
        }
    }
}

// === impl Newcomer ===

impl Newcomer<'_> {
    /// A place if there is one; else this one waits, and somebody has been asked to leave for it
    /// if anybody is idle.
    fn try_enter(&mut self) -> Result<Stay, Full> {
        let mut guests = self.house.guests();
        // Under one lock with the seat, so that nobody sees a newcomer that has a place wait.
        self.wait_no_more(&mut guests);
        let Some(full) = self.house.full(&guests, self.peer) else {
            return Ok(self.house.seat(&mut guests, self.peer));
        };
        guests.demand.wait(full);
        self.waits_for = Some(full);
        guests.ask(full, milliseconds_since(self.house.born));
        Err(full)
    }

    fn wait_no_more(&mut self, guests: &mut Guests) {
        if let Some(full) = self.waits_for.take() {
            guests.demand.wait_no_more(full);
        }
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        if self.waits_for.is_some() {
            let house = self.house;
            self.wait_no_more(&mut house.guests());
        }
    }
}

// === impl Stay ===

#[cfg(test)]
impl Stay {
    /// A guest of a house of its own.
    pub(super) fn alone() -> Self {
        let count = std::num::NonZeroUsize::MIN;
        let limits = config::Connections {
            max: count,
            handshakes: count,
            per_peer: count,
            handshake_timeout: Duration::MAX,
            max_age: Duration::MAX,
            max_age_grace: Duration::MAX,
        };
        let house = House::new(&limits, SendBuffers::new());
        let mut guests = house.guests();
        house.seat(&mut guests, IpAddr::from([127, 0, 0, 1]))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut guests = self.house.guests();
        if self.guest.gives_way.is_cancelled() {
            self.house.made_room.fetch_add(1, Ordering::Relaxed);
        }
        guests.all.remove(&self.number);
        guests.demand.note_gone(self.number);
        if let Some(count) = guests.by_peer.get_mut(&self.guest.peer) {
            *count -= 1;
            if *count == 0 {
                guests.by_peer.remove(&self.guest.peer);
            }
        }
        drop(guests);
        self.house.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures_util::FutureExt as _;

    use super::{guest::SETTLING, *};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn house(max: usize, per_peer: usize) -> Arc<House> {
        let count = |count| NonZeroUsize::new(count).expect("not zero");
        let limits = config::Connections {
            max: count(max),
            handshakes: count(1),
            per_peer: count(per_peer),
            handshake_timeout: Duration::from_secs(1),
            max_age: Duration::MAX,
            max_age_grace: Duration::MAX,
        };
        House::new(&limits, SendBuffers::new())
    }

    async fn enter(house: &Arc<House>, peer: IpAddr) -> Result<Stay, Full> {
        house.enter(peer, Instant::now() + Duration::from_secs(1)).await
    }

    async fn later() {
        tokio::time::advance(Duration::from_millis(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_longest_makes_room() {
        let house = house(3, 3);
        let first = enter(&house, HERE).await.expect("room");
        later().await;
        let second = enter(&house, HERE).await.expect("room");
        later().await;
        let third = enter(&house, HERE).await.expect("room");
        later().await;
        // Not idle any more, and idle later than the third.
        let in_use = first.guest.begin();
        drop(second.guest.begin());
        tokio::time::advance(SETTLING).await;

        let fourth = tokio::spawn({
            let house = house.clone();
            async move { enter(&house, HERE).await }
        });
        third.guest.gives_way.cancelled().await;
        assert!(!first.guest.gives_way.is_cancelled());
        assert!(!second.guest.gives_way.is_cancelled());
        drop(third);
        let _fourth = fourth.await.expect("no panic").expect("room");
        assert_eq!(house.usage().taken, 3);
        assert_eq!(house.counts(), [("idle", 1), ("connections_full", 0), ("per_peer_full", 0)]);
        drop(in_use);
    }

    #[tokio::test(start_paused = true)]
    async fn of_guests_seated_at_the_same_moment_the_first_makes_room() {
        let house = house(20, 20);
        let mut stays = Vec::new();
        for _ in 0..20 {
            stays.push(enter(&house, HERE).await.expect("room"));
        }
        tokio::time::advance(SETTLING).await;
        assert!(enter(&house, HERE).now_or_never().is_none());
        assert_eq!(asked(&stays), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_is_busy_is_asked_to_leave() {
        let house = house(1, 1000);
        let stay = enter(&house, HERE).await.expect("room");
        let _busy = stay.guest.begin();
        assert_eq!(enter(&house, HERE).await.expect_err("no room"), Full::House);
        assert!(stay.guest.gives_way.cancelled().now_or_never().is_none());
        assert_eq!(house.counts(), [("idle", 0), ("connections_full", 1), ("per_peer_full", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_takes_its_share_costs_no_other_one_anything() {
        let house = house(3, 2);
        let other = IpAddr::from([192, 0, 2, 1]);
        let theirs = enter(&house, other).await.expect("room");
        later().await;
        let first = enter(&house, HERE).await.expect("room");
        later().await;
        let second = enter(&house, HERE).await.expect("room");
        assert_eq!(enter(&house, HERE).await.expect_err("nobody leaves"), Full::Peer(HERE));
        assert!(first.guest.gives_way.is_cancelled());
        assert!(!theirs.guest.gives_way.is_cancelled());
        drop((first, second));
        assert_eq!(house.guests().by_peer.len(), 1);
    }

    /// Lets the newcomers go on that have something to do.
    async fn settle() {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    fn asked(stays: &[Stay]) -> Vec<usize> {
        let asked = |stay: &Stay| stay.guest.gives_way.is_cancelled();
        stays.iter().enumerate().filter_map(|(at, stay)| asked(stay).then_some(at)).collect()
    }

    /// Seats 100 guests and has 50 newcomers wait until as many have left.
    async fn fifty_newcomers_among_a_hundred(house: &Arc<House>) {
        let mut stays = Vec::new();
        for _ in 0..100 {
            stays.push(enter(house, HERE).await.expect("room"));
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        let newcomers: Vec<_> = (0..50)
            .map(|_| {
                let house = house.clone();
                tokio::spawn(async move { enter(&house, HERE).await })
            })
            .collect();
        settle().await;
        for left in 0..50 {
            assert_eq!(asked(&stays).len(), 50 - left);
            stays.swap_remove(asked(&stays)[0]);
            settle().await;
        }
        assert_eq!(asked(&stays), [0; 0]);
        for newcomer in newcomers {
            stays.push(newcomer.await.expect("no panic").expect("room"));
        }
        assert_eq!((house.usage().taken, house.counts()[0].1), (100, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_asked_to_leave_as_newcomers_wait() {
        fifty_newcomers_among_a_hundred(&house(100, 1000)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_of_an_address_are_asked_to_leave_as_newcomers_of_it_wait() {
        fifty_newcomers_among_a_hundred(&house(1000, 100)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_that_give_up_do_not_ask_one_guest_each() {
        let house = house(2, 1000);
        let stays =
            [enter(&house, HERE).await.expect("room"), enter(&house, HERE).await.expect("room")];
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..10 {
            assert!(enter(&house, HERE).now_or_never().is_none());
        }
        assert_eq!(asked(&stays).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_guest_is_asked_where_one_does_not_go() {
        let house = house(3, 1000);
        let mut stays = Vec::new();
        for _ in 0..3 {
            stays.push(enter(&house, HERE).await.expect("room"));
            later().await;
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        let newcomer = tokio::spawn({
            let house = house.clone();
            async move { enter(&house, HERE).await }
        });
        settle().await;
        assert_eq!(asked(&stays), [0]);
        stays[1].guest.gives_way.cancelled().await;
        assert_eq!(asked(&stays), [0, 1]);
        newcomer.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_has_just_been_seated_is_not_asked_to_leave() {
        let house = house(1, 1000);
        let stay = enter(&house, HERE).await.expect("room");
        let seated = Instant::now();
        let newcomer = tokio::spawn({
            let (house, end) = (house.clone(), seated + Duration::from_secs(10));
            async move { house.enter(HERE, end).await }
        });
        stay.guest.gives_way.cancelled().await;
        assert!(seated.elapsed() >= Duration::from_secs(1), "{:?}", seated.elapsed());
        drop(stay);
        newcomer.await.expect("no panic").expect("room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_counts_as_closed_for_others_when_it_has_gone() {
        let house = house(1, 1000);
        let stay = enter(&house, HERE).await.expect("room");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(enter(&house, HERE).now_or_never().is_none());
        assert!(stay.guest.gives_way.is_cancelled());
        assert_eq!(house.counts()[0], ("idle", 0));
        drop(stay);
        assert_eq!(house.counts()[0], ("idle", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_bound_is_told_to_the_log_by_itself() {
        let house = house(1, 1);
        for _ in 0..2 {
            for full in [Full::House, Full::Peer(HERE)] {
                assert!(house.shortage(full).is_news());
                assert!(!house.shortage(full).is_news());
            }
            tokio::time::advance(SAY_AGAIN).await;
        }
    }
}
