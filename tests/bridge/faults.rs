//! A gateway that fails: each failure has its own status, and the bridge goes on serving.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::SetBusyRequest;
use ccgateway_sim::{CertificateKind, Fault, Interface, Misbehaviour, Options, ServerIdentity};
use ccgateway_test_support::{AGENT, ClosedPort, Refusal, Setup, TestBridge, refused, until};
use tonic::{Code, Request};

/// The fault of one `SetBusy`, after which the next one succeeds.
async fn after(fault: Fault, code: Code, reason: &str, outcome: &str) -> Refusal {
    let bridge = without_read_back("").await;
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
    let refusal = refused(bridge.set_busy(AGENT).await, code, reason, outcome);
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 1, "an unclear answer is never repeated");
    bridge.set_busy(AGENT).await.expect("the bridge goes on serving");
    refusal
}

/// A bridge that does not ask what became of a change. Agent 1001 is signed in.
async fn without_read_back(tenant: &str) -> TestBridge {
    let tenant = format!("read_back = false\n{tenant}");
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge
}

fn raw(body: impl Into<Vec<u8>>) -> Fault {
    let content_type = "application/json".into();
    Fault::Raw { body: body.into(), content_type, headers: Vec::new() }
}

fn status(status: u16, headers: &[(&str, &str)]) -> Fault {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers = headers.iter().map(own).collect();
    let body = b"<html><title>Server says no</title></html>".to_vec();
    Fault::Status { status, headers, body, content_type: "text/html".into() }
}

#[tokio::test]
async fn a_gateway_that_is_down_was_not_asked() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.stop().await;
    let result = bridge.set_busy(AGENT).await;
    let refusal = refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    assert!(refusal.message.contains("Connection refused"), "{}", refusal.message);
    assert!(refusal.details.retry_info().is_some());
    assert_eq!(refusal.pushback.as_deref(), Some("1000"));

    bridge.gateway.restart(false).await.expect("restarted");
    bridge.set_busy(AGENT).await.expect("the bridge goes on serving");
}

#[tokio::test]
async fn a_delay_that_does_not_fit_before_the_deadline_keeps_no_library_waiting() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.stop().await;
    for (timeout, expected) in
        [(Duration::from_millis(900), "-1"), (Duration::from_secs(60), "1000")]
    {
        let mut request =
            Request::new(SetBusyRequest { agent_id: "1001".into(), ..<_>::default() });
        request.set_timeout(timeout);
        let result = bridge.states.clone().set_busy(request).await;
        let refusal = refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
        assert_eq!(refusal.pushback.as_deref(), Some(expected));
        let delay = refusal.details.retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_secs(1)), "the details stay");
    }
}

#[tokio::test]
async fn a_gateway_with_an_unknown_ca_was_not_asked() {
    let gateway = Options {
        tls: Some(ServerIdentity::generate(CertificateKind::Signed).expect("generated")),
        ..<_>::default()
    };
    let tenant = "tls.pinned_sha256 = \
                  \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
    for (tenant, remedy) in [(tenant, "tls.pinned_sha256"), ("# tls\n", "tls.ca_file")] {
        let setup = Setup { gateway: gateway.clone(), tenant: tenant.into(), ..<_>::default() };
        let bridge = TestBridge::with(setup).await;
        let result = bridge.sign_in(AGENT).await;
        let refusal = refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
        assert!(refusal.message.contains("certificate"), "{}", refusal.message);
        assert!(refusal.message.contains(remedy), "{}", refusal.message);
    }
}

#[tokio::test]
async fn a_failed_handshake_was_no_request() {
    let bridge = TestBridge::start().await;
    bridge.gateway.misbehave(Misbehaviour::once(Fault::TlsFailure));
    let result = bridge.sign_in(AGENT).await;
    refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    bridge.sign_in(AGENT).await.expect("the next handshake works");
}

#[tokio::test]
async fn web_pages_and_invalid_bodies_are_bad_replies() {
    let (internal, reason) = (Code::Internal, "GATEWAY_BAD_REPLY");
    let html = after(Fault::Html, internal, reason, "unknown").await;
    assert!(html.message.contains("web page"), "{}", html.message);
    let long = format!(r#"{{"retcode":"0","message":"{}"}}"#, "x".repeat(65 * 1024));
    for body in ["", "OK", r#"{"retcode":"0","mess"#, r#"{"message":"success"}"#, "[0]", &long] {
        let refusal = after(raw(body), internal, reason, "unknown").await;
        assert_eq!(refusal.pushback.as_deref(), Some("-1"));
        assert!(refusal.details.retry_info().is_none());
    }
    for retcode in ["false", "null", "{}", "0.0"] {
        after(raw(format!(r#"{{"retcode":{retcode}}}"#)), internal, reason, "unknown").await;
    }
}

#[tokio::test]
async fn unusual_forms_of_success_are_success() {
    for body in [
        r#"{"message":"success","retcode":0,"result":{}}"#,
        r#"{"message":null,"retcode":"0","result":null}"#,
        r#"{"retcode":"0","result":""}"#,
        r#"{"retcode":"0","result":[],"more":{"x":[1]}}"#,
    ] {
        let bridge = TestBridge::signed_in().await;
        bridge.gateway.misbehave(Misbehaviour::once(raw(body)).on(Interface::SayBusy));
        let answer = bridge.set_busy(AGENT).await.expect(body);
        assert_eq!(answer.retcode, "0");
    }
}

#[tokio::test]
async fn envelopes_in_other_charsets_are_read() {
    let bridge = TestBridge::signed_in().await;
    // GBK for a message of two characters; not UTF-8.
    let body = b"{\"retcode\":\"100-009\",\"message\":\"\xd7\xf8\xcf\xaf\"}".to_vec();
    let headers = vec![("JSON-Type".to_owned(), "application/json;charset=GBK".to_owned())];
    let fault = Fault::Raw { body, content_type: "text/plain".into(), headers };
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
    let result = bridge.set_busy(AGENT).await;
    let refusal = refused(result, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
    assert_eq!(refusal.metadata["gateway_message"], "坐席");
}

#[tokio::test]
async fn each_http_status_has_its_own_reason() {
    let (proxy, missing, other) =
        ("GATEWAY_PROXY_FAILED", "GATEWAY_INTERFACE_MISSING", "GATEWAY_HTTP_STATUS");
    for (number, code, reason, outcome, pushback) in [
        (502, Code::Unknown, proxy, "unknown", Some("-1")),
        (503, Code::Unknown, proxy, "unknown", Some("-1")),
        (504, Code::Unknown, proxy, "unknown", Some("-1")),
        (302, Code::Internal, other, "unknown", Some("-1")),
        (400, Code::Internal, other, "unknown", Some("-1")),
        (401, Code::Internal, other, "unknown", Some("-1")),
        (403, Code::Internal, other, "unknown", Some("-1")),
        (404, Code::Internal, missing, "refused", None),
        (405, Code::Internal, missing, "refused", None),
        (500, Code::Internal, other, "unknown", Some("-1")),
    ] {
        let refusal = after(status(number, &[]), code, reason, outcome).await;
        assert_eq!(refusal.metadata["http_status"], number.to_string());
        assert_eq!(refusal.pushback.as_deref(), pushback, "{number}");
    }
    for (number, headers, seconds) in [
        (429, &[][..], 1),
        (503, &[("Retry-After", "7")], 7),
        (503, &[("Retry-After", "31536000")], 300),
    ] {
        let wait = status(number, headers);
        let refusal = after(wait, Code::Unavailable, "GATEWAY_BUSY", "refused").await;
        let delay = refusal.details.retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_secs(seconds)));
        assert_eq!(refusal.pushback.as_deref(), Some(&*format!("{seconds}000")));
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_leaves_the_outcome_unknown() {
    for fault in [Fault::CutBeforeAnswer, Fault::CutMidAnswer] {
        let refusal = after(fault, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown").await;
        assert_eq!(refusal.pushback.as_deref(), Some("-1"));
    }
}

#[tokio::test]
async fn a_gateway_that_hangs_is_given_its_time_and_no_more() {
    let bridge = without_read_back("timeouts.request = \"100ms\"\n").await;
    bridge.gateway.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SayBusy));
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    bridge.set_busy(AGENT).await.expect("the bridge goes on serving");
}

#[tokio::test]
async fn a_deadline_that_passes_says_whether_the_gateway_had_been_asked() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SayBusy));
    let mut request = Request::new(SetBusyRequest { agent_id: "1001".into(), ..<_>::default() });
    request.set_timeout(Duration::from_millis(300));
    let result = bridge.states.clone().set_busy(request).await;
    let refusal = refused(result, Code::DeadlineExceeded, "DEADLINE", "unknown");
    assert_eq!(refusal.pushback.as_deref(), Some("-1"));
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 1);

    // The agent's turn is still with the call that hangs, so this one is never sent.
    let mut request = Request::new(SetBusyRequest { agent_id: "1001".into(), ..<_>::default() });
    request.set_timeout(Duration::from_millis(100));
    let result = bridge.states.clone().set_busy(request).await;
    refused(result, Code::DeadlineExceeded, "DEADLINE", "not_sent");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 1);
}

#[tokio::test]
async fn nothing_is_started_with_too_little_time_left() {
    let bridge = TestBridge::signed_in().await;
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(20)] {
        let mut request =
            Request::new(SetBusyRequest { agent_id: "1001".into(), ..<_>::default() });
        request.set_timeout(timeout);
        let result = bridge.states.clone().set_busy(request).await;
        refused(result, Code::DeadlineExceeded, "DEADLINE", "not_sent");
    }
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn a_malformed_timeout_is_the_callers_mistake() {
    let bridge = TestBridge::signed_in().await;
    let mut request = Request::new(SetBusyRequest { agent_id: "1001".into(), ..<_>::default() });
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("ascii"));
    let result = bridge.states.clone().set_busy(request).await;
    let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
    assert_eq!(violations[0].field, "grpc-timeout");
}

#[tokio::test]
async fn connections_that_the_gateway_closes_cost_no_call() {
    let bridge = TestBridge::signed_in().await;
    let closing = Misbehaviour::always(Fault::CloseAfterAnswer).on(Interface::SayBusy);
    bridge.gateway.misbehave(closing);
    for _ in 0..50 {
        bridge.set_busy(AGENT).await.expect("accepted");
    }
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 50);
}

#[tokio::test]
async fn the_second_address_takes_over_where_the_first_refuses_connections() {
    let nobody = ClosedPort::new();
    let bridge = TestBridge::with(Setup { first: Some(nobody.addr), ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in through the second address");
    bridge.set_busy(AGENT).await.expect("accepted");
}

/// Two addresses of which the first refuses connections, with one request at once for each host.
async fn two_addresses(queue_wait: &str) -> (TestBridge, ClosedPort) {
    let nobody = ClosedPort::new();
    let tenant = format!(
        "breaker.failures = 0\nlimits.queue_wait = \"{queue_wait}\"\n[gateway]\nhost_requests = 1\n"
    );
    let bridge =
        TestBridge::with(Setup { first: Some(nobody.addr), tenant, ..<_>::default() }).await;
    for agent in [1001, 1002] {
        bridge.register(agent, &bridge.gateway.sign_in(agent)).await.expect("registered");
    }
    (bridge, nobody)
}

/// What a call hears that finds the second address taken by another one.
async fn behind_another(queue_wait: &str, timeout: Duration) -> Refusal {
    let (bridge, _nobody) = two_addresses(queue_wait).await;
    bridge.gateway.freeze();
    let first = bridge.set_busy(1001);
    let second = async {
        until("a request", || !bridge.gateway.journal().is_empty()).await;
        let mut request =
            Request::new(SetBusyRequest { agent_id: "1002".into(), ..<_>::default() });
        request.set_timeout(timeout);
        let answer = bridge.states.clone().set_busy(request).await;
        bridge.gateway.thaw();
        Refusal::from(answer.expect_err("there is no place"))
    };
    let (answer, refusal) = tokio::join!(first, second);
    answer.expect("accepted");
    refusal
}

#[tokio::test]
async fn a_wait_for_the_second_address_ends_with_the_deadline_and_names_the_first() {
    let refusal = behind_another("10s", Duration::from_millis(500)).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::DeadlineExceeded, "DEADLINE"));
    assert_eq!(refusal.metadata["outcome"], "not_sent");
    assert!(refusal.message.contains("Connection refused"), "{}", refusal.message);

    let refusal = behind_another("50ms", Duration::from_secs(20)).await;
    let seen = (refusal.code, refusal.reason.as_str());
    assert_eq!(seen, (Code::ResourceExhausted, "TENANT_OVERLOADED"));
    assert_eq!(refusal.metadata["outcome"], "not_sent");
    assert!(refusal.message.contains("Connection refused"), "{}", refusal.message);
}
