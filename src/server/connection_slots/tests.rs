use std::num::NonZeroUsize;

use futures_util::FutureExt as _;

use super::{served_connection::FIRST_CALL_GRACE, *};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn slots(max: usize, per_peer: usize) -> Arc<ConnectionSlots> {
    let count = |count| NonZeroUsize::new(count).expect("not zero");
    let limits = config::Connections {
        max: count(max),
        handshakes: count(1),
        per_peer: count(per_peer),
        handshake_timeout: Duration::from_secs(1),
        max_age: Duration::MAX,
        max_age_grace: Duration::MAX,
        requests_per_second: count(1),
        resets_per_second: count(1),
    };
    ConnectionSlots::new(&limits, SendBuffers::new())
}

async fn acquire(slots: &Arc<ConnectionSlots>, peer: IpAddr) -> Result<Slot, Full> {
    slots.acquire(peer, Instant::now() + Duration::from_secs(1)).await
}

async fn later() {
    tokio::time::advance(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_was_idle_longest_is_evicted() {
    let slots = slots(3, 3);
    let first = acquire(&slots, HERE).await.expect("room");
    later().await;
    let second = acquire(&slots, HERE).await.expect("room");
    later().await;
    let third = acquire(&slots, HERE).await.expect("room");
    later().await;
    // The first is busy; the second has been idle for less time than the third.
    let in_use = first.served.begin();
    drop(second.served.begin());
    tokio::time::advance(FIRST_CALL_GRACE).await;

    let fourth = tokio::spawn({
        let slots = slots.clone();
        async move { acquire(&slots, HERE).await }
    });
    third.served.evicted.cancelled().await;
    assert!(!first.served.evicted.is_cancelled());
    assert!(!second.served.evicted.is_cancelled());
    drop(third);
    let _fourth = fourth.await.expect("no panic").expect("room");
    assert_eq!(slots.usage().taken, 3);
    assert_eq!(slots.counts().map(|(_, count)| count), [1, 0, 0]);
    drop(in_use);
}

#[tokio::test(start_paused = true)]
async fn of_connections_opened_at_the_same_time_the_first_is_evicted() {
    let slots = slots(20, 20);
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.push(acquire(&slots, HERE).await.expect("room"));
    }
    tokio::time::advance(FIRST_CALL_GRACE).await;
    assert!(acquire(&slots, HERE).now_or_never().is_none());
    assert_eq!(evicted(&taken), [0]);
}

#[tokio::test(start_paused = true)]
async fn no_busy_connection_is_evicted() {
    let slots = slots(1, 1000);
    let slot = acquire(&slots, HERE).await.expect("room");
    let _busy = slot.served.begin();
    assert_eq!(acquire(&slots, HERE).await.expect_err("no room"), Full::Server);
    assert!(slot.served.evicted.cancelled().now_or_never().is_none());
    assert_eq!(slots.counts().map(|(_, count)| count), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_address_with_all_its_slots_affects_no_other() {
    let slots = slots(3, 2);
    let other = IpAddr::from([192, 0, 2, 1]);
    let theirs = acquire(&slots, other).await.expect("room");
    later().await;
    let first = acquire(&slots, HERE).await.expect("room");
    later().await;
    let second = acquire(&slots, HERE).await.expect("room");
    assert_eq!(acquire(&slots, HERE).await.expect_err("nobody leaves"), Full::Peer(HERE));
    assert!(first.served.evicted.is_cancelled());
    assert!(!theirs.served.evicted.is_cancelled());
    drop((first, second));
    assert_eq!(slots.occupied().by_peer.len(), 1);
}

/// Lets the waiting connections run.
async fn settle() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

fn evicted(taken: &[Slot]) -> Vec<usize> {
    let evicted = |slot: &Slot| slot.served.evicted.is_cancelled();
    taken.iter().enumerate().filter_map(|(at, slot)| evicted(slot).then_some(at)).collect()
}

/// Opens 100 connections and has 50 more wait until as many have ended.
async fn fifty_waiters_among_a_hundred(slots: &Arc<ConnectionSlots>) {
    let mut taken = Vec::new();
    for _ in 0..100 {
        taken.push(acquire(slots, HERE).await.expect("room"));
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let slots = slots.clone();
            tokio::spawn(async move { acquire(&slots, HERE).await })
        })
        .collect();
    settle().await;
    for left in 0..50 {
        assert_eq!(evicted(&taken).len(), 50 - left);
        taken.swap_remove(evicted(&taken)[0]);
        settle().await;
    }
    assert_eq!(evicted(&taken), [0; 0]);
    for waiter in waiters {
        taken.push(waiter.await.expect("no panic").expect("room"));
    }
    assert_eq!((slots.usage().taken, slots.counts()[0].1), (100, 50));
}

#[tokio::test(start_paused = true)]
async fn as_many_are_evicted_as_connections_wait() {
    fifty_waiters_among_a_hundred(&slots(100, 1000)).await;
}

#[tokio::test(start_paused = true)]
async fn as_many_of_an_address_are_evicted_as_connections_of_it_wait() {
    fifty_waiters_among_a_hundred(&slots(1000, 100)).await;
}

#[tokio::test(start_paused = true)]
async fn waiters_that_give_up_do_not_evict_one_connection_each() {
    let slots = slots(2, 1000);
    let taken =
        [acquire(&slots, HERE).await.expect("room"), acquire(&slots, HERE).await.expect("room")];
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..10 {
        assert!(acquire(&slots, HERE).now_or_never().is_none());
    }
    assert_eq!(evicted(&taken).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_connection_is_evicted_if_one_does_not_end() {
    let slots = slots(3, 1000);
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(acquire(&slots, HERE).await.expect("room"));
        later().await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let waiter = tokio::spawn({
        let slots = slots.clone();
        async move { acquire(&slots, HERE).await }
    });
    settle().await;
    assert_eq!(evicted(&taken), [0]);
    taken[1].served.evicted.cancelled().await;
    assert_eq!(evicted(&taken), [0, 1]);
    waiter.abort();
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_not_evicted() {
    let slots = slots(1, 1000);
    let slot = acquire(&slots, HERE).await.expect("room");
    let opened = Instant::now();
    let waiter = tokio::spawn({
        let (slots, end) = (slots.clone(), opened + Duration::from_secs(10));
        async move { slots.acquire(HERE, end).await }
    });
    slot.served.evicted.cancelled().await;
    assert!(opened.elapsed() >= Duration::from_secs(1), "{:?}", opened.elapsed());
    drop(slot);
    waiter.await.expect("no panic").expect("room");
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_as_closed_for_others_once_it_has_ended() {
    let slots = slots(1, 1000);
    let slot = acquire(&slots, HERE).await.expect("room");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(acquire(&slots, HERE).now_or_never().is_none());
    assert!(slot.served.evicted.is_cancelled());
    assert_eq!(slots.counts()[0], (TurnedAway::Idle, 0));
    drop(slot);
    assert_eq!(slots.counts()[0], (TurnedAway::Idle, 1));
}

#[tokio::test(start_paused = true)]
async fn each_limit_is_logged_by_itself() {
    let slots = slots(1, 1);
    for _ in 0..2 {
        for full in [Full::Server, Full::Peer(HERE)] {
            assert!(slots.shortage(full).lines.is_due(LOG_AGAIN));
            assert!(!slots.shortage(full).lines.is_due(LOG_AGAIN));
        }
        tokio::time::advance(LOG_AGAIN).await;
    }
}
