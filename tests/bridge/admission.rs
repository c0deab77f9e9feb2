//! Limits: calls beyond them are refused at once or after a short wait, and others are not affected.

use std::{num::NonZeroUsize, time::Duration};

use ccgateway_bridge::config::Config;
use ccgateway_sim::{Interface, Options};
use ccgateway_test_support::{AGENT, Setup, TestBridge, gateway, refused, until};
use tokio::time::Instant;
use tonic::Code;

/// Calls for agents 1001, 1002, … that the gateway leaves without an answer.
async fn stuck(bridge: &TestBridge, calls: u32) -> Vec<tokio::task::JoinHandle<()>> {
    let mut stuck = Vec::new();
    for agent in AGENT..AGENT + calls {
        let mut states = bridge.states.clone();
        let request = ccgateway_bridge::rpc::proto::SetBusyRequest {
            agent_id: agent.to_string(),
            ..<_>::default()
        };
        stuck.push(tokio::spawn(async move {
            let _given_up = states.set_busy(request).await;
        }));
    }
    let arrived = usize::try_from(calls).expect("few");
    until("all requests", || bridge.asked(Interface::SayBusy).len() >= arrived).await;
    stuck
}

async fn frozen(tenant: &str) -> TestBridge {
    frozen_with(Setup { tenant: tenant.into(), ..<_>::default() }).await
}

async fn frozen_with(setup: Setup) -> TestBridge {
    let bridge = TestBridge::with(setup).await;
    for agent in AGENT..AGENT + 4 {
        let guid = bridge.gateway.sign_in(agent);
        bridge.register(agent, &guid).await.expect("registered");
    }
    bridge.gateway.freeze();
    bridge
}

#[tokio::test]
async fn requests_beyond_the_tenants_places_wait_shortly_and_are_refused() {
    let bridge = frozen("limits.requests = 2\nlimits.queue_wait = \"50ms\"\n").await;
    let stuck = stuck(&bridge, 2).await;
    let started = Instant::now();
    let result = bridge.set_busy(AGENT + 2).await;
    let refusal = refused(result, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(refusal.pushback.as_deref(), Some("500"));
    assert_eq!(bridge.gateway.connections(), 2);

    bridge.gateway.thaw();
    for call in stuck {
        call.await.expect("answered");
    }
    bridge.set_busy(AGENT + 2).await.expect("there is a place now");
}

#[tokio::test]
async fn calls_beyond_the_tenants_share_are_refused_at_once() {
    let bridge = frozen("limits.calls = 2\nlimits.requests = 2\n").await;
    let _stuck = stuck(&bridge, 2).await;
    let result = bridge.set_busy(AGENT + 2).await;
    let refusal = refused(result, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    assert!(refusal.message.contains("2 calls at once"), "{}", refusal.message);
}

#[tokio::test]
async fn calls_beyond_an_agents_queue_are_refused_and_other_agents_are_served() {
    let adjust = |config: &mut Config| {
        for tenant in config.tenants.values_mut() {
            tenant.limits.agent_queue = NonZeroUsize::MIN;
        }
    };
    let bridge = frozen_with(Setup { adjust: Some(adjust), ..<_>::default() }).await;
    let _stuck = stuck(&bridge, 1).await;
    let waiting = tokio::spawn({
        let mut states = bridge.states.clone();
        let agent_id = AGENT.to_string();
        async move {
            let request =
                ccgateway_bridge::rpc::proto::SetBusyRequest { agent_id, ..<_>::default() };
            states.set_busy(request).await.map(|_| ())
        }
    });
    // Whichever of the two comes second is refused.
    let third = bridge.set_busy(AGENT);
    let refused_one = tokio::select! {
        result = waiting => result.expect("no panic"),
        result = third => result.map(|_| ()),
    };
    let refusal = refused(refused_one, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    let violations = &refusal.details.quota_failure().expect("QuotaFailure").violations;
    assert_eq!(violations[0].subject, "tenants/acme/agents/1001");

    bridge.gateway.thaw();
    bridge.set_busy(AGENT + 1).await.expect("another agent's queue is empty");
}

#[tokio::test]
async fn a_tenant_whose_gateway_hangs_takes_nothing_from_another() {
    let healthy = gateway(Options::default()).await;
    let tenant = format!(
        "limits.requests = 2\n[tenants.other]\nbase_urls = \"{}\"\n[tenants.other.tls]\n\
         insecure_skip_verify = true\n",
        healthy.base_url(),
    );
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let mut states = bridge.states.clone();
    let request = |tenant: &str, agent: u32| ccgateway_bridge::rpc::proto::SetBusyRequest {
        agent_id: agent.to_string(),
        tenant_id: tenant.into(),
        ..<_>::default()
    };
    let guid = healthy.sign_in(AGENT);
    let registration = ccgateway_bridge::rpc::proto::RegisterSessionRequest {
        agent_id: AGENT.to_string(),
        tenant_id: "other".into(),
        guid,
        ttl: None,
    };
    bridge.sessions.clone().register_session(registration).await.expect("registered");
    for agent in AGENT..AGENT + 3 {
        let registration = ccgateway_bridge::rpc::proto::RegisterSessionRequest {
            agent_id: agent.to_string(),
            tenant_id: "acme".into(),
            guid: bridge.gateway.sign_in(agent),
            ttl: None,
        };
        bridge.sessions.clone().register_session(registration).await.expect("registered");
    }
    bridge.gateway.freeze();
    let stuck: Vec<_> = (AGENT..AGENT + 2)
        .map(|agent| {
            let mut states = bridge.states.clone();
            let request = request("acme", agent);
            tokio::spawn(async move { states.set_busy(request).await })
        })
        .collect();
    until("all requests", || bridge.asked(Interface::SayBusy).len() >= stuck.len()).await;
    let result = states.set_busy(request("acme", AGENT + 2)).await;
    refused(result, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    for _ in 0..20 {
        let busy = ccgateway_bridge::rpc::proto::SetBusyRequest {
            reason: Some(200),
            prolong: Some(true),
            ..request("other", AGENT)
        };
        states.set_busy(busy).await.expect("the other tenant is served");
    }
}
