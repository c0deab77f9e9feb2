//! A gateway that has more to do than it bears, and a caller who has more calls than all others.

use std::{net::Ipv4Addr, time::Duration};

use ccgateway_bridge::{
    client::{self, Channel},
    rpc::proto::{SetBusyRequest, SetBusyResponse, agent_state_client::AgentStateClient},
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{AGENT, Setup, TestBridge, origin, refused, until, until_asked};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status};

fn busy(agent: u32) -> SetBusyRequest {
    let (agent_id, reason) = (agent.to_string(), Some(200));
    SetBusyRequest { agent_id, reason, prolong: Some(true), ..<_>::default() }
}

async fn start(setup: Setup, agents: u32) -> TestBridge {
    let bridge = TestBridge::with(setup).await;
    for agent in AGENT..AGENT + agents {
        let guid = bridge.gateway.sign_in(agent);
        bridge.register(agent, &guid).await.expect("registered");
    }
    bridge
}

/// A caller that connects from another address than the rest.
pub(crate) fn stranger(bridge: &TestBridge) -> AgentStateClient<Channel> {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(Ipv4Addr::new(127, 0, 0, 2).into()));
    let channel = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    client::agent_state(channel, origin(bridge.bridge.grpc_addr()))
}

/// Calls for so many agents, from this one on, all at once.
fn stampede(
    states: &AgentStateClient<Channel>,
    agents: std::ops::Range<u32>,
) -> JoinSet<Result<SetBusyResponse, Status>> {
    let mut calls = JoinSet::new();
    for agent in agents {
        let mut states = states.clone();
        calls.spawn(
            async move { states.set_busy(busy(agent)).await.map(tonic::Response::into_inner) },
        );
    }
    calls
}

async fn calls_open(bridge: &TestBridge) -> f64 {
    bridge.scrape().await["ccgw_tenant_places_in_use{tenant=\"acme\",share=\"calls\"}"]
}

#[tokio::test]
async fn a_caller_with_many_calls_keeps_no_other_from_its_turn() {
    for limit in ["limits.requests = 1\n", "limits.requests = 40\n[gateway]\nhost_requests = 1\n"] {
        let tenant = format!("limits.queue_wait = \"60s\"\n{limit}");
        let bridge = start(Setup { tenant, ..<_>::default() }, 31).await;
        bridge.gateway.freeze();
        let many = stampede(&bridge.states, AGENT..AGENT + 30);
        until_asked("thirty calls", async || calls_open(&bridge).await > 29.5).await;
        let one = stampede(&stranger(&bridge), AGENT + 30..AGENT + 31);
        until_asked("one more", async || calls_open(&bridge).await > 30.5).await;
        bridge.gateway.thaw();
        for answer in many.join_all().await.into_iter().chain(one.join_all().await) {
            answer.expect("answered");
        }
        let asked = bridge.asked(Interface::SayBusy);
        let place = asked.iter().position(|entry| entry.agent == Some(AGENT + 30));
        assert!(place.is_some_and(|place| place <= 3), "{limit}: {place:?} of {}", asked.len());
    }
}

#[tokio::test]
async fn a_caller_with_many_calls_leaves_some_places_to_others() {
    let tenant = "limits.calls = 32\nlimits.requests = 32\n".into();
    let bridge = start(Setup { tenant, ..<_>::default() }, 33).await;
    bridge.gateway.freeze();
    let mut many = stampede(&bridge.states, AGENT..AGENT + 31);
    let beyond = many.join_next().await.expect("a call").expect("no panic");
    let refusal = refused(beyond, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    assert!(refusal.message.contains("30 calls at once of one caller"), "{}", refusal.message);
    let others = stampede(&stranger(&bridge), AGENT + 31..AGENT + 33);
    until("all requests", || bridge.asked(Interface::SayBusy).len() == 32).await;
    bridge.gateway.thaw();
    for answer in many.join_all().await.into_iter().chain(others.join_all().await) {
        answer.expect("answered");
    }
}

const CEILING: f64 = 32.0;
const CALLERS: u32 = 48;

/// A gateway that does the less the more it has to do, and the setting of its limit.
async fn strained(setting: &str) -> TestBridge {
    let tenant = format!(
        "limits.requests = 32\nlimits.queue_wait = \"60s\"\n[gateway]\nhost_requests = 32\n{setting}"
    );
    let bridge = start(Setup { tenant, ..<_>::default() }, CALLERS).await;
    // Long enough for the machine of the test to count for little.
    let load = Fault::Load { time: Duration::from_millis(20), bears: 4, strain: 1 };
    bridge.gateway.misbehave(Misbehaviour::always(load).on(Interface::SayBusy));
    bridge
}

/// The figure of this name for the gateway's host.
async fn of_host(bridge: &TestBridge, name: &str) -> Option<f64> {
    let series = bridge.scrape().await;
    let found = series.iter().find(|(series, _)| series.starts_with(&format!("{name}{{")));
    found.map(|(_, value)| *value)
}

/// Callers who call again and again until `done` is told, and how many of their calls were answered.
fn call_on(bridge: &TestBridge, done: &watch::Sender<bool>) -> JoinSet<usize> {
    let mut callers = JoinSet::new();
    for agent in AGENT..AGENT + CALLERS {
        let (mut states, done) = (bridge.states.clone(), done.subscribe());
        callers.spawn(async move {
            let mut answered = 0;
            while !*done.borrow() {
                states.set_busy(busy(agent)).await.expect("answered");
                answered += 1;
            }
            answered
        });
    }
    callers
}

#[tokio::test]
async fn a_gateway_that_has_too_much_to_do_gets_fewer_requests_at_once() {
    let bridge = strained("").await;
    assert_eq!(of_host(&bridge, "ccgw_host_places_limit").await, Some(CEILING));
    let done = watch::Sender::new(false);
    let callers = call_on(&bridge, &done);
    until_asked("a lower limit", async || {
        let limit = of_host(&bridge, "ccgw_host_places_limit").await;
        limit.is_some_and(|limit| limit <= CEILING / 2.0)
    })
    .await;
    assert_eq!(of_host(&bridge, "ccgw_host_places_ceiling").await, Some(CEILING));
    let page = bridge.ask("GET /").await.1;
    assert!(page.contains(" now, at most 32"), "{page}");
    done.send_replace(true);
    callers.join_all().await;
}

#[tokio::test]
async fn without_an_adaptive_limit_a_gateway_gets_as_many_requests_as_it_may() {
    let bridge = strained("adaptive_limit = false\n").await;
    let done = watch::Sender::new(false);
    let callers = call_on(&bridge, &done);
    until("many answers", || bridge.asked(Interface::SayBusy).len() > 300).await;
    assert_eq!(of_host(&bridge, "ccgw_host_places_limit").await, Some(CEILING));
    let waiting = of_host(&bridge, "ccgw_host_requests_waiting").await;
    assert!(waiting.is_some_and(|waiting| waiting <= f64::from(CALLERS)));
    done.send_replace(true);
    callers.join_all().await;
}
