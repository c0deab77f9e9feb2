//! Callers that leave: requests that were sent are finished, and others are dropped.

use std::{collections::HashMap, time::Duration};

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Setup, TestBridge, until};

const CALLERS: u32 = 300;
const PLACES: u64 = 16;

#[tokio::test]
async fn callers_who_cancel_cost_no_connection_and_no_second_request() {
    let gateway = Options { latency: Duration::from_millis(5), ..<_>::default() };
    let tenant = "limits.requests = 16\nlimits.queue_wait = \"10s\"\n";
    let bridge = TestBridge::with(Setup { gateway, tenant: tenant.into(), ..<_>::default() }).await;
    let agents = AGENT..AGENT + CALLERS;
    for agent in agents.clone() {
        let guid = bridge.gateway.sign_in(agent);
        bridge.register(agent, &guid).await.expect("registered");
    }
    // Each caller leaves after a little more time than the one before it: in the queue, on the
    // way, or just before its answer. The last one stays.
    let calls = agents.clone().map(|agent| {
        let is_last = agent + 1 == AGENT + CALLERS;
        let patience = if is_last { 60_000 } else { u64::from(agent - AGENT) };
        let patience = Duration::from_millis(patience);
        let call = bridge.states.clone();
        async move {
            let mut call = call;
            let request = ccgateway_bridge::rpc::proto::SetBusyRequest {
                agent_id: agent.to_string(),
                ..<_>::default()
            };
            tokio::time::timeout(patience, call.set_busy(request)).await.is_ok()
        }
    });
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    for call in calls {
        let _answered = call.await.expect("no caller panics");
    }
    settled(&bridge).await;

    let asked = bridge.asked(Interface::SayBusy);
    let mut by_agent = HashMap::new();
    for entry in &asked {
        *by_agent.entry(entry.agent.expect("an agent")).or_insert(0) += 1;
        assert!(entry.answer.is_some(), "every request that was sent is answered");
    }
    assert!(by_agent.values().all(|&count| count == 1), "{by_agent:?}");
    assert!(!asked.is_empty());
    let connections = bridge.gateway.connections();
    assert!(connections <= PLACES, "{connections} connections for {PLACES} places");
}

/// Waits until the bridge has nothing under way: every place is free for new calls at once.
async fn settled(bridge: &TestBridge) {
    let unanswered = || bridge.gateway.journal().iter().any(|entry| entry.answer.is_none());
    until("every answer", || !unanswered()).await;
}

#[tokio::test]
async fn a_request_under_way_is_finished_without_its_caller() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.freeze();
    let call = tokio::spawn({
        let mut states = bridge.states.clone();
        let agent_id = AGENT.to_string();
        async move {
            let request =
                ccgateway_bridge::rpc::proto::SetBusyRequest { agent_id, ..<_>::default() };
            states.set_busy(request).await
        }
    });
    until("a request", || !bridge.gateway.journal().is_empty()).await;
    call.abort();
    assert!(call.await.expect_err("aborted").is_cancelled());
    // The Guid that this answer brings is known although nobody waits for the answer.
    bridge.gateway.set_guid_on_next_reply(AGENT);
    bridge.gateway.thaw();
    bridge.set_busy(AGENT).await.expect("accepted");

    let asked = bridge.asked(Interface::SayBusy);
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].header("guid"), asked[1].header("guid"));
    assert_eq!(asked[0].connection, asked[1].connection);
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_goes_with_its_caller() {
    let bridge = TestBridge::signed_in().await;
    let slow = Fault::Delay(Duration::from_millis(300));
    bridge.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SayBusy));
    let first = bridge.set_busy(AGENT);
    let second = tokio::time::timeout(Duration::from_millis(100), bridge.set_busy(AGENT));
    let (first, second) = tokio::join!(first, second);
    first.expect("accepted");
    assert!(second.is_err(), "the caller left");
    bridge.set_busy(AGENT).await.expect("accepted");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 2);
}
