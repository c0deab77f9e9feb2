//! A session ends with its sign-out, whatever the gateway says of it meanwhile.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    AGENT, Setup, TestBridge, gateway,
    lossy::{Loss, LossyProxy},
    refused, until_asked, within,
};
use tokio::join;
use tonic::Code;

/// A bridge that polls for agent 1001, whose password is in its file, through a proxy.
async fn keeping() -> (LossyProxy, TestBridge) {
    keeping_with("").await
}

/// The same with these lines of the tenant's.
async fn keeping_with(lines: &str) -> (LossyProxy, TestBridge) {
    let poll_wait = Duration::from_millis(20);
    let gateway = gateway(Options { plaintext: true, poll_wait, ..<_>::default() }).await;
    let proxy = LossyProxy::to(gateway.addr()).await;
    let setup = Setup {
        base_url: Some(proxy.base_url()),
        tenant: format!("keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n{lines}"),
        credentials: vec![AGENT],
        keep: true,
        ..<_>::default()
    };
    let bridge = TestBridge::of(gateway, setup).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    (proxy, bridge)
}

/// Nobody has a session of the agent any more, and only one was made.
async fn is_out(bridge: &TestBridge) {
    let status = bridge.find_session(AGENT).await.expect_err("it has ended");
    assert_eq!(status.code(), Code::NotFound);
    assert!(bridge.gateway.agent(AGENT).is_none_or(|agent| !agent.signed_in));
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_sign_out_whose_answer_is_lost_is_not_undone() {
    // Whether the agent is signed out can be asked for, or only the next polls show it.
    for can_be_asked in [true, false] {
        let (proxy, bridge) = keeping().await;
        if !can_be_asked {
            let refused = Fault::Retcode { retcode: "999-999".into(), message: String::new() };
            bridge.gateway.misbehave(Misbehaviour::always(refused).on(Interface::AgentStatus));
        }
        proxy.lose("/logout", Loss::BeforeAnswer);
        let answer = bridge.sign_out(AGENT).await;
        refused(answer, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
        let has_ended = async || bridge.find_session(AGENT).await.is_err();
        until_asked("the end of the session", has_ended).await;
        is_out(&bridge).await;
        // A call has the agent signed in again, with the password of the file.
        bridge.set_busy(AGENT).await.expect("accepted");
    }
}

#[tokio::test]
async fn a_sign_out_that_is_carried_out_after_its_time_limit_is_not_undone() {
    let (_proxy, bridge) = keeping_with("timeouts.request = \"200ms\"\n").await;
    let slow = Fault::DelayBefore(Duration::from_secs(1));
    bridge.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignOut));
    let answer = bridge.sign_out(AGENT).await;
    refused(answer, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    let has_ended = async || bridge.find_session(AGENT).await.is_err();
    until_asked("the end of the session", has_ended).await;
    is_out(&bridge).await;
}

#[tokio::test]
async fn a_session_goes_on_if_its_sign_out_was_lost_on_the_way() {
    let (proxy, bridge) = keeping().await;
    let before = bridge.session(AGENT).await.guid_version;
    proxy.lose("/logout", Loss::InRequest);
    let answer = bridge.sign_out(AGENT).await;
    refused(answer, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    bridge.set_busy(AGENT).await.expect("accepted");
    assert_eq!(bridge.session(AGENT).await.guid_version, before);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
    bridge.sign_out(AGENT).await.expect("signed out");
    is_out(&bridge).await;
}

async fn sign_ins_under_way(bridge: &TestBridge) -> u64 {
    let (_, json) = bridge.ask("GET /status.json").await;
    let status: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    status["tenants"][0]["sign_ins"]["under_way"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_guid_that_comes_with_the_answer_to_a_sign_out_ends_with_it() {
    for registered in [false, true] {
        let setup = Setup { credentials: vec![AGENT], ..<_>::default() };
        let bridge = TestBridge::with(setup).await;
        bridge.sign_in(AGENT).await.expect("signed in");
        if registered {
            let guid = bridge.gateway.agent(AGENT).and_then(|agent| agent.guid).expect("a Guid");
            bridge.register(AGENT, &guid).await.expect("registered");
        }
        let fault = Fault::StaleSetGuid("late.AgentGateway0".into());
        bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SignOut));
        bridge.sign_out(AGENT).await.expect("signed out");
        is_out(&bridge).await;
    }
}

#[tokio::test]
async fn a_guid_that_is_renewed_during_a_sign_out_ends_with_it() {
    let (proxy, bridge) = keeping().await;
    let before = bridge.session(AGENT).await.guid_version;
    proxy.lose("/logout", Loss::Held);
    let renewing = async {
        within("the sign-out", proxy.paused()).await;
        bridge.gateway.renew_guid(AGENT).expect("signed in");
        let is_renewed = async || bridge.session(AGENT).await.guid_version != before;
        until_asked("the new Guid", is_renewed).await;
        proxy.go_on();
    };
    let (signed_out, ()) = join!(bridge.sign_out(AGENT), renewing);
    signed_out.expect("signed out");
    is_out(&bridge).await;
}

#[tokio::test]
async fn a_keeper_that_finds_the_agent_signed_out_before_the_answer_comes_signs_nobody_in() {
    let (proxy, bridge) = keeping().await;
    proxy.lose("/logout", Loss::Paused);
    let finding = async {
        within("the sign-out", proxy.paused()).await;
        let finds = async || sign_ins_under_way(&bridge).await > 0;
        until_asked("the keeper to find it", finds).await;
        proxy.go_on();
    };
    let (signed_out, ()) = join!(bridge.sign_out(AGENT), finding);
    signed_out.expect("signed out");
    until_asked("no sign-in", async || sign_ins_under_way(&bridge).await == 0).await;
    is_out(&bridge).await;
}
