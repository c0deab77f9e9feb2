//! `/metrics` on the admin port.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::SystemTime,
};

use ccgateway_bridge::{
    rpc::proto::{SetBusyRequest, WatchEventsRequest, watch_events_response::What},
    version::{COMMIT, NUMBER},
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Certificate, Setup, Site, TestBridge, refused, within};
use tonic::Code;

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
        (
            "ccgw_gateway_request_duration_seconds_count{tenant=\"acme\",interface=\"sayBusy\"}"
                .into(),
            2.0,
        ),
        ("ccgw_queue_wait_seconds_count{tenant=\"acme\"}".into(), 4.0),
        ("ccgw_session_wait_seconds_count{tenant=\"acme\"}".into(), 1.0),
        ("ccgw_sessions{tenant=\"acme\",state=\"kept\"}".into(), 1.0),
        ("ccgw_session_states_entered_total{tenant=\"acme\",state=\"kept\"}".into(), 1.0),
        ("ccgw_tenant_places_in_use{tenant=\"acme\",share=\"watches\"}".into(), 1.0),
        ("ccgw_tenant_places_in_use{tenant=\"acme\",share=\"requests\"}".into(), 0.0),
        ("ccgw_tenant_places_limit{tenant=\"acme\",share=\"requests\"}".into(), 64.0),
        // A watch has more than one answer and is not among them.
        ("ccgw_calls_total{tenant=\"acme\",grpc_code=\"OK\"}".into(), 2.0),
        ("ccgw_calls_total{tenant=\"acme\",grpc_code=\"FailedPrecondition\"}".into(), 2.0),
        ("ccgw_server_places_in_use{share=\"server_calls\"}".into(), 0.0),
        ("ccgw_server_places_in_use{share=\"connections\"}".into(), 1.0),
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
async fn no_text_from_callers_or_gateways_becomes_a_series() {
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

#[tokio::test]
async fn refusals_are_counted_by_the_share_that_was_used_up() {
    let tenant = "events.watches = 1\n".into();
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let _watching = bridge.watch(&[], None).await;
    let another = bridge.events.clone().watch_events(WatchEventsRequest::default()).await;
    refused(another, Code::ResourceExhausted, "TENANT_LIMIT_REACHED", "not_sent");
    let series = bridge.scrape().await;
    for (share, refusals) in [("watches", 1.0), ("calls", 0.0), ("server_calls", 0.0)] {
        let name = format!("ccgw_calls_over_limit_total{{tenant=\"acme\",share=\"{share}\"}}");
        assert_eq!(series.get(&name), Some(&refusals), "{name}");
    }
    for tenant in ["acme", ""] {
        let name = format!("ccgw_calls_over_own_share_total{{tenant=\"{tenant}\"}}");
        assert_eq!(
            series.get(&name),
            Some(&0.0),
            "it is no caller's own share, and no call with one answer"
        );
    }
}

#[tokio::test]
async fn gaps_in_watches_are_counted() {
    let bridge = TestBridge::start().await;
    let mut watching = bridge.watch(&[], Some(1)).await;
    let gap = watching.next().await;
    assert!(matches!(gap.what, Some(What::Gap(_))), "{gap:?}");
    let series = bridge.scrape().await;
    assert_eq!(series.get("ccgw_event_gaps_total{tenant=\"acme\"}"), Some(&1.0));
}

#[tokio::test]
async fn connections_to_a_gateway_are_counted_until_they_end() {
    let bridge = TestBridge::start().await;
    let name = "ccgw_gateway_connections{tenant=\"acme\"}";
    let open = async || bridge.scrape().await.get(name).copied();
    assert_eq!(open().await, Some(0.0));
    bridge.sign_in(AGENT).await.expect("signed in");
    assert_eq!(open().await, Some(1.0));
    bridge.gateway.stop().await;
    let closed = async {
        while open().await != Some(0.0) {
            tokio::task::yield_now().await;
        }
    };
    within("the connections are closed", closed).await;
}

/// `increase()` sees nothing in a series that begins with its first event.
#[tokio::test]
async fn counters_that_alerts_use_begin_at_zero() {
    let bridge = TestBridge::start().await;
    let series = bridge.scrape().await;
    for name in [
        &*request("login", "unreachable"),
        &request("login", "credentials_rejected"),
        &request("forceLogin", "no_guid"),
        "ccgw_calls_total{tenant=\"acme\",grpc_code=\"OK\"}",
        "ccgw_calls_over_limit_total{tenant=\"acme\",share=\"requests\"}",
        "ccgw_event_gaps_total{tenant=\"acme\"}",
        "ccgw_session_states_entered_total{tenant=\"acme\",state=\"lost\"}",
        "ccgw_log_lines_lost_total",
        "ccgw_store_failures_total",
    ] {
        assert_eq!(series.get(name), Some(&0.0), "{name}");
    }
}

/// A tenant that is idle would have a hundred series otherwise. An interface that comes into use begins with answers,
/// nearly always.
#[tokio::test]
async fn an_interface_has_its_series_once_it_is_used() {
    let bridge = TestBridge::start().await;
    let interfaces = async || -> BTreeSet<String> {
        let series = bridge.scrape().await.into_keys();
        let interface = |name: String| {
            let labels = name.strip_prefix("ccgw_gateway_requests_total{")?;
            Some(labels.split_once("interface=\"")?.1.split_once('"')?.0.to_owned())
        };
        series.filter_map(interface).collect()
    };
    let sign_ins = BTreeSet::from(["forceLogin", "login"].map(str::to_owned));
    assert_eq!(interfaces().await, sign_ins);
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.set_busy(AGENT).await.expect("busy");
    assert!(!interfaces().await.contains("rest"), "it is not used");
    let series = bridge.scrape().await;
    assert_eq!(series.get(&request("sayBusy", "ok")), Some(&1.0));
    for result in ["unreachable", "no_answer", "given_up", "bad_reply", "http_status"] {
        assert_eq!(series.get(&request("sayBusy", result)), Some(&0.0), "{result}");
    }
}

/// A hundred tenants with every code would be more than a scraper takes. Alerts use the rates of codes
/// over minutes, which miss only what a first scrape finds.
#[tokio::test]
async fn codes_have_a_series_once_they_have_happened() {
    let bridge = TestBridge::start().await;
    let codes = async || {
        let series = bridge.scrape().await.into_iter();
        let from_the_start = ["\"OK\"", "\"ResourceExhausted\""];
        let is_code = |name: &str| {
            name.contains("grpc_code=") && !from_the_start.iter().any(|code| name.contains(code))
        };
        series.filter(|(name, _)| is_code(name)).map(|(_, count)| count).collect::<Vec<_>>()
    };
    assert_eq!(codes().await, Vec::<f64>::new());
    bridge.set_busy(AGENT).await.expect_err("there is no session");
    assert_eq!(codes().await, [1.0, 1.0], "for the method, and for the tenant");
}

#[tokio::test]
async fn certificate_ends_and_process_metrics_are_exported() {
    let files = tempfile::TempDir::new().expect("a folder");
    let Certificate { pem, key, .. } = Certificate::of("localhost", files.path());
    let store_key = files.path().join("store.key");
    std::fs::write(&store_key, ccgateway_test_support::key(7)).expect("written");
    let tenant = format!(
        "[listeners.default.tls]\ncertificate_file = {pem:?}\nkey_file = {key:?}\n\
         [traces]\nendpoint = \"https://127.0.0.1:1\"\n\
         tls = {{ ca_file = {pem:?}, client_certificate_file = {pem:?}, client_key_file = {key:?} }}\n\
         [store]\nurls = \"rediss://127.0.0.1:1\"\nencryption_key_files = {store_key:?}\ntls.ca_file = {pem:?}\n"
    );
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let series = bridge.scrape().await;
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs_f64();
    for (tenant, listener, certificate) in [
        ("", "default", "server"),
        ("acme", "", "ca"),
        ("", "", "store_ca"),
        ("", "", "traces_ca"),
        ("", "", "traces_client"),
    ] {
        let labels =
            format!("tenant=\"{tenant}\",listener=\"{listener}\",certificate=\"{certificate}\"");
        let end = series[&format!("ccgw_certificate_not_after_timestamp_seconds{{{labels}}}")];
        assert!(end > now, "{labels} ended at {end}");
    }
    assert!((now - series["process_start_time_seconds"]).abs() < 3600.0);
    assert!(series["process_resident_memory_bytes"] > 1e6);
    assert!(series["process_open_fds"] > 3.0);
    assert!(series["process_open_fds"] < series["process_max_fds"]);
    assert!(series["process_threads"] >= 1.0);
    assert!(series["process_cpu_seconds_total"] >= 0.0);
    let host = bridge.gateway.base_url();
    let host =
        host.strip_prefix("https://").and_then(|rest| rest.split('/').next()).expect("a host");
    let taken = format!("ccgw_host_places_in_use{{host=\"{host}\"}}");
    assert_eq!(series.get(&taken), Some(&0.0), "{taken}");
}

#[tokio::test]
async fn the_end_of_the_authorities_of_callers_is_exported_while_they_are_in_use() {
    let site = Site::new(Options::default()).await;
    let files = tempfile::TempDir::new().expect("a folder");
    let Certificate { pem, key, .. } = Certificate::of("localhost", files.path());
    let setup = |keys: &str| {
        let tls =
            format!("[listeners.default.tls]\ncertificate_file = {pem:?}\nkey_file = {key:?}\n");
        Setup { tenant: format!("{tls}{keys}"), ..<_>::default() }
    };
    let asking = format!(
        "client_ca_file = {pem:?}\n[callers.all]\nprincipals = [\"*\"]\ntenants = [\"*\"]\nrights = [\"*\"]\n"
    );
    let bridge = TestBridge::at(&site, &setup(&asking)).await;
    let of = |certificate: &str| {
        let labels = format!("tenant=\"\",listener=\"default\",certificate=\"{certificate}\"");
        format!("ccgw_certificate_not_after_timestamp_seconds{{{labels}}}")
    };
    let series = bridge.scrape().await;
    // It is the same certificate.
    assert_eq!(series.get(&of("client_ca")), Some(&series[&of("server")]));
    bridge.bridge.reload(site.config(&setup(""))).expect("a good configuration");
    let series = bridge.scrape().await;
    assert!(series.contains_key(&of("server")) && !series.contains_key(&of("client_ca")));
}
