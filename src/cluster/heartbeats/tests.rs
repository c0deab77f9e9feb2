use std::sync::Arc;

use super::*;
use crate::{
    cluster::Doubts,
    id::TenantId,
    keyring::{EncryptionKey, Keyring},
    telemetry::log::captured::Captured,
};

const LEASE: Duration = Duration::from_secs(15);
const MOMENT: Duration = Duration::from_secs(4);

fn seals(tenant: &str, key: u8) -> Seals {
    let keyring = Keyring::new("test:", &[EncryptionKey::new([key; 32])]);
    let tenant = TenantId::parse(tenant).expect("an id");
    Seals::new(tenant, Arc::new(keyring), Arc::new(Doubts::none()))
}

fn replica(id: u64) -> Heartbeats {
    Heartbeats::new(ReplicaId(id), LEASE, seals("acme", 1))
}

fn heartbeat(of: &Heartbeats) -> Vec<u8> {
    of.next().expect("sealed")
}

#[tokio::test(start_paused = true)]
async fn only_heartbeats_that_a_replica_of_the_tenant_has_sealed_are_received() {
    let heartbeats = replica(1);
    assert!(heartbeats.receive(&Heartbeats::message(&heartbeat(&replica(7)))));
    let long = [ALIVE, &[b'x'; HEARTBEAT_MAX + 1]].concat();
    for forged in [b"alive:".to_vec(), b"alive:0000000000000008".to_vec(), long] {
        assert!(heartbeats.receive(&forged));
    }
    for other in [seals("acme", 2), seals("other", 1)] {
        let other = Heartbeats::new(ReplicaId(8), LEASE, other);
        assert!(heartbeats.receive(&Heartbeats::message(&heartbeat(&other))));
    }
    for other in [&b"roster"[..], b"", b"\xff\xfe"] {
        assert!(!heartbeats.receive(other), "{other:?}");
    }
    assert_eq!(heartbeats.last_received(), [(ReplicaId(7), Instant::now())].into());
}

/// Each heartbeat may be late, and none can be early.
#[tokio::test(start_paused = true)]
async fn a_replica_whose_clock_is_ahead_is_told_of_now_and_then_and_one_that_is_behind_is_not() {
    let (me, log) = (replica(1), Captured::start());
    let hear = |id: u64, nth: u64, made: u64| {
        let (requests, heard, leaves) = (0, Vec::new(), false);
        let heartbeat = Heartbeat { replica: id, nth, made, requests, heard, leaves };
        let plain = serde_json::to_vec(&heartbeat).expect("JSON");
        let sealed = me.seals.seal(Purpose::Heartbeat, "", &plain).expect("sealed");
        assert_eq!(me.read(&sealed), Some(ReplicaId(id)));
    };
    hear(7, 0, millis_now());
    hear(8, 0, millis_now() - 3_600_000);
    assert!(log.with("the clock of another replica").is_empty());
    hear(9, 0, millis_now() + 5_400_000);
    hear(9, 1, millis_now() + 5_400_000);
    let told = log.with("the clock of another replica");
    assert!(told.len() == 1 && told[0].contains("is 1h "), "{told:?}");
    tokio::time::advance(TELL_AHEAD_EVERY).await;
    hear(9, 2, millis_now() + 5_400_000);
    assert_eq!(log.with("the clock of another replica").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_replica_is_known_by_its_latest_heartbeat_and_not_by_an_old_one() {
    let (me, seven, eight) = (replica(1), replica(7), replica(8));
    let begun = Instant::now();
    let sent = [heartbeat(&seven), heartbeat(&eight), heartbeat(&seven)];
    for at in [0, 1, 2, 0, 1] {
        me.read(&sent[at]).expect("sealed");
        tokio::time::advance(MOMENT).await;
    }
    let expected = [(ReplicaId(7), begun + 2 * MOMENT), (ReplicaId(8), begun + MOMENT)];
    assert_eq!(me.last_received(), expected.into());
}

/// Somebody has kept them all, and sets them back one after the other.
#[tokio::test(start_paused = true)]
async fn heartbeats_of_a_replica_that_has_died_before_keep_it_alive_for_two_leases_and_no_longer() {
    let dead = replica(9);
    let old: Vec<_> = (0..100).map(|_| heartbeat(&dead)).collect();
    let (me, begun) = (replica(1), Instant::now());
    for old in &old {
        assert_eq!(me.read(old), Some(ReplicaId(9)));
        assert_eq!(me.is_alive(ReplicaId(9)), begun.elapsed() < 2 * LEASE);
        tokio::time::advance(MOMENT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_comes_later_lives_once_it_has_heard_of_the_others() {
    let me = replica(1);
    tokio::time::advance(3 * LEASE).await;
    let later = replica(2);
    me.read(&heartbeat(&later)).expect("sealed");
    assert!(me.is_heard(ReplicaId(2)) && !me.is_alive(ReplicaId(2)));
    later.read(&heartbeat(&me)).expect("sealed");
    assert!(later.is_alive(ReplicaId(1)), "it has just begun");
    for _ in 0..20 {
        me.read(&heartbeat(&later)).expect("sealed");
        later.read(&heartbeat(&me)).expect("sealed");
        assert!(me.is_alive(ReplicaId(2)) && later.is_alive(ReplicaId(1)));
        tokio::time::advance(MOMENT).await;
    }
    tokio::time::advance(2 * LEASE).await;
    assert!(!me.is_alive(ReplicaId(2)), "it is not heard any more");
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_while_its_replica_lives_and_goes_on_asking() {
    let (me, other) = (replica(1), replica(2));
    let turn = |request: u64| {
        other.asked(request);
        me.read(&heartbeat(&other)).expect("sealed");
        other.read(&heartbeat(&me)).expect("sealed");
    };
    for request in 1..100 {
        turn(request);
        assert!(me.may_hold(ReplicaId(2), request));
        assert!(me.may_hold(ReplicaId(1), 0), "its own");
        if request > 5 {
            assert!(!me.may_hold(ReplicaId(2), request - 5), "older than a lease: {request}");
        }
        tokio::time::advance(MOMENT).await;
    }
    tokio::time::advance(2 * LEASE).await;
    let missed = Instant::now();
    for number in 100..120 {
        let may = me.may_hold(ReplicaId(2), number);
        assert_eq!(may, missed.elapsed() < 2 * LEASE, "it is not heard any more");
        assert_eq!(me.may_hold(ReplicaId(3), number), may, "nor has this one been, ever");
        tokio::time::advance(MOMENT).await;
    }
    turn(120);
    turn(121);
    assert!(me.may_hold(ReplicaId(2), 121), "it is heard again");
}

/// Whoever has kept the requests for locks of a replica sets them back.
#[tokio::test(start_paused = true)]
async fn what_a_replica_has_begun_goes_on_for_its_time_by_its_own_clock() {
    let (me, other) = (replica(1), replica(2));
    let minute = Duration::from_secs(60);
    let now = millis_now();
    assert_eq!(me.may_go_on(ReplicaId(2), now, minute), None, "nobody is heard");
    me.read(&heartbeat(&other)).expect("sealed");
    for (seconds, may) in [(0, true), (50, true), (70, false), (3600, false)] {
        assert_eq!(me.may_go_on(ReplicaId(2), now - seconds * 1000, minute), Some(may));
    }
    tokio::time::advance(minute / 2).await;
    assert_eq!(me.may_go_on(ReplicaId(2), now - 20_000, minute), Some(true));
    assert_eq!(me.may_go_on(ReplicaId(2), now - 40_000, minute), Some(false));
    assert_eq!(me.may_go_on(ReplicaId(2), now + 30_000, minute), Some(true));

    me.read(&heartbeat(&me)).expect("sealed");
    assert_eq!(me.may_go_on(ReplicaId(3), now, minute), None, "it may have just begun");
    tokio::time::advance(2 * LEASE).await;
    assert_eq!(me.may_go_on(ReplicaId(3), now, minute), None, "this one hears nothing");
    me.read(&heartbeat(&me)).expect("sealed");
    assert_eq!(me.may_go_on(ReplicaId(3), now, minute), Some(false));
}

/// A replica that is suspended wakes up before it hears that the others know it, each time.
#[tokio::test(start_paused = true)]
async fn a_lease_of_another_counts_after_each_pause_until_it_could_be_heard_again() {
    let (me, other) = (replica(1), replica(2));
    for pause in 0..3 {
        for _ in 0..20 {
            me.read(&heartbeat(&other)).expect("sealed");
            other.read(&heartbeat(&me)).expect("sealed");
            me.read(&heartbeat(&me)).expect("sealed");
            tokio::time::advance(MOMENT).await;
        }
        tokio::time::advance(3 * LEASE).await;
        me.read(&heartbeat(&me)).expect("sealed");
        for _ in 0..5 {
            assert!(me.may_hold(ReplicaId(2), 1), "{pause}");
            tokio::time::advance(MOMENT).await;
        }
    }
}

/// Somebody has kept the leases of all replicas that there have ever been, and sets them one after the other.
#[tokio::test(start_paused = true)]
async fn leases_of_many_replicas_that_have_gone_hold_nobody_up_for_long() {
    let me = replica(1);
    for _ in 0..20 {
        me.read(&heartbeat(&me)).expect("sealed");
        tokio::time::advance(MOMENT).await;
    }
    let (mut gone, mut longest, mut all) = (100, 0, 0);
    let mut in_a_row = 0;
    for _ in 0..1000 {
        let mut may = me.may_hold(ReplicaId(gone), 1);
        if !may {
            gone += 1;
            may = me.may_hold(ReplicaId(gone), 1);
        }
        in_a_row = if may { in_a_row + 1 } else { 0 };
        longest = longest.max(in_a_row);
        all += u32::from(may);
        me.read(&heartbeat(&me)).expect("sealed");
        tokio::time::advance(MOMENT).await;
    }
    assert!(longest * MOMENT <= LEASE + MOMENT, "{longest} in a row");
    assert!(all <= 150, "{all} of 1000");
}

/// Somebody sets back the heartbeats of many that have died, again and again.
#[tokio::test(start_paused = true)]
async fn those_who_live_are_named_however_many_others_are_heard() {
    let (me, other) = (replica(1), replica(2));
    let gone: Vec<_> = (100..300).map(replica).collect();
    tokio::time::advance(3 * LEASE).await;
    for round in 0..10 {
        me.read(&heartbeat(&other)).expect("sealed");
        tokio::time::advance(MOMENT / 2).await;
        for gone in &gone {
            me.read(&heartbeat(gone)).expect("sealed");
        }
        other.read(&heartbeat(&me)).expect("sealed");
        // The first one that it has heard names nobody yet.
        assert!(round == 0 || other.is_alive(ReplicaId(1)), "{round}");
        tokio::time::advance(MOMENT).await;
    }
    tokio::time::advance(LEASE).await;
    assert!(other.is_alive(ReplicaId(1)), "its latest heartbeat names the other");
}
