//! Tenants whose gateways hang leave the others their even part of the server's places.

use std::{fmt::Write as _, time::Duration};

use ccgateway_bridge::{
    client::Channel,
    rpc::proto::{
        BatchSetBusyRequest, RegisterSessionRequest, SetBusyRequest, SetBusyResponse,
        SignInRequest, WatchEventsRequest, agent_state_client::AgentStateClient,
    },
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options, Simulator};
use ccgateway_test_support::{
    AGENT, ClosedPort, PASSWORD, Setup, TestBridge, gateway, refused, until, until_asked, within,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status};

const DEAD: [&str; 5] = ["acme", "dead1", "dead2", "dead3", "dead4"];
/// Of sixty places for six tenants, or twenty for two.
const EVEN: u32 = 10;
const LONG: Duration = Duration::from_secs(600);

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

/// How many places of a tenant's share are taken.
async fn taken(bridge: &TestBridge, share: &str) -> f64 {
    let series = format!("ccgw_tenant_places_in_use{{tenant=\"acme\",share=\"{share}\"}}");
    bridge.scrape().await[&series]
}

/// What each of a tenant's calls may wait for, for as long as its caller lets it.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Confirmation,
    ConfirmationsOfBatch,
    TurnOfAgent,
    Gateway,
}

impl Wait {
    /// A call that waits for this. Events of agents who talk come when their calls end.
    async fn begin(self, mut states: AgentStateClient<Channel>, agent: u32) -> Result<(), Status> {
        let confirm_within = Some(LONG.try_into().expect("a duration"));
        match self {
            Self::Confirmation => {
                let request = SetBusyRequest { confirm_within, ..busy("acme", agent) };
                states.set_busy(request).await.map(drop)
            }
            Self::ConfirmationsOfBatch => {
                let request = BatchSetBusyRequest {
                    tenant_id: "acme".into(),
                    agent_ids: vec![agent.to_string()],
                    reason: Some(200),
                    confirm_within,
                    ..<_>::default()
                };
                states.batch_set_busy(request).await.map(drop)
            }
            Self::TurnOfAgent => states.set_busy(busy("acme", AGENT)).await.map(drop),
            Self::Gateway => states.set_busy(busy("acme", agent)).await.map(drop),
        }
    }
}

#[tokio::test]
async fn whatever_a_tenants_calls_wait_for_they_take_its_places_and_nobody_elses() {
    let live = gateway(Options::default()).await;
    let (more, server) = (tenant("live", &live), "limits.calls = 20\n".into());
    let agents = || AGENT..AGENT + EVEN;
    let tenant = format!("keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n{more}");
    let setup = Setup { tenant, server, keep: true, ..<_>::default() };
    let bridge = Box::pin(TestBridge::with(setup)).await;
    for agent in agents() {
        register(&bridge, &live, "live", agent).await;
        let (tenant_id, agent_id) = ("acme".to_owned(), agent.to_string());
        let password = Some(PASSWORD.into());
        let sign_in = SignInRequest { tenant_id, agent_id, password, ..<_>::default() };
        bridge.sessions.clone().sign_in(sign_in).await.expect("signed in");
        until("the agent to be ready", || bridge.gateway.start_call(agent)).await;
    }
    let all = [Wait::Confirmation, Wait::ConfirmationsOfBatch, Wait::TurnOfAgent, Wait::Gateway];
    for wait in all {
        if matches!(wait, Wait::TurnOfAgent | Wait::Gateway) {
            bridge.gateway.freeze();
        }
        let mut waiting = JoinSet::new();
        for agent in agents() {
            waiting.spawn(wait.begin(bridge.states.clone(), agent));
        }
        within("all to wait", async {
            while taken(&bridge, "calls").await < f64::from(EVEN) {
                let _none_yet = waiting.try_join_next().map(|ended| panic!("{wait:?}: {ended:?}"));
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let beyond = bridge.call(busy("acme", AGENT)).await;
        let refusal = refused(beyond, Code::ResourceExhausted, "SERVER_OVERLOADED", "not_sent");
        assert!(refusal.message.contains("10 calls at once"), "{wait:?}: {}", refusal.message);
        for answer in call(&bridge, "live", agents()).join_all().await {
            answer.unwrap_or_else(|error| panic!("{wait:?}: {error}"));
        }
        bridge.gateway.thaw();
        waiting.shutdown().await;
        within("no call to be left", async {
            while taken(&bridge, "calls").await > 0.0 {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    let watch = WatchEventsRequest { tenant_id: "acme".into(), ..<_>::default() };
    let _watching = bridge.events.clone().watch_events(watch).await.expect("watching");
    assert!(taken(&bridge, "watches").await > 0.0);
}

/// Its other agents may have to wait for their turns as long as its caller lets them.
#[tokio::test]
async fn a_batch_has_a_place_of_its_own_from_the_first_confirmation_on_that_it_waits_for() {
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\nlimits.requests = 2\n";
    let setup = Setup { tenant: tenant.into(), keep: true, ..<_>::default() };
    let bridge = Box::pin(TestBridge::with(setup)).await;
    let [first, second, hanging] = [AGENT, AGENT + 1, AGENT + 2];
    for agent in [first, second, hanging] {
        bridge.sign_in(agent).await.expect("signed in");
        until("the agent to be ready", || bridge.gateway.start_call(agent)).await;
    }
    let hang = Misbehaviour::always(Fault::DelayBefore(LONG)).on(Interface::SayBusy).of(hanging);
    bridge.gateway.misbehave(hang);
    let batch = |agents: &[u32]| {
        let request = BatchSetBusyRequest {
            agent_ids: agents.iter().map(u32::to_string).collect(),
            reason: Some(200),
            confirm_within: Some(LONG.try_into().expect("a duration")),
            ..<_>::default()
        };
        let mut states = bridge.states.clone();
        tokio::spawn(async move { states.batch_set_busy(request).await.map(drop) })
    };
    // One request of a batch is open at a time: the other batch's comes before the second of this one.
    bridge.gateway.freeze();
    let _batch = batch(&[first, second]);
    let asked = |agent| {
        let asked = bridge.asked(Interface::SayBusy);
        asked.iter().any(|entry| entry.agent == Some(agent))
    };
    until("the first request", || asked(first)).await;
    let _other = batch(&[hanging]);
    let calls = "ccgw_server_places_in_use{share=\"server_calls\"}";
    until_asked("both batches", async || bridge.scrape().await[calls] > 1.5).await;
    bridge.gateway.thaw();
    until("the other batch's request", || asked(hanging)).await;
    until_asked("a place for each", async || taken(&bridge, "calls").await > 1.5).await;
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
