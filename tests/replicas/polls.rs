//! Every agent is polled by one replica, whichever come and go.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::{
    client::{self, Channel},
    rpc::proto::agent_state_client::AgentStateClient,
};
use ccgateway_sim::Interface;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};
use tonic::Status;

use crate::support::{Centre, Replica, SCALE, origin, set_busy_somewhere};

/// Signs agents in, each at another replica than the one before.
async fn sign_in(replicas: &[Replica], agents: Range<u32>) {
    let mut calls = JoinSet::new();
    for (place, replica) in replicas.iter().enumerate() {
        let sessions = replica.states.clone();
        let own: Vec<u32> = agents.clone().skip(place).step_by(replicas.len()).collect();
        calls.spawn(async move {
            for agent in own {
                crate::support::set_busy(&sessions, agent).await.expect("signed in");
            }
        });
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_of_a_replica_that_dies_are_polled_by_the_others_before_they_are_lost() {
    let agents = 1001..1501;
    let centre = Centre::open().await;
    let mut replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    sign_in(&replicas, agents.clone()).await;
    centre.all_are_polled(agents.clone()).await;

    replicas[0].kill().await;
    // Longer than the gateway waits for a poll.
    let end = Instant::now() + Duration::from_secs(150) / SCALE;
    let mut calls = interval(Duration::from_millis(20));
    let mut called = agents.clone().cycle();
    while Instant::now() < end {
        calls.tick().await;
        let agent = called.next().expect("without end");
        replicas[1 + agent as usize % 2].set_busy(agent).await.expect("no call fails");
    }
    assert!(centre.has(agents.clone()), "an agent was signed out");
    assert_eq!(centre.asked(Interface::SignIn), 0, "since all were polled");
    centre.all_are_polled(agents).await;
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
}

/// Two hundred calls a second; gives how each was answered.
async fn call_until(
    over: Arc<AtomicBool>,
    states: Vec<AgentStateClient<Channel>>,
    agents: Range<u32>,
) -> Vec<Result<(), Status>> {
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(5));
    let mut agents = agents.cycle();
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (agent, states) = (agents.next().expect("without end"), states.clone());
        calls.spawn(async move { set_busy_somewhere(&states, agent).await });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call_and_signs_nobody_out() {
    let agents = 1001..1101;
    let centre = Centre::open().await;
    let mut replicas =
        vec![centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    sign_in(&replicas, agents.clone()).await;
    let over = Arc::new(AtomicBool::new(false));
    let own = |replica: &Replica| client::agent_state(client::channel(), origin(replica.addr));
    let states: Vec<_> = replicas.iter().map(own).collect();
    let callers = tokio::spawn(call_until(over.clone(), states, agents.clone()));
    for place in 0..replicas.len() {
        let addr = replicas.remove(place).stop().await;
        replicas.insert(place, centre.replica(Some(addr)).await);
    }
    over.store(true, Ordering::Relaxed);
    let answers = callers.await.expect("called");
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), answers.len(), failed[0]);
    assert!(answers.len() > 100, "{} calls", answers.len());

    centre.all_are_polled(agents.clone()).await;
    assert!(centre.has(agents.clone()), "an agent was signed out");
    assert_eq!(centre.asked(Interface::SignIn), 0);
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
}
