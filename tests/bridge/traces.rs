//! Traces of calls, as a collector gets them.

use std::{
    fmt::Write as _, fs, net::SocketAddr, num::NonZeroUsize, sync::atomic::Ordering, time::Duration,
};

use ccgateway_bridge::{config::Config, rpc::proto::SetBusyRequest, server::Drained};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    AGENT, Setup, Site, TestBridge,
    collector::{Collector, Conduct, said},
    keeping, until,
};
use opentelemetry_proto::tonic::trace::v1::{
    Span, Status as Ended, span::SpanKind, status::StatusCode,
};
use tempfile::TempDir;
use tonic::{Code, Request, Status};

use crate::batch;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Lines of the configuration that send traces to a collector.
fn traces(collector: &Collector, more: &str) -> String {
    let scheme = if collector.certificate.is_some() { "https" } else { "http" };
    let addr = collector.addr;
    format!("[traces]\nendpoint = \"{scheme}://{addr}\"\n{more}")
}

/// Has traces sent at once.
fn at_once(config: &mut Config) {
    if let Some(traces) = &mut config.traces {
        traces.collector.interval = Duration::from_millis(10);
    }
}

/// A bridge that records what its callers want to be recorded, and nothing else.
async fn bridge(collector: &Collector, more: &str) -> TestBridge {
    let traces = traces(collector, &format!("sample = 0\n{more}"));
    let tenant = format!("read_back = false\n{traces}");
    TestBridge::with(Setup { tenant, adjust: Some(at_once), ..<_>::default() }).await
}

async fn set_busy(bridge: &TestBridge, flags: &str) -> Result<(), Status> {
    let agent_id = AGENT.to_string();
    let mut request =
        Request::new(SetBusyRequest { agent_id, reason: Some(200), ..<_>::default() });
    let traceparent = format!("00-{TRACE}-{CALLER}-{flags}").parse().expect("a header");
    request.metadata_mut().insert("traceparent", traceparent);
    request.metadata_mut().insert("tracestate", "vendor=1".parse().expect("a header"));
    bridge.states.clone().set_busy(request).await.map(|_| ())
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("written");
        hex
    })
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// The names from a span's parent up to the call's own span.
fn path(spans: &[Span], name: &str) -> Vec<String> {
    let mut at = spans.iter().find(|span| span.name == name);
    let mut path = Vec::new();
    while let Some(span) = at {
        at = spans.iter().find(|other| other.span_id == span.parent_span_id);
        path.extend(at.map(|parent| parent.name.clone()));
    }
    path
}

const SET_BUSY: &str = "ccgateway.agent.v1.AgentState/SetBusy";

#[tokio::test]
async fn a_call_is_one_trace_with_its_callers() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let bridge = bridge(&collector, "").await;
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");

    set_busy(&bridge, "01").await.expect("busy");
    let spans = collector.spans(4).await;
    assert_eq!(names(&spans), [SET_BUSY, "queue", "session", "gateway sayBusy"]);
    let [call, queue, session, gateway] = &spans[..] else { panic!("{spans:?}") };
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(!format!("{span:?}").contains(&guid[..8]), "a Guid: {span:?}");
    }
    assert_eq!(hex(&call.parent_span_id), CALLER);
    assert_eq!(call.kind(), SpanKind::Server);
    for part in [queue, session, gateway] {
        assert_eq!(part.parent_span_id, call.span_id, "{}", part.name);
    }
    assert!(queue.end_time_unix_nano <= session.start_time_unix_nano);
    assert!(session.end_time_unix_nano <= gateway.start_time_unix_nano);
    assert!(gateway.end_time_unix_nano <= call.end_time_unix_nano);

    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", SET_BUSY),
        ("rpc.response.status_code", "OK"),
        ("ccgw.tenant.id", "acme"),
        ("ccgw.agent.id", "1001"),
        ("network.peer.address", "127.0.0.1"),
    ] {
        assert_eq!(said(&call.attributes, key), value, "{key}");
    }
    assert_eq!(gateway.kind(), SpanKind::Client);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.template", "/onlineagent/{agentid}/saybusy"),
        ("http.response.status_code", "200"),
        ("ccgw.retcode", "0"),
        ("server.address", "localhost"),
    ] {
        assert_eq!(said(&gateway.attributes, key), value, "{key}");
    }
    let asked = bridge.asked(Interface::SayBusy);
    let told = format!("00-{TRACE}-{}-01", hex(&gateway.span_id));
    assert_eq!(asked[0].header("traceparent"), Some(told.as_str()));
    assert_eq!(asked[0].header("tracestate"), None, "nobody wants it there");
}

#[tokio::test]
async fn gateways_get_what_callers_note_in_a_trace_only_if_that_is_wanted() {
    let collector = Collector::start(Conduct::Takes).await;
    let bridge = bridge(&collector, "tracestate_to_gateway = true\n").await;
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    set_busy(&bridge, "01").await.expect("busy");
    let asked = bridge.asked(Interface::SayBusy);
    assert_eq!(asked[0].header("tracestate"), Some("vendor=1"));
}

#[tokio::test]
async fn callers_whom_nobody_knows_do_not_decide_what_is_recorded() {
    // The key of RFC 8037, appendix A.2.
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let files = TempDir::new().expect("a folder");
    let keys = files.path().join("keys.json");
    fs::write(&keys, KEYS).expect("written");
    let mut collector = Collector::start(Conduct::Takes).await;
    let setup = |allow_anonymous: bool| Setup {
        settings: format!(
            "listeners.default.allow_anonymous = {allow_anonymous}\n\
             issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_file = {keys:?} }}\n\
             callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}"
        ),
        tenant: traces(&collector, "sample = 0\n"),
        adjust: Some(at_once),
        ..<_>::default()
    };
    let (strict, open) = (setup(false), setup(true));
    let site = Site::new(<_>::default()).await;
    let bridge = TestBridge::at(&site, &strict).await;
    let refused = set_busy(&bridge, "01").await.expect_err("it has shown nothing");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    bridge.reload(&open);
    let refused = set_busy(&bridge, "01").await.expect_err("it has no right");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    // What was recorded first would come first.
    let spans = collector.spans(1).await;
    let code = said(&spans[0].attributes, "rpc.response.status_code");
    assert_eq!(code, "PERMISSION_DENIED", "{spans:?}");
}

#[tokio::test]
async fn the_resource_of_spans_names_their_sender() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let bridge = bridge(&collector, "").await;
    set_busy(&bridge, "01").await.expect_err("no session");
    let resource = collector.export().await.request.resource_spans.remove(0).resource;
    let attributes = resource.expect("a resource").attributes;
    assert_eq!(said(&attributes, "service.name"), "ccgateway-bridge");
    assert_eq!(said(&attributes, "service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&attributes, "service.instance.id").len(), 32);
}

#[tokio::test]
async fn a_call_that_is_not_recorded_passes_its_callers_trace_on() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let bridge = bridge(&collector, "").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    set_busy(&bridge, "00").await.expect("busy");
    let told = bridge.asked(Interface::SayBusy)[0].header("traceparent").map(str::to_owned);
    let told = told.expect("a traceparent");
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    // What there was to be exported has been by its end.
    bridge.bridge.drain().await;
    assert!(collector.arrived().is_none());
}

#[tokio::test]
async fn an_invalid_traceparent_begins_a_new_trace() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let tenant = traces(&collector, "sample = 1\n");
    let bridge = TestBridge::with(Setup { tenant, adjust: Some(at_once), ..<_>::default() }).await;
    for flags in ["", "zz", "0101", "01-01"] {
        set_busy(&bridge, flags).await.expect_err("no session");
        let call = &collector.spans(3).await[0];
        assert_eq!(call.parent_span_id, Vec::<u8>::new(), "{flags}");
        assert_ne!(hex(&call.trace_id), TRACE, "{flags}");
    }
}

#[tokio::test]
async fn gateways_get_no_traceparent_if_that_is_switched_off_or_there_are_no_traces() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let silent = bridge(&collector, "to_gateway = false\n").await;
    for bridge in [silent, TestBridge::start().await] {
        bridge.sign_in(AGENT).await.expect("signed in");
        set_busy(&bridge, "01").await.expect("busy");
        let asked = bridge.asked(Interface::SayBusy);
        assert_eq!((asked[0].header("traceparent"), asked[0].header("tracestate")), (None, None));
    }
    assert_eq!(collector.spans(4).await.len(), 4);
}

#[tokio::test]
async fn callers_do_not_decide_what_is_recorded_if_they_are_not_followed() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let tenant = traces(&collector, "sample = 1.0\nfollow_callers = false\n");
    let bridge = TestBridge::with(Setup { tenant, adjust: Some(at_once), ..<_>::default() }).await;
    set_busy(&bridge, "00").await.expect_err("no session");
    let spans = collector.spans(3).await;
    assert_eq!(names(&spans), [SET_BUSY, "queue", "session"]);
    assert_eq!(hex(&spans[0].trace_id), TRACE);
}

#[tokio::test]
async fn a_sign_in_belongs_to_the_session_that_it_makes() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let tenant = traces(&collector, "sample = 0\n");
    let credentials = vec![AGENT];
    let bridge = TestBridge::with(Setup { tenant, credentials, ..<_>::default() }).await;
    set_busy(&bridge, "01").await.expect("busy");
    let spans = collector.spans(5).await;
    assert_eq!(path(&spans, "gateway login"), ["session", SET_BUSY]);
    assert_eq!(path(&spans, "gateway sayBusy"), [SET_BUSY]);
}

#[tokio::test]
async fn spans_of_failures_have_the_callers_status() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let bridge = bridge(&collector, "").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let busy = |fault| Misbehaviour::once(fault).on(Interface::SayBusy);

    bridge
        .gateway
        .misbehave(busy(Fault::Retcode { retcode: "100-009".into(), message: "no".into() }));
    set_busy(&bridge, "01").await.expect_err("refused");
    let spans = collector.spans(4).await;
    let (call, gateway) = (&spans[0], &spans[3]);
    for (key, value) in [
        ("rpc.response.status_code", "FAILED_PRECONDITION"),
        ("ccgw.reason", "AGENT_STATE_REFUSED"),
        ("ccgw.outcome", "refused"),
        ("ccgw.retcode", "100-009"),
    ] {
        assert_eq!(said(&call.attributes, key), value, "{key}");
    }
    // The caller's own affair is no failure of the server.
    assert!(call.status.as_ref().is_none_or(|status| status.code() == StatusCode::Unset));
    assert_eq!(said(&gateway.attributes, "ccgw.retcode"), "100-009");
    assert_eq!(gateway.status.as_ref().map(Ended::code), Some(StatusCode::Error));

    bridge.gateway.misbehave(busy(Fault::CutMidAnswer));
    set_busy(&bridge, "01").await.expect_err("no answer");
    let spans = collector.spans(4).await;
    for span in [&spans[0], &spans[3]] {
        let status = span.status.as_ref().expect("a status");
        assert_eq!(status.code(), StatusCode::Error);
        assert!(status.message.contains("no answer came"), "{}", status.message);
    }
    assert_eq!(said(&spans[3].attributes, "error.type"), "no_answer");
    assert_eq!(said(&spans[0].attributes, "ccgw.outcome"), "unknown");
    assert_eq!(said(&spans[0].attributes, "error.type"), "UNKNOWN");
}

#[tokio::test]
async fn agents_of_a_batch_and_confirmations_have_spans_of_their_own() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let tenant = traces(&collector, "sample = 0\n");
    let bridge =
        keeping(Setup { tenant, adjust: Some(at_once), ..<_>::default() }, [1001, 1002]).await;
    let mut request = batch::request(1001..1003);
    request.confirm_within = Some("10s".parse().expect("a duration"));
    let mut request = Request::new(request);
    let traceparent = format!("00-{TRACE}-{CALLER}-01").parse().expect("a header");
    request.metadata_mut().insert("traceparent", traceparent);
    bridge.states.clone().batch_set_busy(request).await.expect("answered");

    // For each agent: itself, queue, session and gateway, twice, for its status too; confirm.
    let spans = collector.spans(1 + 2 * 8).await;
    let of_batch = ["agent", "ccgateway.agent.v1.AgentState/BatchSetBusy"];
    assert_eq!(path(&spans, "gateway sayBusy"), of_batch);
    assert_eq!(path(&spans, "gateway getAgentStatus"), ["confirm", of_batch[0], of_batch[1]]);
    let confirmed = spans.iter().filter(|span| {
        span.name == "confirm" && said(&span.attributes, "ccgw.confirmation") == "confirmed"
    });
    assert_eq!(confirmed.count(), 2);
}

#[tokio::test]
async fn a_collector_is_reached_by_tls_and_with_its_token() {
    let mut collector = Collector::secure().await;
    let files = TempDir::new().expect("a folder");
    let (ca, headers) = (files.path().join("ca.pem"), files.path().join("headers"));
    fs::write(&ca, collector.certificate.as_ref().expect("a certificate")).expect("written");
    fs::write(&headers, "Authorization: Bearer canary\n\nx-tenant: 7\n").expect("written");
    let more = format!("headers_file = {headers:?}\n[traces.tls]\nca_file = {ca:?}\n");
    let bridge = bridge(&collector, &more).await;
    set_busy(&bridge, "01").await.expect_err("no session");
    let export = collector.export().await;
    assert_eq!(export.headers["authorization"], "Bearer canary");
    assert_eq!(export.headers["x-tenant"], "7");
}

#[tokio::test]
async fn a_failing_collector_delays_neither_calls_nor_the_end() {
    let gone = Collector::start(Conduct::Takes).await.addr;
    for conduct in [Some(Conduct::Hangs), Some(Conduct::Refuses), None] {
        let mut collector = Collector::start(conduct.unwrap_or(Conduct::Takes)).await;
        if conduct.is_none() {
            // A port with nobody behind it.
            collector.addr = SocketAddr::new(gone.ip(), 1);
        }
        let tenant = traces(&collector, "sample = 0\n");
        let adjust = |config: &mut Config| {
            at_once(config);
            if let Some(traces) = &mut config.traces {
                traces.collector.queue = NonZeroUsize::new(8).expect("not zero");
                traces.collector.timeout = Duration::from_secs(60);
            }
        };
        let setup = Setup { tenant, adjust: Some(adjust), ..<_>::default() };
        let bridge = TestBridge::with(setup).await;
        bridge.sign_in(AGENT).await.expect("signed in");
        set_busy(&bridge, "01").await.expect("busy");
        if conduct.is_some() {
            let asked = collector.asked.clone();
            until("an export is begun", || asked.load(Ordering::Relaxed) > 0).await;
        }
        for _ in 0..40 {
            set_busy(&bridge, "01").await.expect_err("busy already");
        }
        let metrics = bridge.scrape().await;
        let lost = |result| metrics[&format!("ccgw_spans_total{{result=\"{result}\"}}")];
        assert!(lost("exported") < 1.0);
        if conduct == Some(Conduct::Hangs) {
            // All but those that wait, and those that are being exported.
            assert!(lost("dropped") >= 4.0 * 41.0 - 8.0, "{}", lost("dropped"));
        }
        assert_eq!(bridge.bridge.drain().await, Drained::Clean);
    }
}
