//! The store that replicas share fails while the gateway has a request.

use std::{pin::pin, time::Duration};

use ccgateway_test_support::{RedisServer, in_redis, lossy::Loss};
use tokio::time::{sleep, timeout};

use super::{
    points::{CALLS, Point},
    world::{Setting, World},
};

/// What comes before the request that the store fails behind.
const BEFORE: [Point; 3] = [Point::Nowhere, Point::Refused("000-003"), Point::Refused("000-007")];

#[tokio::test]
async fn the_outcome_of_a_call_is_true_when_the_store_fails_after_any_of_its_requests() {
    let cases = CALLS.iter().flat_map(|call| BEFORE.iter().map(move |before| (*call, *before)));
    let cases: Vec<_> = (1001..).zip(cases).collect();
    let server = RedisServer::start().await;
    let store = in_redis(&server.url()) + "timeouts.command = \"100ms\"\n";
    let world = World::with(Setting::default(), store, cases.iter().map(|(agent, _)| *agent)).await;
    let mut failed = 0;
    for (agent, (call, before)) in cases {
        let name = format!("{call:?} of {agent} with {before:?} before it");
        let points = if before == Point::Nowhere {
            [Point::Lost(Loss::Paused), Point::Nowhere]
        } else {
            [before, Point::Lost(Loss::Paused)]
        };
        let mut told = pin!(world.told(call, agent, points, None));
        let told = tokio::select! {
            // Refused before it got so far.
            told = &mut told => told,
            () = world.proxy.paused() => {
                server.freeze();
                world.proxy.go_on();
                let told = told.await;
                server.thaw();
                failed += 1;
                until_up(&world).await;
                told
            }
        };
        world.proxy.behave();
        world.bridge.gateway.behave();
        told.check(&name, world.applied(call, agent));
    }
    assert!(failed >= 8, "the store failed for {failed} calls");
}

/// Waits until the bridge has its store back.
async fn until_up(world: &World) {
    let looking = async {
        while !world.bridge.ask("GET /readyz?verbose").await.1.contains("store: up") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), looking).await.expect("the store is back");
}
