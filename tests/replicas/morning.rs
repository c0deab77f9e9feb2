//! The first calls of a morning, at three replicas.

use std::{sync::Arc, time::Duration};

use ccgateway_bridge::{
    client::Channel,
    rpc::proto::{SetBusyRequest, agent_state_client::AgentStateClient},
};
use ccgateway_sim::Interface;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, Status};

use crate::support::Centre;

/// At the default rate they take six seconds.
const AGENTS: std::ops::Range<u32> = 1001..1301;
const PER_SECOND: u32 = 50;

async fn call(states: &AgentStateClient<Channel>, agent: u32) -> Result<(), Status> {
    let (agent_id, reason, prolong) = (agent.to_string(), Some(200), Some(true));
    let message = SetBusyRequest { agent_id, reason, prolong, ..<_>::default() };
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(300));
    states.clone().set_busy(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_together_keep_to_the_rate_and_every_agent_gets_in() {
    let centre = Centre::open().await;
    let replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    let states = Arc::new(replicas.each_ref().map(|replica| replica.states.clone()));
    let started = Instant::now();
    let callers: JoinSet<_> = AGENTS
        .map(|agent| {
            let states = states.clone();
            async move {
                let mut attempt = agent as usize;
                while call(&states[attempt % 3], agent).await.is_err() {
                    attempt += 1;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        })
        .collect();
    let all = timeout(Duration::from_secs(120), callers.join_all()).await;
    all.expect("every agent is signed in");
    let took = started.elapsed();
    println!("{} agents at {PER_SECOND} a second by three replicas: {took:?}", AGENTS.len());
    let agents = u32::try_from(AGENTS.len()).expect("few");
    let fastest = Duration::from_secs(1) / PER_SECOND * (agents - 1);
    assert!(took >= fastest.mul_f64(0.95), "faster than the rate: {took:?}");
    assert_eq!(centre.asked(Interface::SignIn), AGENTS.len(), "each agent once");
}
