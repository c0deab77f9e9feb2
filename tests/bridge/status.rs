//! `/` and `/status.json` on the admin port.

use ccgateway_bridge::rpc::proto::WatchEventsRequest;
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, ClosedPort, Refusal, Setup, TestBridge, kept, refused};
use serde_json::{Value, json};
use tonic::Code;

/// Elements that have no end.
const VOID: [&str; 3] = ["br", "link", "meta"];

async fn page(bridge: &TestBridge) -> String {
    let (head, page) = bridge.ask("GET /").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(unbalanced(&page), None, "{page}");
    page
}

async fn status(bridge: &TestBridge) -> Value {
    let (head, body) = bridge.ask("GET /status.json").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).expect("JSON")
}

fn refusing(retcode: &str, message: &str) -> Misbehaviour {
    let (retcode, message) = (retcode.to_owned(), message.to_owned());
    Misbehaviour::always(Fault::Retcode { retcode, message }).on(Interface::SayBusy)
}

/// The first tag that is not where it should be; also what can be no tag.
fn unbalanced(page: &str) -> Option<String> {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1) {
        let Some((tag, text)) = tag.split_once('>') else { return Some(tag.to_owned()) };
        if text.contains('>') && open.last() != Some(&"style") {
            return Some(text.to_owned());
        }
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return Some(tag.to_owned()),
            Some(_) => {}
            None if VOID.contains(&name) => {}
            None => open.push(name),
        }
        // An attribute is a name and a value in quotes.
        if tag.matches('"').count() != 2 * tag.matches("=\"").count() {
            return Some(tag.to_owned());
        }
    }
    open.pop().map(str::to_owned)
}

#[test]
fn a_page_with_a_wrong_tag_is_found() {
    for (page, problem) in [
        ("<p class=\"a\">x<br></p>", None),
        ("<p>x", Some("p")),
        ("<p><b>x</p></b>", Some("/p")),
        ("<p>a > b</p>", Some("a > b")),
        ("<p class=\"a\"b\">x</p>", Some("p class=\"a\"b\"")),
    ] {
        let found = unbalanced(&format!("<!DOCTYPE html>{page}"));
        assert_eq!(found.as_deref(), problem, "{page}");
    }
}

#[tokio::test]
async fn a_refused_call_is_on_the_page_and_in_the_json() {
    let bridge = TestBridge::signed_in().await;
    bridge.set_busy(AGENT).await.expect("busy");
    bridge.gateway.misbehave(refusing("100-007", "of no avail"));
    refused(bridge.set_busy(AGENT).await, Code::Internal, "GATEWAY_OPERATION_FAILED", "refused");

    let status = status(&bridge).await;
    assert_eq!((&status["state"], &status["format_version"]), (&json!("ready"), &json!(1)));
    let moment = |name: &str| {
        let text = status[name].as_str().unwrap_or_else(|| panic!("no {name} in {status}"));
        humantime::parse_rfc3339(text).unwrap_or_else(|_| panic!("{name}: {text}"))
    };
    assert!(moment("start_time") <= moment("time"));
    let tenant = &status["tenants"][0];
    assert_eq!(tenant["tenant"], "acme");
    let minute = &tenant["last_minute"];
    let seen = json!({
        "calls": 3, "calls_failed": 1, "calls_over_own_share": 0, "calls_refused": 0,
        "calls_cancelled": 0, "requests": 3, "requests_unanswered": 0,
        "polls": 0, "sign_ins": 1, "events": 0,
    });
    assert_eq!((minute, &tenant["since_start"]), (&seen, &seen));
    assert!(tenant["gateways"][0]["last_answer"].is_string(), "{tenant}");
    assert_eq!(tenant["gateways"][0]["last_failure"], Value::Null);
    let sessions = tenant["shares"].as_array().expect("shares").iter();
    let sessions: Vec<_> = sessions.filter(|share| share["share"] == "sessions").collect();
    assert_eq!(sessions, [&json!({"share": "sessions", "taken": 1, "limit": 10_000})]);
    assert_eq!((&tenant["verdict"], &tenant["gateway"]), (&json!("failing"), &json!("answers")));
    let counts = json!({"answering": 1, "silent": 0, "not_asked": 0});
    assert_eq!(status["gateways"], counts);
    assert!(tenant["gateway_times"]["p99_seconds"].as_f64().is_some_and(|p99| p99 > 0.0));
    let failure = &status["failures"][0];
    for (key, value) in [
        ("tenant", "acme"),
        ("method", "SetBusy"),
        ("code", "INTERNAL"),
        ("reason", "GATEWAY_OPERATION_FAILED"),
        ("outcome", "refused"),
        ("retcode", "100-007"),
        ("gateway_message", "of no avail"),
    ] {
        assert_eq!(failure[key], value, "{failure}");
    }

    let page = page(&bridge).await;
    for shown in [
        "<h2>acme</h2>",
        "gateway answers",
        "GATEWAY_OPERATION_FAILED<br>100-007",
        "The gateway says: of no avail",
        "33.3 %",
        "<td>sessions</td>",
        "ca of acme",
        "1 of 1 ill: <a href=\"/?tenant=acme\">acme</a> (calls fail)",
        "1 of 3 calls failed in the last minute; the last one: SetBusy GATEWAY_OPERATION_FAILED 100-007",
        "Gateways: 1 of 1 answer",
        "66.6 %",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
}

#[tokio::test]
async fn text_from_gateways_and_callers_is_escaped() {
    let hostile = "<script>alert('1')</script>\" onload=\"x&";
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.misbehave(refusing("<b>99</b>", hostile));
    bridge.set_busy(AGENT).await.expect_err("refused");
    let (_, of_agent) = bridge.ask("GET /agent?tenant=acme&agent=1001").await;
    let page = page(&bridge).await;
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"), "{page}");
    for page in [page, of_agent] {
        assert_eq!(unbalanced(&page), None, "{page}");
        assert!(page.contains("&lt;b&gt;99&lt;/b&gt;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    }
    assert_eq!(status(&bridge).await["failures"][0]["gateway_message"], hostile);
}

/// Refusals are no failures, and their callers may well know of them. But where nearly all is refused, something is wrong.
#[tokio::test]
async fn a_tenant_whose_calls_are_nearly_all_refused_is_not_well() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.misbehave(refusing("100-009", "no such seat"));
    for _ in 0..40 {
        let refusal = bridge.set_busy(AGENT).await;
        refused(refusal, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
    }
    let status = status(&bridge).await;
    let tenant = &status["tenants"][0];
    assert_eq!(tenant["verdict"], "refusing", "{tenant}");
    assert_eq!(tenant["last_minute"]["calls_refused"], 40);
    assert_eq!(status["failures"], json!([]));
    let group = &status["failure_groups"][0];
    assert_eq!((&group["refused"], &group["count"]), (&json!(true), &json!(40)), "{group}");
    let page = page(&bridge).await;
    for shown in [
        "1 of 1 ill",
        "(calls are refused)",
        "40 of 41 calls were refused in the last minute; the last one: SetBusy AGENT_STATE_REFUSED 100-009 &quot;no such seat&quot;",
        "<h2>Refused calls",
        "×40",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
}

#[tokio::test]
async fn an_agent_can_be_looked_up_with_its_session_its_failed_calls_and_its_events() {
    let bridge = TestBridge::signed_in().await;
    bridge.set_busy(AGENT).await.expect("busy");
    bridge.gateway.misbehave(refusing("100-007", "of no avail"));
    bridge.set_busy(AGENT).await.expect_err("refused");
    let (head, body) = bridge.ask("GET /agent.json?tenant=acme&agent=1001").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
    let agent: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&agent["tenant"], &agent["agent"]), (&json!("acme"), &json!("1001")));
    assert_eq!(agent["session"]["origin"], "sign_in", "{agent}");
    let [failed] = &agent["failed_calls"].as_array().expect("calls")[..] else {
        panic!("{agent}");
    };
    for (key, value) in [
        ("method", "SetBusy"),
        ("reason", "GATEWAY_OPERATION_FAILED"),
        ("outcome", "refused"),
        ("retcode", "100-007"),
    ] {
        assert_eq!(failed[key], value, "{failed}");
    }
    let (head, page) = bridge.ask("GET /agent?tenant=acme&agent=1001").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(unbalanced(&page), None, "{page}");
    assert!(page.contains("from a sign-in of the bridge, stored "), "{page}");
    let (_, of_other) = bridge.ask("GET /agent.json?tenant=acme&agent=1002").await;
    let of_other: Value = serde_json::from_str(&of_other).expect("JSON");
    assert_eq!((&of_other["session"], &of_other["failed_calls"]), (&Value::Null, &json!([])));
    for (path, status, said) in [
        ("/agent?tenant=other&agent=1001", "404", "no such tenant"),
        ("/agent.json?agent=1001", "404", "no such tenant"),
        ("/?tenant=other", "404", "no such tenant"),
        ("/status.json?tenant=", "404", "no such tenant"),
        ("/agent?tenant=acme&agent=1", "400", "must be from 101 to"),
        ("/agent?tenant=acme&agent=%31001", "400", "must be decimal digits"),
        ("/agent?tenant=acme", "400", "is missing"),
    ] {
        let (head, body) = bridge.ask(&format!("GET {path}")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        assert!(body.contains(said), "{path}: {body}");
    }
}

#[tokio::test]
async fn the_events_of_a_session_are_told_with_their_agent() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let (_, body) = bridge.ask("GET /agent.json?tenant=acme&agent=1001").await;
    let agent: Value = serde_json::from_str(&body).expect("JSON");
    let is_told = |events: &Value| {
        let mut events = events.as_array().expect("events").iter();
        events.any(|event| event["event"] == "session kept" && event["agent"] == "1001")
    };
    assert_eq!((&agent["session_state"], &agent["is_polled_here"]), (&json!("kept"), &json!(true)));
    assert!(is_told(&agent["events"]), "{agent}");
    assert!(is_told(&status(&bridge).await["events"]));
    assert!(page(&bridge).await.contains("<a href=\"/agent?tenant=acme&amp;agent=1001\">1001</a>"));
}

#[tokio::test]
async fn a_hundred_tenants_have_a_row_each_and_each_has_a_page_of_its_own() {
    let tenants = (0..99).map(|number| {
        format!("[tenants.t{number}]\nbase_urls = [\"https://gateway{number}.example\"]\n")
    });
    let setup = Setup { settings: tenants.collect(), ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    let all = page(&bridge).await;
    assert_eq!(all.matches("class=\"name\"").count(), 100);
    assert!(all.contains("Nothing is wrong with any tenant (100)"), "{all}");
    assert!(all.contains("Gateways: 0 of 100 answer, 100 not asked yet"), "{all}");
    assert!(!all.contains("<h2>t7</h2>"), "{all}");
    let (_, one) = bridge.ask("GET /?tenant=t7&refresh=5").await;
    assert_eq!(unbalanced(&one), None, "{one}");
    assert!(one.contains("<h2>t7</h2>") && !one.contains(">t8</a>"), "{one}");
    let (_, json) = bridge.ask("GET /status.json?tenant=t7").await;
    let status: Value = serde_json::from_str(&json).expect("JSON");
    let tenants = status["tenants"].as_array().expect("tenants");
    assert!(tenants.len() == 1 && tenants[0]["tenant"] == "t7", "{tenants:?}");
}

#[tokio::test]
async fn a_guid_in_a_gateways_text_is_not_shown() {
    let bridge = TestBridge::start().await;
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    bridge.gateway.misbehave(refusing("100-007", &format!("not with {guid}!")));
    let refusal = Refusal::from(bridge.set_busy(AGENT).await.expect_err("refused"));
    let (_, json) = bridge.ask("GET /status.json").await;
    let (secret, node) = guid.split_once('.').expect("a node");
    let told = format!("{} {:?}", refusal.message, refusal.details);
    for shown in [page(&bridge).await, json, told] {
        assert!(shown.contains(&format!("not with ….{node}!")), "{shown}");
        assert!(!shown.contains(secret), "the Guid is shown");
    }
}

#[tokio::test]
async fn only_the_last_failures_are_kept() {
    let bridge = TestBridge::signed_in().await;
    for number in 0..25 {
        let rule = refusing("100-007", &format!("number {number}"));
        bridge.gateway.misbehave(Misbehaviour { times: Some(1), ..rule });
        bridge.set_busy(AGENT).await.expect_err("refused");
    }
    let status = status(&bridge).await;
    let failures = status["failures"].as_array().expect("failures");
    let messages: Vec<_> = failures.iter().filter_map(|f| f["gateway_message"].as_str()).collect();
    let expected: Vec<_> = (5..25).rev().map(|number| format!("number {number}")).collect();
    assert_eq!(messages, expected);
}

/// Callers' own mistakes, and streams that end as they should, are nobody's trouble here.
#[tokio::test]
async fn errors_that_the_caller_causes_are_not_listed_as_failures() {
    let bridge = TestBridge::start().await;
    bridge.set_busy(7).await.expect_err("no such agent");
    bridge.set_busy(AGENT).await.expect_err("no session");
    let mut watching = tonic::Request::new(WatchEventsRequest::default());
    watching.set_timeout(std::time::Duration::from_millis(50));
    let mut stream = bridge.events.clone().watch_events(watching).await.expect("watching");
    let stream = stream.get_mut();
    while stream.message().await.is_ok() {}
    assert_eq!(status(&bridge).await["failures"], json!([]));
    assert!(page(&bridge).await.contains("No call has failed"));
}

#[tokio::test]
async fn a_failing_address_is_shown_with_its_cause() {
    let nobody = ClosedPort::new();
    let first = nobody.addr;
    let bridge = TestBridge::with(Setup { first: Some(first), ..<_>::default() }).await;
    let before = page(&bridge).await;
    assert!(before.contains("gateway not asked yet"), "{before}");
    bridge.sign_in(AGENT).await.expect("signed in elsewhere");
    let status = status(&bridge).await;
    let [failing, good] = &status["tenants"][0]["gateways"].as_array().expect("two")[..] else {
        panic!("{status}");
    };
    assert_eq!(failing["host"], first.to_string());
    assert_eq!((&failing["in_use"], &good["in_use"]), (&json!(false), &json!(true)));
    assert!(failing["last_failure"]["error"].as_str().is_some_and(|e| e.contains("refused")));
    assert!(page(&bridge).await.contains("gateway answers"));
}

#[tokio::test]
async fn the_admin_port_lists_its_pages_and_forbids_other_content() {
    let bridge = TestBridge::start().await;
    for (request, status) in [
        ("GET /", "200"),
        ("GET /?refresh=5", "200"),
        ("GET /status.json", "200"),
        ("GET /favicon.ico", "404"),
        // There is no log to change in a process that does not log.
        ("GET /log", "404"),
        ("PUT /log", "404"),
        ("POST /nothing", "404"),
        ("POST /", "405"),
        ("DELETE /status.json", "405"),
        ("OPTIONS /metrics", "405"),
        ("POST /healthz", "405"),
        ("PUT /readyz?verbose", "405"),
    ] {
        let (head, body) = bridge.ask(request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        for header in [
            "content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{request}: {head}");
        }
        let names =
            head.contains("allow: GET, HEAD\r\n") && body.contains("allowed are: GET, HEAD\n");
        assert_eq!(names, status == "405", "{request}: {head}\n{body}");
        assert_eq!(head.contains("refresh: 5"), request.contains("refresh"), "{head}");
        assert_eq!(body.contains("/status.json  "), status != "200", "{request}: {body}");
    }
}
