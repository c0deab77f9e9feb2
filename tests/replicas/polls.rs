//! Every agent is polled by exactly one replica, while replicas start and stop.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::{client::Channel, rpc::proto::agent_state_client::AgentStateClient};
use ccgateway_sim::{Interface, Options};
use ccgateway_test_support::{Clients, set_busy};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};
use tonic::Status;

use crate::support::{Centre, Replica, SCALE, eventually, set_busy_somewhere};

/// Signs agents in, each at another replica than the one before.
async fn sign_in(replicas: &[Replica], agents: Range<u32>) {
    let mut calls = JoinSet::new();
    for (place, replica) in replicas.iter().enumerate() {
        let sessions = replica.states.clone();
        let own: Vec<u32> = agents.clone().skip(place).step_by(replicas.len()).collect();
        calls.spawn(async move {
            for agent in own {
                set_busy(&sessions, agent).await.expect("signed in");
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
    let own = |replica: &Replica| Clients::of(replica.grpc).states;
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

/// A poll that is cut may have had an event for its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_cuts_no_poll_if_its_time_is_longer_than_a_poll() {
    let agents = 1001..1101;
    // A poll is held for three seconds of ours: longer than half of the four that calls have at a stop, as ten are of
    // eighteen by default.
    let held = |options: &mut Options| options.poll_wait = Duration::from_secs(30);
    let mut centre = Centre::open_with(held).await;
    centre.drain = "6s";
    let mut replicas = vec![centre.replica(None).await, centre.replica(None).await];
    sign_in(&replicas, agents.clone()).await;
    centre.all_are_polled(agents.clone()).await;
    // Their events answer the polls, so that new ones begin.
    for agent in agents.clone() {
        replicas[1].set_busy(agent).await.expect("served");
    }
    replicas.remove(0).stop().await;
    let before = centre.gateway.journal().len();
    let polled = || {
        let since = centre.gateway.journal().into_iter().skip(before);
        let polls = since.filter(|entry| entry.interface == Some(Interface::Poll));
        polls.filter_map(|poll| poll.agent).collect::<HashSet<_>>()
    };
    eventually("another poll for every agent", || polled().is_superset(&agents.clone().collect()))
        .await;
    let mut cut = Vec::new();
    let mut open = HashMap::new();
    for entry in centre.gateway.journal() {
        let Some(agent) = entry.agent.filter(|_| entry.interface == Some(Interface::Poll)) else {
            continue;
        };
        let is_answered = entry.answer.is_some_and(|answer| answer.status.is_some());
        // The last one of each agent may be open still.
        if open.insert(agent, !is_answered) == Some(true) {
            cut.push(agent);
        }
    }
    assert_eq!(cut, Vec::<u32>::new());
}
