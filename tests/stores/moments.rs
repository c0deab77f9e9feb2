//! Times of sign-ins, which all replicas take from one common supply.

use std::time::Duration;

use ccgateway_bridge::{session::SharedStores as _, tenant::SharedSignIns as _};
use ccgateway_test_support::RedisServer;
use tokio::time::Instant;

use crate::{
    attacker::{Attacker, key},
    support::{Replica, tenant},
};

const INTERVAL: Duration = Duration::from_millis(2);
/// How far ahead a replica may take them.
const AHEAD: Duration = Duration::from_millis(500);

/// How many there may have been since then, with those taken ahead.
fn supply(since: Instant) -> u128 {
    (since.elapsed() + AHEAD).as_micros() / INTERVAL.as_micros() + 1
}

#[tokio::test]
async fn replicas_make_no_more_sign_ins_than_the_rate_allows() {
    let server = RedisServer::start().await;
    let replicas = [Replica::of(&server), Replica::of(&server), Replica::of(&server)];
    let leases = replicas.each_ref().map(|replica| replica.shared.leases(&tenant()));
    let (begun, mut taken) = (Instant::now(), 0);
    for turn in 0..600 {
        let moments = leases[turn % 3].sign_in_moments(10, INTERVAL).await.expect("answered");
        assert!(moments.count <= 10);
        assert!(moments.wait <= AHEAD, "a moment in {:?}", moments.wait);
        taken += u128::from(moments.count);
        assert!(taken <= supply(begun), "{taken} moments after {:?}", begun.elapsed());
    }
    assert!(taken >= 250, "half a second of the supply at least: {taken}");
}

#[tokio::test]
async fn unused_sign_in_slots_are_not_saved_up() {
    let server = RedisServer::start().await;
    let replica = Replica::of(&server);
    let leases = replica.shared.leases(&tenant());
    let first = leases.sign_in_moments(1, INTERVAL).await.expect("answered");
    assert_eq!((first.count, first.wait), (1, Duration::ZERO));
    // Many intervals pass.
    tokio::time::sleep(INTERVAL * 50).await;
    let begun = Instant::now();
    let mut taken = 0;
    while taken < 400 {
        let moments = leases.sign_in_moments(400, INTERVAL).await.expect("answered");
        taken += u128::from(moments.count);
        assert!(taken <= supply(begun), "{taken} moments after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_time_that_no_replica_has_stored_holds_no_sign_in_up() {
    let server = RedisServer::start().await;
    let mut attacker = Attacker::of(&server).await;
    let replica = Replica::of(&server);
    let leases = replica.shared.leases(&tenant());
    let forged =
        ["nan", "-nan", "inf", "-inf", "1e300", "-1e300", "-9", "0x7fffffffffffffff", "", "x"];
    let far = ["9007199254740991", "18446744073709551615", &"9".repeat(400)];
    for forged in forged.into_iter().chain(far) {
        let _: () = attacker.ask(&["SET", &key("sign-in-moments"), forged]).await;
        let moments = leases.sign_in_moments(10, INTERVAL).await.expect("answered");
        assert_eq!((moments.count, moments.wait), (10, Duration::ZERO), "{forged}");
    }
    let counts = replica.shared.view().disbelieved;
    let of_moments = counts.iter().find(|(doubt, _)| doubt.as_str() == "sign_in_moments");
    assert_eq!(of_moments.map(|(_, count)| *count), Some(13));
}
