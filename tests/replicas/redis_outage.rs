//! An outage of Redis: calls for known agents go on, and no agent is lost.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::set_busy;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    proxy::Wire,
    support::{Centre, SCALE},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_outage_of_a_minute_that_loses_all_data_costs_no_call_and_no_agent() {
    let agents = 1001..1061;
    // A replica that does not poll an agent receives no new Guid meanwhile. The old one has to stay good for
    // longer than the outage, however busy the machine is.
    let mut centre =
        Centre::open_with(|gateway| gateway.guid_timeout = Duration::from_secs(600)).await;
    let replicas = [centre.replica(None).await, centre.replica(None).await];
    for agent in agents.clone() {
        replicas[agent as usize % 2].set_busy(agent).await.expect("signed in");
    }
    centre.all_are_shared_out(agents.clone()).await;
    centre.redis.kill().await;
    let end = Instant::now() + Duration::from_secs(60) / SCALE;
    let mut calls = interval(Duration::from_millis(10));
    let mut called = agents.clone().cycle();
    while Instant::now() < end {
        calls.tick().await;
        let agent = called.next().expect("without end");
        replicas[agent as usize / 2 % 2].set_busy(agent).await.expect("warm agents go on");
    }
    centre.redis.restart().await;
    centre.all_are_polled(agents.clone()).await;
    for agent in agents.clone() {
        replicas[agent as usize % 2].set_busy(agent).await.expect("as before");
    }
    assert!(centre.has(agents), "an agent was signed out");
    assert_eq!(centre.asked(Interface::SignIn), 0);
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_calls_of_a_replica_for_a_cold_agent_share_a_sign_in() {
    let mut centre = Centre::open().await;
    let replicas = [centre.replica(None).await, centre.replica(None).await];
    centre.redis.kill().await;
    let slow = Fault::DelayBefore(Duration::from_millis(500));
    centre.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SignIn));
    let calls: JoinSet<_> = (0..200)
        .map(|call| replicas[call % 2].states.clone())
        .map(|states| async move { set_busy(&states, 1001).await })
        .collect();
    let served = calls.join_all().await.into_iter().flatten().count();
    // The gateway lets one of the two in, and the other one cannot know of it.
    assert!(served >= 100, "{served}");
    // One that is refused at once answers those who were waiting for it; who comes later tries anew.
    let asked = centre.asked(Interface::SignIn);
    assert!(asked <= 10, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_of_a_replica_that_is_cut_off_are_polled_by_others_and_never_by_two() {
    let agents = 1001..1091;
    let mut centre =
        Centre::open_with(|gateway| gateway.guid_timeout = Duration::from_secs(300)).await;
    centre.store = "when_away = \"stop\"";
    let wire = Wire::to(centre.redis.port()).await;
    let replicas = [
        centre.replica_with(None, &wire.url()).await,
        centre.replica(None).await,
        centre.replica(None).await,
    ];
    for agent in agents.clone() {
        replicas[agent as usize % 3].set_busy(agent).await.expect("signed in");
    }
    centre.all_are_shared_out(agents.clone()).await;
    wire.cut();
    // The replica that is cut off knows the Guids of before, which live for long after the last poll, however
    // busy the machine is.
    let end = Instant::now() + Duration::from_secs(60) / SCALE;
    let mut calls = interval(Duration::from_millis(10));
    let mut called = agents.clone().cycle();
    while Instant::now() < end {
        calls.tick().await;
        let agent = called.next().expect("without end");
        replicas[agent as usize / 3 % 3].set_busy(agent).await.expect("no call fails");
    }
    centre.all_are_polled(agents.clone()).await;
    wire.mend();
    // Until none of the Guids of before is good.
    let end = Instant::now() + Duration::from_secs(300) / SCALE;
    while Instant::now() < end {
        calls.tick().await;
        let agent = called.next().expect("without end");
        replicas[1 + agent as usize % 2].set_busy(agent).await.expect("no call fails");
    }
    for agent in agents.clone() {
        replicas[0].set_busy(agent).await.expect("it has heard of the Guids of now");
    }
    assert!(centre.has(agents), "an agent was signed out");
    assert_eq!(centre.asked(Interface::SignIn), 0);
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
}
