//! `/metrics` on the admin port.

use std::collections::{HashMap, HashSet};

use ccgateway_bridge::{
    rpc::proto::SetBusyRequest,
    sim::{Fault, Interface, Misbehaviour, Options},
    version::{COMMIT, NUMBER},
};

use crate::support::{AGENT, Setup, TestBridge};

const SET_BUSY: &str = "grpc_service=\"ccgateway.agent.v1.AgentState\",grpc_method=\"SetBusy\"";

#[tokio::test]
async fn calls_requests_and_sessions_are_counted() {
    let gateway = Options { event_gen_time: true, ..<_>::default() };
    let bridge = TestBridge::with(Setup { gateway, keep: true, ..<_>::default() }).await;
    let mut watching = bridge.watch(&[], None).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    watching.event("AgentState_Ready").await;
    bridge.set_busy(AGENT).await.expect("busy");
    let refused = SetBusyRequest { agent_id: AGENT.to_string(), ..<_>::default() };
    bridge.call(refused).await.expect_err("busy already");
    bridge.set_busy(AGENT + 1).await.expect_err("no session");

    let series = bridge.scrape().await;
    let unary = "grpc_type=\"unary\"";
    for (name, value) in [
        (format!("grpc_server_started_total{{{unary},{SET_BUSY}}}"), 3.0),
        (format!("grpc_server_handled_total{{{unary},{SET_BUSY},grpc_code=\"OK\"}}"), 1.0),
        (
            format!(
                "grpc_server_handled_total{{{unary},{SET_BUSY},grpc_code=\"FailedPrecondition\"}}"
            ),
            2.0,
        ),
        (format!("grpc_server_handling_seconds_count{{{unary},{SET_BUSY}}}"), 3.0),
        (format!("ccgw_calls_open{{{unary},{SET_BUSY}}}"), 0.0),
        (
            "ccgw_calls_open{grpc_type=\"server_stream\",\
             grpc_service=\"ccgateway.agent.v1.AgentEvents\",grpc_method=\"WatchEvents\"}"
                .into(),
            1.0,
        ),
        (format!("ccgw_build_info{{version=\"{NUMBER}\",commit=\"{COMMIT}\"}}"), 1.0),
        (request("sayBusy", "ok"), 1.0),
        (request("sayBusy", "state_refused"), 1.0),
        (request("login", "ok"), 1.0),
        ("ccgw_gateway_request_seconds_count{tenant=\"acme\",interface=\"sayBusy\"}".into(), 2.0),
        ("ccgw_queue_seconds_count{tenant=\"acme\"}".into(), 4.0),
        ("ccgw_session_wait_seconds_count{tenant=\"acme\"}".into(), 1.0),
        ("ccgw_sessions{tenant=\"acme\",state=\"kept\"}".into(), 1.0),
        ("ccgw_session_states_entered_total{tenant=\"acme\",state=\"kept\"}".into(), 1.0),
        ("ccgw_places_taken{tenant=\"acme\",share=\"watches\"}".into(), 1.0),
        ("ccgw_places_taken{tenant=\"acme\",share=\"requests\"}".into(), 0.0),
        ("ccgw_places{tenant=\"acme\",share=\"requests\"}".into(), 64.0),
    ] {
        assert_eq!(series.get(&name), Some(&value), "{name} in {series:#?}");
    }
    let events = series["ccgw_events_total{tenant=\"acme\"}"];
    assert!(events >= 2.0, "{events}");
    assert!(series["ccgw_event_lag_seconds_count{tenant=\"acme\"}"] >= 2.0);
}

fn request(interface: &str, result: &str) -> String {
    format!(
        "ccgw_gateway_requests_total{{tenant=\"acme\",interface=\"{interface}\",result=\"{result}\"}}"
    )
}

#[tokio::test]
async fn nothing_that_a_caller_or_a_gateway_says_makes_a_series() {
    let bridge = TestBridge::with(Setup::default()).await;
    let names = |series: HashMap<String, f64>| -> HashSet<String> { series.into_keys().collect() };
    let stir = async |agent: u32, tenant: &str, retcode: &str| {
        bridge.sign_in(agent).await.expect("signed in");
        let fault = Fault::Retcode { retcode: retcode.into(), message: "text".into() };
        let rule = Misbehaviour { times: Some(1), ..Misbehaviour::always(fault) };
        bridge.gateway.misbehave(rule.on(Interface::SayBusy));
        bridge.set_busy(agent).await.expect_err("refused");
        bridge.set_busy(agent).await.expect("busy");
        let (agent_id, tenant_id) = (agent.to_string(), tenant.to_owned());
        let stranger = SetBusyRequest { agent_id, tenant_id, ..<_>::default() };
        bridge.call(stranger).await.expect_err("no such tenant");
        bridge.set_busy(7).await.expect_err("no such agent");
    };
    stir(1001, "nobody", "999-001").await;
    let before = names(bridge.scrape().await);
    for agent in 1002..1062 {
        stir(agent, &format!("tenant-{agent}"), &format!("99{}-00{}", agent % 10, agent % 7)).await;
    }
    let after = names(bridge.scrape().await);
    assert_eq!(before.symmetric_difference(&after).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(after.len() < 1_200, "{} series of one tenant", after.len());
    assert!(!after.iter().any(|name| name.contains("1001") || name.contains("nobody")));
}
