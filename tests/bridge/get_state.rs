//! `GetState`: what an agent is doing.

use ccgateway_bridge::rpc::proto::{
    ActivityState, GetStateRequest, GetStateResponse, SetBusyRequest, confirmation,
};
use ccgateway_sim::{AgentStatus, Edition, Entry, Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    AGENT, Setup, TestBridge, changes::Change, keeping, kept, refused, said, until,
};
use tonic::{Code, Status};

use crate::table::{BUSY, REST};

async fn state(bridge: &TestBridge) -> Result<GetStateResponse, Status> {
    let request = GetStateRequest { agent_id: AGENT.to_string(), ..<_>::default() };
    bridge.states.clone().get_state(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_gateway_is_asked_for_a_state_exactly_as_documented() {
    let bridge = TestBridge::signed_in().await;
    state(&bridge).await.expect("a state");
    let journal = bridge.gateway.journal();
    let [entry] = journal.as_slice() else { panic!("{journal:?}") };
    let target = "/agentgateway/resource/onlineagent/1001/agentstatus";
    assert_eq!((entry.method.as_str(), entry.target.as_str()), ("GET", target));
    assert_eq!(entry.body, b"");
    assert_eq!(entry.header("content-type"), Some("application/json; charset=UTF-8"));
    let guid = bridge.gateway.agent(AGENT).and_then(|agent| agent.guid);
    assert_eq!(entry.header("guid"), guid.as_deref());
    let mut names: Vec<_> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Accept-Encoding", "Content-Type", "Guid", "Host"]);
}

#[tokio::test]
async fn a_gateway_of_2014_gets_no_requests_for_interfaces_that_it_does_not_have() {
    let (gateway, tenant) = (Options::default().of(Edition::V2014), "edition = \"2014\"\n");
    let setup = Setup { gateway, tenant: tenant.into(), ..<_>::default() };
    let bridge = keeping(setup, [AGENT]).await;
    let refusal =
        refused(state(&bridge).await, Code::Unimplemented, "INTERFACE_NOT_IN_EDITION", "not_sent");
    assert!(refusal.message.contains("edition 2014"), "{}", refusal.message);
    assert_eq!(refusal.pushback, None);

    // A confirmation asks for the status too, and does without it.
    let busy = SetBusyRequest {
        agent_id: AGENT.to_string(),
        confirm_within: Some("20s".parse().expect("a duration")),
        ..<_>::default()
    };
    let confirmation = bridge.call(busy).await.expect("busy").confirmation.expect("asked for");
    assert_eq!(confirmation.status(), confirmation::Status::Confirmed, "{confirmation:?}");
    let journal = bridge.gateway.journal();
    let asked = |entry: &&Entry| entry.target.contains("agentstatus");
    assert_eq!(journal.iter().filter(asked).count(), 0);

    let beyond = bridge.set_busy(20_000).await;
    let refusal = refused(beyond, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    assert!(refusal.message.contains("agent_id"), "{}", refusal.message);
}

/// A gateway without `agentstatus`, which the tenant's edition does not say.
#[tokio::test]
async fn a_gateway_without_the_interface_is_told_from_a_wrong_request() {
    let missing = (Code::Unimplemented, "INTERFACE_NOT_IN_EDITION");
    // The retcode means the same for every method.
    let rejected = (Code::InvalidArgument, "GATEWAY_REJECTED_PARAMETER");
    for (agent_status, (code, reason), retcode, http_status) in [
        (AgentStatus::NotFound, missing, None, Some("404")),
        (AgentStatus::WrongMethod, missing, None, Some("405")),
        (AgentStatus::Refused, rejected, Some("000-002"), None),
    ] {
        let gateway = Options { agent_status, ..<_>::default() };
        let bridge = keeping(Setup { gateway, ..<_>::default() }, [AGENT]).await;
        let told = state(&bridge).await;
        let refusal = refused(told, code, reason, "refused");
        let words = "this gateway has no such interface, getAgentStatus";
        assert!(refusal.message.starts_with(words), "{}", refusal.message);
        assert!(refusal.message.ends_with("edition and base_urls"), "{}", refusal.message);
        assert_eq!(refusal.metadata.get("retcode").map(String::as_str), retcode);
        assert_eq!(refusal.metadata.get("http_status").map(String::as_str), http_status);
        assert_eq!(refusal.pushback, None);

        let busy = SetBusyRequest {
            agent_id: AGENT.to_string(),
            confirm_within: Some("20s".parse().expect("a duration")),
            ..<_>::default()
        };
        let confirmation = bridge.call(busy).await.expect("busy").confirmation.expect("asked for");
        assert_eq!(confirmation.status(), confirmation::Status::Confirmed, "{confirmation:?}");
    }
}

#[tokio::test]
async fn an_envelope_that_comes_with_an_http_status_is_read_for_both() {
    let bridge = TestBridge::signed_in().await;
    for (status, retcode, code, reason) in [
        (404, "404", Code::Unimplemented, "INTERFACE_NOT_IN_EDITION"),
        (405, "-1", Code::Unimplemented, "INTERFACE_NOT_IN_EDITION"),
        (501, "999-999", Code::Unimplemented, "INTERFACE_NOT_IN_EDITION"),
        (404, "100-006", Code::FailedPrecondition, "AGENT_NOT_SIGNED_IN"),
        (200, "999-999", Code::Unknown, "UNLISTED_RETCODE"),
    ] {
        let body = format!(r#"{{"retcode":"{retcode}","message":"no such interface"}}"#).into();
        let (content_type, headers) = ("application/json".into(), Vec::new());
        let fault = Fault::Status { status, headers, body, content_type };
        bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::AgentStatus));
        let refusal = refused(state(&bridge).await, code, reason, "refused");
        assert_eq!(refusal.metadata["retcode"], retcode);
        assert_eq!(refusal.metadata["gateway_message"], "no such interface");
        assert!(refusal.message.contains("no such interface"), "{}", refusal.message);
    }
}

#[tokio::test]
async fn every_state_number_is_read_as_documented_and_passed_on() {
    let bridge = TestBridge::signed_in().await;
    for (code, expected) in [
        (0, ActivityState::Unspecified),
        (1, ActivityState::Unspecified),
        (2, ActivityState::SignedOut),
        (3, ActivityState::Busy),
        (4, ActivityState::Idle),
        (5, ActivityState::AfterCallWork),
        (6, ActivityState::Idle),
        (7, ActivityState::Talking),
        (8, ActivityState::Resting),
        (9, ActivityState::PreRest),
        (10, ActivityState::Unspecified),
        (77, ActivityState::Unspecified),
        (-1, ActivityState::Unspecified),
        (i32::MAX, ActivityState::Unspecified),
    ] {
        for form in ["{}", "\"{}\""] {
            let number = form.replace("{}", &code.to_string());
            for result in
                [format!(r#"{{"agentState":{number}}}"#), format!(r#"[{{"agentState":{number}}}]"#)]
            {
                bridge.gateway.behave();
                bridge.gateway.misbehave(said(AGENT, &result));
                let told = state(&bridge).await.expect("a state");
                assert_eq!((told.state(), told.code), (expected, code), "{result}");
                assert_eq!(told.in_call, None, "{result}");
            }
        }
    }
}

#[tokio::test]
async fn in_call_is_set_if_the_gateway_says_so() {
    let bridge = TestBridge::signed_in().await;
    for (in_call, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("\"true\"", Some(true)),
        ("\"false\"", Some(false)),
        ("null", None),
        ("\"\"", None),
        ("{}", None),
    ] {
        let result = format!(r#"{{"agentState":7,"isWorking":{in_call},"more":[1]}}"#);
        bridge.gateway.behave();
        bridge.gateway.misbehave(said(AGENT, &result));
        let told = state(&bridge).await.expect("a state");
        assert_eq!((told.state(), told.in_call), (ActivityState::Talking, expected), "{in_call}");
    }
}

#[tokio::test]
async fn an_answer_without_a_state_is_a_bad_reply() {
    let bridge = TestBridge::signed_in().await;
    for result in [
        "{}",
        "[]",
        "null",
        "4",
        "\"\"",
        "\"4\"",
        r#"{"agentState":null}"#,
        r#"{"agentState":""}"#,
        r#"{"agentState":"idle"}"#,
        r#"{"agentState":4.5}"#,
        r#"{"agentState":[4]}"#,
        r#"{"agentState":99999999999}"#,
        r#"{"AgentState":4}"#,
        "[[4]]",
    ] {
        bridge.gateway.behave();
        bridge.gateway.misbehave(said(AGENT, result));
        refused(state(&bridge).await, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");
    }
    let body = br#"{"message":"","retcode":"0"}"#.to_vec();
    let fault = Fault::Raw { body, content_type: "application/json".into(), headers: Vec::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::AgentStatus));
    refused(state(&bridge).await, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");
}

#[tokio::test]
async fn get_state_returns_every_state() {
    let bridge = TestBridge::signed_in().await;
    let told = async || {
        let told = state(&bridge).await.expect("a state");
        (told.state(), told.code, told.in_call)
    };
    assert_eq!(told().await, (ActivityState::Idle, 4, Some(false)));
    for (change, expected, code) in [
        (BUSY, ActivityState::Busy, 3),
        (Change::SetAfterCallWork, ActivityState::AfterCallWork, 5),
        (Change::SetIdle, ActivityState::Idle, 4),
        (REST, ActivityState::Resting, 8),
    ] {
        change.ask(&bridge.states, AGENT).await.expect("accepted");
        assert_eq!(told().await, (expected, code, Some(false)));
    }
    bridge.gateway.start_call(AGENT);
    assert_eq!(told().await, (ActivityState::Talking, 7, Some(true)));
}

#[tokio::test]
async fn the_event_named_busy_is_a_call() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.gateway.start_call(AGENT);
    watching.event("AgentState_Busy").await;
    assert_eq!(state(&bridge).await.expect("a state").state(), ActivityState::Talking);
    let result = Change::CancelBusy.ask(&bridge.states, AGENT).await;
    refused(result, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
}

#[tokio::test]
async fn get_state_signs_no_agent_in() {
    let bridge = TestBridge::with(Setup { credentials: vec![AGENT], ..<_>::default() }).await;
    let result = state(&bridge).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
    assert_eq!(bridge.gateway.journal().len(), 0);

    bridge.set_busy(AGENT).await.expect("signed in by the call");
    bridge.gateway.expire_guids(AGENT);
    bridge.gateway.clear_journal();
    let result = state(&bridge).await;
    refused(result, Code::FailedPrecondition, "SESSION_EXPIRED", "refused");
    bridge.gateway.sign_out(AGENT);
    let result = state(&bridge).await;
    refused(result, Code::FailedPrecondition, "AGENT_NOT_SIGNED_IN", "refused");
    assert_eq!(bridge.asked(Interface::SignIn).len(), 0);
    assert_eq!(bridge.asked(Interface::AgentStatus).len(), 2, "once each");
}

#[tokio::test]
async fn a_state_is_asked_for_again_with_the_guid_that_came_meanwhile() {
    let bridge = TestBridge::with(Setup { credentials: vec![AGENT], ..<_>::default() }).await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    bridge.gateway.freeze();
    let asked = state(&bridge);
    let newer = async {
        until("a request", || !bridge.gateway.journal().is_empty()).await;
        bridge.gateway.expire_guids(AGENT);
        let newer = bridge.gateway.renew_guid(AGENT).expect("signed in");
        bridge.register(AGENT, &newer).await.expect("registered");
        bridge.gateway.thaw();
    };
    let (told, ()) = tokio::join!(asked, newer);
    assert_eq!(told.expect("asked again").state(), ActivityState::Idle);
    assert_eq!(bridge.asked(Interface::AgentStatus).len(), 2);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 0);
}
