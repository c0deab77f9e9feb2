//! Gateways without Guids: `auth_mode = "none"`.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{SessionState, session::Origin, watch_events_response::What};
use ccgateway_sim::{AuthMode, Interface, Options};
use ccgateway_test_support::{
    AGENT, Setup, Site, TestBridge, Watching, gateway, in_file, refused, until,
};
use tokio::time::sleep;
use tonic::Code;

const TENANT: &str = "auth_mode = \"none\"\nkeep.pause_min = \"1ms\"\nkeep.pause_max = \"2ms\"\n";

fn options() -> Options {
    Options { auth_mode: AuthMode::None, ..<_>::default() }
}

fn setup() -> Setup {
    Setup { tenant: TENANT.into(), keep: true, ..<_>::default() }
}

async fn bridge(setup: Setup) -> TestBridge {
    TestBridge::of(gateway(options()).await, setup).await
}

async fn reaches(watching: &mut Watching, expected: SessionState) {
    loop {
        if let Some(What::SessionChange(change)) = watching.next().await.what
            && change.state() == expected
        {
            return;
        }
    }
}

#[track_caller]
fn check_no_guid_was_sent(bridge: &TestBridge) {
    for entry in bridge.gateway.journal() {
        assert_eq!(entry.header("guid"), None, "{}", entry.target);
    }
}

#[tokio::test]
async fn an_agent_is_signed_in_kept_and_signed_out_without_a_guid() {
    let bridge = bridge(setup()).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let signed_in = bridge.sign_in(AGENT).await.expect("signed in");
    assert_eq!(signed_in.session.expect("a session").state(), SessionState::Kept);
    watching.event("AgentState_Ready").await;
    bridge.set_busy(AGENT).await.expect("busy");
    watching.event("AgentState_SetNotReady_Success").await;
    bridge.sign_out(AGENT).await.expect("signed out");
    assert!(!bridge.gateway.agent(AGENT).expect("known").signed_in);
    assert_eq!(bridge.asked(Interface::SignOut).len(), 1);
    check_no_guid_was_sent(&bridge);
}

#[tokio::test]
async fn a_session_that_was_lost_is_made_anew() {
    let bridge = bridge(setup()).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.gateway.sign_out(AGENT);
    reaches(&mut watching, SessionState::Recovering).await;
    reaches(&mut watching, SessionState::Kept).await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
    bridge.set_busy(AGENT).await.expect("busy");
    check_no_guid_was_sent(&bridge);
}

#[tokio::test]
async fn a_call_after_the_agent_was_signed_out_signs_it_in_once() {
    let setup = Setup { credentials: vec![AGENT], keep: false, ..setup() };
    let bridge = bridge(setup).await;
    bridge.set_busy(AGENT).await.expect("signed in for it");
    bridge.gateway.sign_out(AGENT);
    bridge.set_busy(AGENT).await.expect("and again");
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn a_take_over_is_noticed_by_its_event() {
    let bridge = bridge(setup()).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let mut watching = bridge.watch(&[AGENT], None).await;
    // Only a poll that is open is known to be the former session's.
    let polls = || {
        let last = bridge.asked(Interface::Poll).pop();
        let waits = last.is_some_and(|poll| poll.answer.is_none());
        waits && bridge.gateway.agent(AGENT).is_some_and(|agent| agent.events_waiting == 0)
    };
    // A poll that begins in the moment of the take-over is the new session's. Then there is another one.
    let taking_over = async {
        loop {
            until("a poll waits", polls).await;
            bridge.gateway.take_over(AGENT).expect("signed in");
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = taking_over => {}
        _event = watching.event("AgentOther_ShutdownService") => {}
    }
    reaches(&mut watching, SessionState::Recovering).await;
}

#[tokio::test]
async fn an_agent_is_registered_without_a_guid_and_not_with_one() {
    let bridge = bridge(setup()).await;
    bridge.gateway.sign_in(AGENT);
    let answer = bridge.register(AGENT, "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway0").await;
    let refusal = refused(answer, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let fields = &refusal.details.bad_request().expect("fields").field_violations;
    assert_eq!((fields.len(), fields[0].field.as_str()), (1, "guid"));
    assert!(fields[0].description.contains("no Guids"), "{}", fields[0].description);

    bridge.register(AGENT, "").await.expect("registered");
    assert_eq!(bridge.session(AGENT).await.origin(), Origin::Registered);
    bridge.set_busy(AGENT).await.expect("busy");
    bridge.sign_out(AGENT).await.expect("signed out");
    assert!(bridge.asked(Interface::Poll).is_empty(), "its owner polls");
    check_no_guid_was_sent(&bridge);
}

#[tokio::test]
async fn with_guids_a_missing_one_and_a_placeholder_are_refused() {
    let bridge = TestBridge::start().await;
    for guid in ["", "-", "JSESSIONID=-"] {
        let answer = bridge.register(AGENT, guid).await;
        refused(answer, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    }
}

#[tokio::test]
async fn a_session_without_a_guid_outlives_the_process_in_a_file() {
    let site = Site::of(gateway(options()).await);
    let setup = Setup { store: in_file(), ..setup() };
    let first = TestBridge::at(&site, &setup).await;
    first.sign_in(AGENT).await.expect("signed in");
    first.stop().await;
    let second = TestBridge::at(&site, &setup).await;
    second.set_busy(AGENT).await.expect("busy");
    let polls = second.asked(Interface::Poll).len();
    second.gateway.start_call(AGENT);
    until("it is kept", || second.asked(Interface::Poll).len() > polls).await;
    assert_eq!(second.asked(Interface::SignIn).len(), 1);
    check_no_guid_was_sent(&second);
}

/// The configuration says what is sent, whatever the gateway does.
#[tokio::test]
async fn a_gateway_that_sends_guids_all_the_same_gets_none_back() {
    let setup = Setup { keep: false, ..setup() };
    let bridge = TestBridge::of(gateway(Options::default()).await, setup).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let answer = bridge.set_busy(AGENT).await;
    refused(answer, Code::AlreadyExists, "AGENT_ALREADY_SIGNED_IN", "refused");
    check_no_guid_was_sent(&bridge);
}
