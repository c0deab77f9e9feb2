//! Tenants whose gateways hang leave the others their even part of the server's places.

use std::fmt::Write as _;

use ccgateway_bridge::rpc::proto::{RegisterSessionRequest, SetBusyRequest, SetBusyResponse};
use ccgateway_sim::{Interface, Options, Simulator};
use ccgateway_test_support::{AGENT, ClosedPort, Setup, TestBridge, gateway, refused, until};
use tokio::task::JoinSet;
use tonic::{Code, Status};

const DEAD: [&str; 5] = ["acme", "dead1", "dead2", "dead3", "dead4"];
/// Of sixty places for six tenants.
const EVEN: u32 = 10;

fn busy(tenant: &str, agent: u32) -> SetBusyRequest {
    SetBusyRequest {
        tenant_id: tenant.into(),
        agent_id: agent.to_string(),
        reason: Some(200),
        prolong: Some(true),
        ..<_>::default()
    }
}

async fn register(bridge: &TestBridge, gateway: &Simulator, tenant: &str, agent: u32) {
    let registration = RegisterSessionRequest {
        agent_id: agent.to_string(),
        tenant_id: tenant.into(),
        guid: gateway.sign_in(agent),
        ttl: None,
    };
    bridge.sessions.clone().register_session(registration).await.expect("registered");
}

/// A tenant of this name in front of a gateway of any certificate.
fn tenant(name: &str, gateway: &Simulator) -> String {
    let url = gateway.base_url();
    format!(
        "[tenants.{name}]\nbase_urls = \"{url}\"\nkeep.enabled = false\n\
         [tenants.{name}.tls]\ninsecure_skip_verify = true\n"
    )
}

/// Agents' calls all at once.
fn call(
    bridge: &TestBridge,
    tenant: &'static str,
    agents: impl IntoIterator<Item = u32>,
) -> JoinSet<Result<SetBusyResponse, Status>> {
    let mut calls = JoinSet::new();
    for agent in agents {
        let mut states = bridge.states.clone();
        calls.spawn(async move {
            states.set_busy(busy(tenant, agent)).await.map(tonic::Response::into_inner)
        });
    }
    calls
}

#[tokio::test]
async fn five_tenants_whose_gateways_hang_leave_a_sixth_its_even_part() {
    let (hanging, live) = (gateway(Options::default()).await, gateway(Options::default()).await);
    let mut more = String::new();
    for name in DEAD.iter().skip(1) {
        more.push_str(&tenant(name, &hanging));
    }
    more.push_str(&tenant("live", &live));
    let server = "limits.calls = 60\n".into();
    let bridge = TestBridge::with(Setup { tenant: more, server, ..<_>::default() }).await;
    for name in DEAD {
        let gateway = if name == "acme" { &bridge.gateway } else { &hanging };
        register(&bridge, gateway, name, AGENT).await;
    }
    for agent in AGENT..AGENT + EVEN {
        register(&bridge, &live, "live", agent).await;
    }
    hanging.freeze();
    bridge.gateway.freeze();

    // One of each is at the gateway, the others wait for the agent's turn.
    let mut stuck: Vec<_> = DEAD.map(|name| call(&bridge, name, [AGENT; 40])).into();
    for calls in &mut stuck {
        for _ in 0..40 - EVEN {
            let beyond = calls.join_next().await.expect("a call").expect("no panic");
            let refusal = refused(beyond, Code::ResourceExhausted, "SERVER_OVERLOADED", "not_sent");
            assert!(refusal.message.contains("10 calls at once"), "{}", refusal.message);
        }
    }
    let taken = "ccgw_server_places_in_use{share=\"server_calls\"}";
    assert_eq!(bridge.scrape().await.get(taken), Some(&50.0));

    for _ in 0..20 {
        let calls = call(&bridge, "live", AGENT..AGENT + EVEN);
        for answer in calls.join_all().await {
            answer.expect("the sixth tenant is within its even part");
        }
    }
}

#[tokio::test]
async fn places_that_small_tenants_cannot_use_go_to_the_others() {
    let hanging = gateway(Options::default()).await;
    let more = format!("limits.calls = 2\nlimits.requests = 2\n{}", tenant("other", &hanging));
    let server = "limits.calls = 10\n".into();
    let bridge = TestBridge::with(Setup { tenant: more, server, ..<_>::default() }).await;
    register(&bridge, &hanging, "other", AGENT).await;
    hanging.freeze();
    let mut calls = call(&bridge, "other", [AGENT; 9]);
    let beyond = calls.join_next().await.expect("a call").expect("no panic");
    let refusal = refused(beyond, Code::ResourceExhausted, "SERVER_OVERLOADED", "not_sent");
    assert!(refusal.message.contains("8 calls at once"), "{}", refusal.message);
    until("the first request", || !hanging.journal().is_empty()).await;
    assert_eq!(calls.len(), 8);
}

#[tokio::test]
async fn a_request_takes_a_place_at_the_host_that_it_goes_to() {
    let away = ClosedPort::new();
    let first = away.addr;
    // Another tenant has only the address that the first one has to go to.
    let mut more = "limits.queue_wait = \"50ms\"\n".to_owned();
    let shared = gateway(Options::default()).await;
    let _written = write!(
        more,
        "[gateway]\nhost_requests = 2\n{}limits.queue_wait = \"50ms\"\n",
        tenant("other", &shared).replace("[tenants.other.tls]\n", "tls.")
    );
    let url = shared.base_url();
    let standby = format!(
        "{}base_urls = [\"https://{}\", \"{url}\"]\n[tenants.standby.tls]\n\
         insecure_skip_verify = true\n",
        "[tenants.standby]\nkeep.enabled = false\nlimits.queue_wait = \"50ms\"\n", first,
    );
    more.push_str(&standby);
    let bridge = TestBridge::with(Setup { tenant: more, ..<_>::default() }).await;
    for agent in AGENT..AGENT + 2 {
        register(&bridge, &shared, "standby", agent).await;
    }
    register(&bridge, &shared, "other", AGENT + 2).await;
    shared.freeze();
    shared.clear_journal();

    let stuck = call(&bridge, "standby", AGENT..AGENT + 2);
    until("both requests", || {
        let journal = shared.journal();
        journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count() == 2
    })
    .await;
    let beyond = bridge.call(busy("other", AGENT + 2)).await;
    let refusal = refused(beyond, Code::ResourceExhausted, "TENANT_OVERLOADED", "not_sent");
    assert!(refusal.message.contains("host's limit"), "{}", refusal.message);
    let series = bridge.scrape().await;
    let taken = |host: &str| series.get(&format!("ccgw_host_places_in_use{{host=\"{host}\"}}"));
    let host = url.trim_start_matches("https://").split('/').next().expect("a host").to_owned();
    assert_eq!(taken(&host), Some(&2.0));
    assert_eq!(taken(&first.to_string()), Some(&0.0));

    shared.thaw();
    for answer in stuck.join_all().await {
        answer.expect("answered");
    }
    bridge.call(busy("other", AGENT + 2)).await.expect("there is a place now");
}
