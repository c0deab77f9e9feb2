//! Which address of a gateway is asked, and what becomes of one that fails.

use std::time::Duration;

use ccgateway_bridge::{
    client::channel,
    rpc::proto::{
        SessionState, SetBusyRequest,
        health::{
            HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
        },
        watch_events_response::What,
    },
};
use ccgateway_sim::{AuthMode, Edition, Fault, Interface, Misbehaviour, Options, Simulator};
use ccgateway_test_support::{
    AGENT, ClosedPort, Refusal, Setup, TestBridge, asked, gateway,
    lossy::{Loss, LossyProxy, Own},
    origin, refused, until, until_asked, within,
};
use tokio::net::{TcpSocket, TcpStream};
use tonic::{Code, Request, Status};

/// As many as requests in a row have to fail.
const AGENTS: std::ops::Range<u32> = 1001..1006;
/// Every request.
const ANY: &str = "HTTP/1.1";
const BROKEN: Loss = Loss::Unforwarded(Own { status: 502, retry_after: None });
/// Probes come a hundred times as often as by default.
const QUICK: &str = "breaker.pause = \"10ms\"\nbreaker.pause_max = \"50ms\"\n";
/// Agents whom the bridge can sign in.
const MOVING: std::ops::Range<u32> = 1001..1011;
/// Ten times as often, so that agents move over a second.
const BRISK: &str = "breaker.pause = \"100ms\"\nbreaker.pause_max = \"100ms\"\n";
/// No probe comes during a test.
const NO_PROBES: &str = "breaker.pause = \"1m\"\nbreaker.pause_max = \"1m\"\n";

/// A bridge with two addresses, each a proxy before the same gateway; agent 1001 has a session.
async fn two_ways(tenant: &str) -> ([LossyProxy; 2], TestBridge) {
    let gateway = gateway(Options { plaintext: true, ..<_>::default() }).await;
    let ways = [LossyProxy::to(gateway.addr()).await, LossyProxy::to(gateway.addr()).await];
    let (base_url, standby) = (Some(ways[0].base_url()), Some(ways[1].base_url()));
    let tenant = format!("read_back = false\n{tenant}");
    let setup = Setup { tenant, base_url, standby, ..<_>::default() };
    let bridge = TestBridge::of(gateway, setup).await;
    register_all(&bridge).await;
    (ways, bridge)
}

async fn one_way(tenant: &str) -> (LossyProxy, TestBridge) {
    let gateway = gateway(Options { plaintext: true, ..<_>::default() }).await;
    let way = LossyProxy::to(gateway.addr()).await;
    let (tenant, base_url) = (format!("read_back = false\n{tenant}"), Some(way.base_url()));
    let bridge = TestBridge::of(gateway, Setup { tenant, base_url, ..<_>::default() }).await;
    register_all(&bridge).await;
    (way, bridge)
}

/// A bridge with two addresses, each of a gateway of its own, the first behind a proxy. Each call signs its agent in
/// where that is needed.
async fn two_sites(tenant: &str) -> (LossyProxy, Simulator, TestBridge) {
    let plain = || Options { plaintext: true, ..<_>::default() };
    let (first, second) = (gateway(plain()).await, gateway(plain()).await);
    let way = LossyProxy::to(first.addr()).await;
    let (base_url, standby) = (Some(way.base_url()), Some(second.base_url()));
    let tenant = format!("read_back = false\nkeep.sign_ins_per_second = 10000\n{tenant}");
    let credentials = MOVING.collect();
    let setup = Setup { tenant, base_url, standby, credentials, ..<_>::default() };
    (way, second, TestBridge::of(first, setup).await)
}

/// Lets the first address trip.
async fn trip(way: &LossyProxy, bridge: &TestBridge) {
    lose_all(way, BROKEN);
    for agent in 1020..1025 {
        bridge.sign_in(agent).await.expect_err("lost");
    }
    assert_eq!(states(bridge).await, ["tripped", "good"]);
}

async fn register_all(bridge: &TestBridge) {
    for agent in AGENTS {
        bridge.register(agent, &bridge.gateway.sign_in(agent)).await.expect("registered");
    }
}

fn lose_all(way: &LossyProxy, loss: Loss) {
    (0..10_000).for_each(|_| way.lose(ANY, loss));
}

/// The states of the addresses, in their order, as `/status.json` shows them.
async fn states(bridge: &TestBridge) -> Vec<String> {
    let (_, body) = bridge.ask("GET /status.json").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let gateways = status["tenants"][0]["gateways"].as_array().expect("a list");
    gateways.iter().map(|one| one["state"].as_str().expect("a state").to_owned()).collect()
}

async fn until_state(bridge: &TestBridge, address: usize, state: &str) {
    let found = async {
        while states(bridge).await[address] != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(state, found).await;
}

#[tokio::test]
async fn an_address_that_fails_is_left_for_the_next_and_preferred_again_when_it_is_good() {
    let (ways, bridge) = two_ways(QUICK).await;
    lose_all(&ways[0], BROKEN);
    for agent in AGENTS {
        refused(bridge.set_busy(agent).await, Code::Unknown, "GATEWAY_PROXY_FAILED", "unknown");
    }
    assert_eq!(states(&bridge).await, ["tripped", "good"]);
    for _ in 0..20 {
        bridge.set_busy(AGENT).await.expect("by the second address");
    }
    assert_eq!(ways[1].seen("/saybusy").len(), 20);
    until("probes", || ways[0].seen("/agentstatus").len() >= 3).await;
    assert_eq!(ways[0].seen("/saybusy").len(), 5, "no call is tried there");

    ways[0].behave();
    until_state(&bridge, 0, "good").await;
    let before = ways[0].seen("/saybusy").len();
    let calling = async {
        while ways[0].seen("/saybusy").len() < before + 20 {
            bridge.set_busy(AGENT).await.expect("accepted");
        }
    };
    within("calls at the first address", calling).await;
}

#[tokio::test]
async fn an_address_where_nobody_can_sign_in_is_left_for_the_next() {
    let (ways, bridge) = two_ways(NO_PROBES).await;
    for (loss, agents) in [(BROKEN, 1010..1013), (Loss::AfterRequest, 1013..1015)] {
        for agent in agents {
            ways[0].lose(ANY, loss);
            bridge.sign_in(agent).await.expect_err("lost");
        }
    }
    assert_eq!(states(&bridge).await, ["tripped", "good"]);
    bridge.sign_in(1015).await.expect("by the second address");
}

/// Neither site knows the other's sessions, so each move takes a sign-in.
#[tokio::test]
async fn each_agent_moves_once_to_an_address_that_is_good_again() {
    let (way, second, bridge) = two_sites(BRISK).await;
    trip(&way, &bridge).await;
    let call_all = async || {
        for agent in MOVING {
            bridge.set_busy(agent).await.expect("accepted");
        }
    };
    call_all().await;
    way.behave();
    until_state(&bridge, 0, "good").await;
    let moving = async {
        while bridge.asked(Interface::SignIn).len() < MOVING.len() {
            call_all().await;
        }
    };
    within("all agents at the first address", moving).await;
    call_all().await;
    let sign_ins = [&bridge.gateway, &second].map(|site| asked(site, Interface::SignIn).len());
    assert_eq!(sign_ins, [MOVING.len(); 2]);
}

/// Only its owner could hand it in once more, and a sign-in would take the agent from its owner.
#[tokio::test]
async fn a_registered_guid_outlasts_a_site_that_does_not_know_it() {
    let (way, second, bridge) = two_sites(BRISK).await;
    // The bridge could sign the second one in.
    let owned = [1030, MOVING.start];
    for agent in owned {
        bridge.register(agent, &bridge.gateway.sign_in(agent)).await.expect("registered");
    }
    trip(&way, &bridge).await;
    let is_kept = |status: Status| assert_ne!(Refusal::from(status).reason, "SESSION_MISSING");
    for agent in owned.repeat(3) {
        is_kept(bridge.set_busy(agent).await.expect_err("it is not known at the second site"));
    }
    way.behave();
    for agent in owned {
        let back = async {
            while let Err(status) = bridge.set_busy(agent).await {
                is_kept(status);
            }
        };
        within("a call at the first address", back).await;
    }
    let sign_ins = [&bridge.gateway, &second].map(|site| asked(site, Interface::SignIn).len());
    assert_eq!(sign_ins, [0; 2]);
}

/// The first address counts as good all the time, and only the second one has answered.
#[tokio::test]
async fn a_registered_guid_outlasts_a_refusal_by_a_standby_site_that_nobody_has_changed_to() {
    let closed = ClosedPort::new();
    let (tenant, first) = ("breaker.failures = 0\n".into(), Some(closed.addr));
    let setup = Setup { tenant, first, credentials: vec![AGENT], ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    let owners = "00000000-dead-4437-84c3-ab9e9dae20f5.AgentGateway0";
    bridge.register(AGENT, owners).await.expect("registered");
    let before = bridge.session(AGENT).await.guid_version;
    for _ in 0..2 {
        let status = bridge.set_busy(AGENT).await.expect_err("not known at the second site");
        assert_eq!(Refusal::from(status).metadata["outcome"], "refused");
    }
    assert!(bridge.asked(Interface::SignIn).is_empty());
    assert_eq!(bridge.session(AGENT).await.guid_version, before);
    // Nor is it known whether the agent is signed out, whether or not the answer comes.
    let mut watching = bridge.watch(&[AGENT], None).await;
    for is_lost in [false, true] {
        if is_lost {
            let lost = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignOut);
            bridge.gateway.misbehave(lost);
        }
        let status = bridge.sign_out(AGENT).await.expect_err("not known at the second site");
        let outcome = if is_lost { "unknown" } else { "refused" };
        assert_eq!(Refusal::from(status).metadata["outcome"], outcome);
        // It waits until the bridge has asked what became of the sign-out.
        bridge.set_busy(AGENT).await.expect_err("not known at the second site");
        assert_eq!(bridge.session(AGENT).await.guid_version, before);
        let told = loop {
            if let Some(What::SessionChange(change)) = watching.next().await.what
                && change.state() == SessionState::Registered
            {
                break change.description;
            }
        };
        assert!(told.ends_with("whether it is signed out is not known"), "{told}");
    }
}

#[tokio::test]
async fn probes_leave_no_connections_behind() {
    let (ways, bridge) = two_ways(&format!("timeouts.idle = \"5m\"\n{QUICK}")).await;
    lose_all(&ways[0], BROKEN);
    for agent in AGENTS {
        bridge.set_busy(agent).await.expect_err("lost");
    }
    ways[0].behave();
    until_state(&bridge, 0, "good").await;
    assert!(ways[0].seen("/agentstatus").len() >= 3);
    let open =
        async || bridge.scrape().await.get("ccgw_gateway_connections{tenant=\"acme\"}").copied();
    let is_one = async || open().await == Some(1.0);
    until_asked("no connection but that of the calls", is_one).await;
}

#[tokio::test]
async fn an_address_that_does_not_answer_keeps_no_other_from_being_probed() {
    let (ways, bridge) = two_ways(&format!("timeouts.request = \"5m\"\n{QUICK}")).await;
    lose_all(&ways[0], BROKEN);
    lose_all(&ways[1], BROKEN);
    for _ in 0..2 {
        for agent in AGENTS {
            bridge.set_busy(agent).await.expect_err("lost");
        }
    }
    ways[0].behave();
    lose_all(&ways[0], Loss::Swallowed);
    let before = ways[0].seen("/agentstatus").len();
    until("a probe without an answer", || ways[0].seen("/agentstatus").len() > before).await;
    ways[1].behave();
    until_state(&bridge, 1, "good").await;
}

#[tokio::test]
async fn half_of_the_requests_failing_is_enough_where_another_address_is_good() {
    for has_other in [true, false] {
        let (ways, bridge) = if has_other {
            let (ways, bridge) = two_ways(NO_PROBES).await;
            (Vec::from(ways), bridge)
        } else {
            let (way, bridge) = one_way(NO_PROBES).await;
            (vec![way], bridge)
        };
        let mut failed = 0;
        for _ in 0..40 {
            let is_left = states(&bridge).await[0] == "tripped";
            if is_left {
                break;
            }
            ways[0].lose("/saybusy", BROKEN);
            bridge.set_busy(AGENT).await.expect_err("lost");
            failed += 1;
            bridge.set_busy(AGENT).await.expect("passed");
        }
        assert_eq!(failed, if has_other { 11 } else { 40 });
    }
}

#[tokio::test]
async fn calls_hear_at_once_when_to_come_again_while_the_only_address_is_tripped() {
    let (way, bridge) = one_way(NO_PROBES).await;
    lose_all(&way, BROKEN);
    for agent in AGENTS {
        bridge.set_busy(agent).await.expect_err("lost");
    }
    // One is let through, to see whether it goes again.
    bridge.set_busy(AGENT).await.expect_err("lost");
    let asked = way.seen("/saybusy").len();
    assert_eq!(asked, 6);
    let call = bridge.set_busy(AGENT).await;
    let refusal = refused(call, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    assert!(
        refusal.message.contains("not asked again so soon after a failure"),
        "{}",
        refusal.message
    );
    assert!(refusal.message.contains("HTTP 502"), "{}", refusal.message);
    let delay = refusal.details.retry_info().and_then(|info| info.retry_delay).expect("told");
    assert!(delay > Duration::from_secs(30) && delay <= Duration::from_secs(60), "{delay:?}");
    assert_eq!(way.seen("/saybusy").len(), asked, "the gateway was not asked");

    let (_, ready) = bridge.ask("GET /readyz?verbose").await;
    let line =
        format!("tenant acme: gateway address {} tripped: it answered with HTTP 502", way.addr);
    assert!(ready.contains(&line), "{ready}");
    let (_, page) = bridge.ask("GET /").await;
    assert!(page.contains("<span class=\"bad\">tripped</span>"), "{page}");
    let metrics = bridge.scrape().await;
    let labels = format!("tenant=\"acme\",host=\"{}\"", way.addr);
    for (state, is_it) in [("good", 0.0), ("tripped", 1.0), ("probing", 0.0)] {
        let series = format!("ccgw_gateway_address_state{{{labels},state=\"{state}\"}}");
        assert_eq!(metrics.get(&series), Some(&is_it), "{series}");
    }
    let trips = format!("ccgw_gateway_address_trips_total{{{labels}}}");
    assert_eq!(metrics.get(&trips), Some(&1.0));
}

#[tokio::test]
async fn the_only_address_is_asked_again_as_soon_as_a_probe_is_answered() {
    let (way, bridge) = one_way(QUICK).await;
    lose_all(&way, Loss::AfterRequest);
    for agent in AGENTS {
        bridge.set_busy(agent).await.expect_err("lost");
    }
    until("probes", || way.seen("/agentstatus").len() >= 2).await;
    assert!(bridge.asked(Interface::AgentStatus).is_empty());
    way.behave();
    until_state(&bridge, 0, "good").await;
    bridge.set_busy(AGENT).await.expect("accepted");
}

/// A poll without a Guid would be the agent's own there.
#[tokio::test]
async fn probes_of_a_gateway_of_2014_without_guids_take_no_event() {
    let options = Options { plaintext: true, auth_mode: AuthMode::None, ..<_>::default() };
    let gateway = gateway(options.of(Edition::V2014)).await;
    let way = LossyProxy::to(gateway.addr()).await;
    let ids = format!("agent_ids = \"{AGENT}-1999\"\n");
    let tenant = format!("edition = \"2014\"\nauth_mode = \"none\"\n{ids}{QUICK}");
    let base_url = Some(way.base_url());
    let bridge = TestBridge::of(gateway, Setup { tenant, base_url, ..<_>::default() }).await;
    for agent in AGENTS {
        bridge.gateway.sign_in(agent);
        bridge.register(agent, "").await.expect("registered");
    }
    let waiting = || bridge.gateway.agent(AGENT).expect("known").events_waiting;
    let before = waiting();
    assert!(before > 0);

    lose_all(&way, BROKEN);
    for agent in AGENTS {
        bridge.set_busy(agent).await.expect_err("lost");
    }
    way.behave();
    until_state(&bridge, 0, "good").await;
    let mut health = HealthClient::with_origin(channel(), origin(bridge.bridge.grpc_addr()));
    let service = "ccgateway.agent.v1.AgentState/acme".to_owned();
    let health = health.check(HealthCheckRequest { service }).await.expect("known").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    assert_eq!((waiting(), way.seen("/agentevent/").len()), (before, 0));
}

/// A port whose connections are never accepted, since its queue is full.
async fn black_hole() -> (tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = socket.listen(1).expect("listens");
    let addr = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await
    {
        waiting.push(stream);
    }
    (listener, waiting)
}

#[tokio::test]
async fn an_address_that_swallows_everything_costs_one_call_its_time_and_no_further_one() {
    let (hole, _waiting) = black_hole().await;
    let tenant = format!("{NO_PROBES}timeouts.connect = \"300ms\"\n");
    let first = Some(hole.local_addr().expect("an address"));
    let bridge = TestBridge::with(Setup { first, tenant, ..<_>::default() }).await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    // The caller leaves before the bridge has given up connecting, which is noticed all the same.
    let mut request =
        Request::new(SetBusyRequest { agent_id: AGENT.to_string(), ..<_>::default() });
    request.set_timeout(Duration::from_millis(100));
    let late = bridge.states.clone().set_busy(request).await;
    assert_eq!(late.expect_err("late").code(), Code::DeadlineExceeded);
    until_state(&bridge, 0, "tripped").await;
    for _ in 0..50 {
        bridge.set_busy(AGENT).await.expect("by the second address");
    }
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 50);
}

#[tokio::test]
async fn an_agent_whom_the_gateway_always_fails_for_costs_no_other_its_calls() {
    let (way, bridge) = one_way(NO_PROBES).await;
    for _ in 0..20 {
        way.lose("/1001/saybusy", BROKEN);
        refused(bridge.set_busy(1001).await, Code::Unknown, "GATEWAY_PROXY_FAILED", "unknown");
    }
    bridge.set_busy(1002).await.expect("accepted");
    assert_eq!(states(&bridge).await, ["good"]);
}

#[tokio::test]
async fn refusals_never_trip_an_address() {
    let (way, bridge) = one_way(NO_PROBES).await;
    let refusal = Fault::Retcode { retcode: "100-007".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(refusal).on(Interface::SayBusy));
    for _ in 0..20 {
        bridge.set_busy(AGENT).await.expect_err("refused");
    }
    assert_eq!(states(&bridge).await, ["good"]);
    assert_eq!(way.seen("/saybusy").len(), 20);
}

#[tokio::test]
async fn without_a_breaker_every_call_is_tried() {
    let (way, bridge) = one_way("breaker.failures = 0\n").await;
    lose_all(&way, BROKEN);
    for _ in 0..20 {
        bridge.set_busy(AGENT).await.expect_err("lost");
    }
    assert_eq!(way.seen("/saybusy").len(), 20);
}
