//! `/` and `/status.json` on the admin port.

use ccgateway_bridge::rpc::proto::WatchEventsRequest;
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{AGENT, ClosedPort, Refusal, Setup, TestBridge, refused};
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
        "calls": 3, "calls_failed": 1, "requests": 3, "requests_unanswered": 0,
        "polls": 0, "sign_ins": 1, "events": 0,
    });
    assert_eq!((minute, &tenant["since_start"]), (&seen, &seen));
    assert!(tenant["gateways"][0]["last_answer"].is_string(), "{tenant}");
    assert_eq!(tenant["gateways"][0]["last_failure"], Value::Null);
    let sessions = tenant["shares"].as_array().expect("shares").iter();
    let sessions: Vec<_> = sessions.filter(|share| share["share"] == "sessions").collect();
    assert_eq!(sessions, [&json!({"share": "sessions", "taken": 1, "limit": 10_000})]);
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
    let page = page(&bridge).await;
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"), "{page}");
    assert!(page.contains("&lt;b&gt;99&lt;/b&gt;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    assert_eq!(status(&bridge).await["failures"][0]["gateway_message"], hostile);
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
