//! Sign-ins that the gateway accepts without a Guid, or with one that cannot be used.

use ccgateway_bridge::rpc::proto::SignInRequest;
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    AGENT, PASSWORD, Refusal, Setup, TestBridge, gateway,
    lossy::{Hides, LossyProxy},
    refused, within,
};
use tonic::Code;

/// A bridge that has agent 1001's password, with these lines of the tenant's.
async fn holding(tenant: &str) -> TestBridge {
    let (credentials, tenant) = (vec![AGENT], tenant.to_owned());
    TestBridge::with(Setup { tenant, credentials, ..<_>::default() }).await
}

/// An accepted sign-in with these headers. The agent is not signed in at the simulated gateway.
fn accepted(headers: &[(&str, &str)]) -> Fault {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Fault::Status {
        status: 200,
        headers: headers.iter().map(pair).collect(),
        body: br#"{"message":"","retcode":"0","result":{}}"#.to_vec(),
        content_type: "application/json".into(),
    }
}

/// What a call hears that has had the agent signed in, and out again.
async fn undone(bridge: &TestBridge) -> Refusal {
    refused(bridge.set_busy(AGENT).await, Code::Internal, "GATEWAY_BAD_REPLY", "unknown")
}

/// What a call hears that comes shortly after.
async fn held_back(bridge: &TestBridge) -> Refusal {
    let answer = bridge.set_busy(AGENT).await;
    refused(answer, Code::FailedPrecondition, "SIGN_IN_WITHOUT_GUID", "not_sent")
}

fn asked(bridge: &TestBridge) -> [usize; 3] {
    let times = |interface| bridge.asked(interface).len();
    [Interface::SignIn, Interface::ForceSignIn, Interface::SignOut].map(times)
}

#[tokio::test]
async fn an_agent_is_not_signed_in_and_out_for_every_call() {
    let gateway = gateway(Options { plaintext: true, ..<_>::default() }).await;
    let proxy = LossyProxy::to(gateway.addr()).await;
    let (base_url, credentials) = (Some(proxy.base_url()), vec![AGENT]);
    let tenant = "keep.rejected_for = \"1s\"\n".into();
    let setup = Setup { tenant, credentials, base_url, ..<_>::default() };
    let bridge = TestBridge::of(gateway, setup).await;
    proxy.hide(Some(Hides::OffAndOn));
    undone(&bridge).await;
    for _ in 0..5 {
        let refusal = held_back(&bridge).await;
        assert!(refusal.message.contains("Set-GUID"), "{}", refusal.message);
        assert!(refusal.details.precondition_failure().is_some());
    }
    assert_eq!(asked(&bridge), [1, 0, 1]);

    proxy.hide(None);
    let mended = async {
        while let Err(error) = bridge.set_busy(AGENT).await {
            assert_eq!(Refusal::from(error).reason, "SIGN_IN_WITHOUT_GUID");
        }
    };
    within("the sign-in is tried again", mended).await;
    assert_eq!(asked(&bridge), [2, 0, 1]);
}

#[tokio::test]
async fn a_session_without_a_guid_that_cannot_be_ended_is_no_other_clients() {
    let gateway = gateway(Options { plaintext: true, ..<_>::default() }).await;
    let proxy = LossyProxy::to(gateway.addr()).await;
    let (base_url, credentials) = (Some(proxy.base_url()), vec![AGENT]);
    let tenant = "keep.rejected_for = \"1s\"\n".into();
    let setup = Setup { tenant, credentials, base_url, ..<_>::default() };
    let bridge = TestBridge::of(gateway, setup).await;
    proxy.hide(Some(Hides::Off));
    let refusal = undone(&bridge).await;
    assert!(refusal.message.contains("could not be signed out again"), "{}", refusal.message);
    proxy.hide(None);
    let next = async {
        loop {
            let refusal = Refusal::from(bridge.set_busy(AGENT).await.expect_err("signed in"));
            if refusal.reason != "SIGN_IN_WITHOUT_GUID" {
                return refusal;
            }
        }
    };
    let refusal = within("the sign-in is tried again", next).await;
    assert_eq!(refusal.reason, "SESSION_GUID_LOST", "{}", refusal.message);
}

#[tokio::test]
async fn an_unusable_guid_is_treated_like_a_missing_one() {
    let long = "x".repeat(300);
    for (header, value) in [("Set-GUID", "JSESSIONID="), ("Set-GUID", &long), ("Guid", "a b")] {
        let bridge = holding("").await;
        let rule = Misbehaviour::once(accepted(&[(header, value)])).on(Interface::SignIn);
        bridge.gateway.misbehave(rule);
        let refusal = undone(&bridge).await;
        assert!(refusal.message.contains("with an unusable Guid"), "{}", refusal.message);
        held_back(&bridge).await;
        assert_eq!(asked(&bridge), [1, 0, 1]);
    }
}

#[tokio::test]
async fn a_forcible_sign_in_without_a_guid_is_undone_and_held_back_too() {
    let bridge = TestBridge::start().await;
    bridge.gateway.sign_in(AGENT);
    let fault = accepted(&[("Set-Cookie", "node=7; Path=/")]);
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::ForceSignIn));
    let (agent_id, password) = (AGENT.to_string(), Some(PASSWORD.to_owned()));
    let request = SignInRequest { agent_id, password, force: true, ..<_>::default() };
    let answer = bridge.sessions.clone().sign_in(request.clone()).await;
    refused(answer, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");
    for _ in 0..3 {
        let answer = bridge.sessions.clone().sign_in(request.clone()).await;
        refused(answer, Code::FailedPrecondition, "SIGN_IN_WITHOUT_GUID", "not_sent");
    }
    assert_eq!(asked(&bridge), [1, 1, 1]);
    assert_eq!(bridge.asked(Interface::SignOut)[0].header("cookie"), Some("node=7"));
}

#[tokio::test]
async fn the_sign_out_goes_to_the_node_that_has_made_the_session() {
    let bridge = holding("").await;
    let cookies = [("Set-Cookie", "lb=node1; Path=/; Secure"), ("Set-Cookie", "x=2")];
    bridge.gateway.misbehave(Misbehaviour::once(accepted(&cookies)).on(Interface::SignIn));
    undone(&bridge).await;
    let sign_out = &bridge.asked(Interface::SignOut)[0];
    assert_eq!(sign_out.header("cookie"), Some("lb=node1; x=2"));
    assert_eq!(sign_out.header("guid"), None);
}

#[tokio::test]
async fn the_error_says_what_is_known_about_the_sign_out() {
    let no_right = Fault::Retcode { retcode: "000-003".into(), message: String::new() };
    for (fault, words) in [
        (Fault::CutBeforeAnswer, "whether the agent was signed out again is not known"),
        (no_right, "the agent could not be signed out again"),
    ] {
        let bridge = holding("").await;
        bridge.gateway.misbehave(Misbehaviour::once(accepted(&[])).on(Interface::SignIn));
        bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SignOut));
        let refusal = undone(&bridge).await;
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
}

#[tokio::test]
async fn another_password_is_tried_at_once_and_success_ends_the_pause() {
    let bridge = TestBridge::with(Setup {
        credentials: vec![AGENT],
        password: Some("another"),
        ..<_>::default()
    })
    .await;
    bridge.gateway.misbehave(Misbehaviour::once(accepted(&[])).on(Interface::SignIn));
    undone(&bridge).await;
    held_back(&bridge).await;
    bridge.sign_in(AGENT).await.expect("another password is tried");
    bridge.set_busy(AGENT).await.expect("there is a session");
}

#[tokio::test]
async fn an_accepted_sign_in_without_a_guid_is_counted_as_that() {
    let bridge = holding("").await;
    bridge.gateway.misbehave(Misbehaviour::once(accepted(&[])).on(Interface::SignIn));
    undone(&bridge).await;
    let series = bridge.scrape().await;
    let counted = |result: &str| {
        let labels = format!("tenant=\"acme\",interface=\"login\",result=\"{result}\"");
        series.get(&format!("ccgw_gateway_requests_total{{{labels}}}")).copied()
    };
    assert_eq!([counted("no_guid"), counted("ok")], [Some(1.0), Some(0.0)]);
}

#[tokio::test]
async fn an_earlier_refusal_is_reported_with_the_reason_why_the_bridge_did_not_ask_again() {
    let bridge = holding("").await;
    bridge.gateway.misbehave(Misbehaviour::once(accepted(&[])).on(Interface::SignIn));
    undone(&bridge).await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    let (retcode, message) = ("000-003".to_owned(), "the Guid is of yesterday".to_owned());
    let expired = Misbehaviour::always(Fault::Retcode { retcode, message });
    bridge.gateway.misbehave(expired.on(Interface::SayBusy));

    let answer = bridge.set_busy(AGENT).await;
    let refusal = refused(answer, Code::FailedPrecondition, "SIGN_IN_WITHOUT_GUID", "refused");
    assert_eq!(refusal.metadata["retcode"], "000-003");
    assert_eq!(refusal.metadata["gateway_message"], "the Guid is of yesterday");
    assert_eq!(refusal.metadata["gateway_node"], "AgentGateway0");
    let first = "the gateway refused a first attempt with retcode 000-003, and then: ";
    assert!(refusal.message.starts_with(first), "{}", refusal.message);
    assert!(refusal.message.contains("of yesterday"), "{}", refusal.message);
}
