//! Sessions that the bridge made stay alive without a call.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use ccgateway_bridge::rpc::proto::SessionState;
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Setup, TestBridge, refused, until, within};
use tokio::time::{Instant, timeout};
use tonic::Code;

/// Fifty of the gateway's seconds pass in one of ours.
const SCALE: u32 = 50;
const PAUSES: &str = "keep.pause_min = \"20ms\"\nkeep.pause_max = \"50ms\"\n";

async fn keeping(tenant: &str) -> TestBridge {
    let gateway = Options { time_scale: SCALE, ..<_>::default() };
    let tenant = format!("{PAUSES}{tenant}");
    TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await
}

fn polls(bridge: &TestBridge, agent: u32) -> usize {
    bridge.asked(Interface::Poll).iter().filter(|poll| poll.agent == Some(agent)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_their_guids_without_a_sign_in() {
    let bridge = keeping("").await;
    let agents = AGENT..AGENT + 30;
    for agent in agents.clone() {
        bridge.sign_in(agent).await.expect("signed in");
    }
    // More than three lives of a Guid, of two of the gateway's minutes each.
    let end = Instant::now() + Duration::from_secs(400) / SCALE;
    while Instant::now() < end {
        for agent in agents.clone() {
            bridge.set_busy(agent).await.expect("kept");
        }
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), agents.len());
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());

    let mut guids: HashMap<u32, HashSet<String>> = HashMap::new();
    for entry in bridge.asked(Interface::SayBusy) {
        let answer = entry.answer.as_ref().expect("answered");
        assert_eq!(answer.retcode.as_deref(), Some("0"), "a call with a dead Guid");
        let guid = entry.header("guid").expect("every call has a Guid").to_owned();
        guids.entry(entry.agent.expect("an agent")).or_default().insert(guid);
    }
    for (agent, guids) in guids {
        assert!(guids.len() >= 4, "{agent}: {} renewals were picked up", guids.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_forgets_all_sessions_gets_its_agents_back_once() {
    let bridge = keeping("keep.sign_ins_per_second = 200\n").await;
    let agents = AGENT..AGENT + 30;
    for agent in agents.clone() {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge.gateway.stop().await;
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    bridge.gateway.restart(true).await.expect("restarted");
    let signed_in = |agent| bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
    until("every agent is back", || agents.clone().all(signed_in)).await;
    for agent in agents.clone() {
        bridge.set_busy(agent).await.expect("back");
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2 * agents.len());
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_was_signed_out_is_signed_in_again_without_a_call() {
    let bridge = keeping("").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.gateway.sign_out(AGENT);
    let signed_in = || bridge.gateway.agent(AGENT).is_some_and(|agent| agent.signed_in);
    until("the agent is back", signed_in).await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn recoveries_keep_to_the_sign_in_rate() {
    let bridge = keeping("keep.sign_ins_per_second = 10\n").await;
    let agents = AGENT..AGENT + 10;
    for agent in agents.clone() {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge.gateway.clear_journal();
    for agent in agents.clone() {
        bridge.gateway.sign_out(agent);
    }
    until("ten sign-ins", || bridge.asked(Interface::SignIn).len() == agents.len()).await;
    let times: Vec<_> = bridge.asked(Interface::SignIn).iter().map(|entry| entry.at).collect();
    let took = times.last().expect("ten").saturating_sub(times[0]);
    assert!(took >= Duration::from_millis(800), "ten at ten a second took {took:?}");
}

#[tokio::test]
async fn agents_that_wait_for_a_sign_in_take_no_request_places() {
    let tenant = "limits.requests = 2\nkeep.sign_ins_per_second = 1\n";
    let bridge = keeping(tenant).await;
    for agent in AGENT..AGENT + 6 {
        bridge.sign_in(agent).await.expect("signed in");
    }
    for agent in AGENT..AGENT + 5 {
        bridge.gateway.sign_out(agent);
    }
    // The first needs no waiting; the others wait for seconds, and there are more of them than
    // places.
    until("a recovery", || bridge.asked(Interface::SignIn).len() > 6).await;
    while bridge.asked(Interface::SignIn).len() < 10 {
        bridge.set_busy(AGENT + 5).await.expect("there are places");
    }
}

#[tokio::test]
async fn the_same_guid_is_used_until_a_switch_over_ends() {
    let bridge = keeping("").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let fault = Fault::Retcode { retcode: "000-004".into(), message: String::new() };
    let rule = Misbehaviour { times: Some(5), ..Misbehaviour::always(fault) };
    bridge.gateway.misbehave(rule.on(Interface::Poll));
    let before = polls(&bridge, AGENT);
    until("eight polls", || polls(&bridge, AGENT) > before + 8).await;
    bridge.set_busy(AGENT).await.expect("kept");
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn polling_stops_if_the_gateway_does_not_allow_it() {
    let bridge = keeping("").await;
    let fault = Fault::Retcode { retcode: "000-001".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::Poll));
    bridge.sign_in(AGENT).await.expect("signed in");
    until("the poll", || polls(&bridge, AGENT) == 1).await;
    let another = timeout(Duration::from_millis(300), until("", || polls(&bridge, AGENT) > 1));
    assert!(another.await.is_err(), "polled again");
    bridge.set_busy(AGENT).await.expect("the session is there still");
}

#[tokio::test]
async fn guids_are_renewed_by_update_guid_if_polls_are_not_allowed() {
    // Somebody else fetches the events of all agents, which keeps them signed in.
    let gateway = Options { time_scale: SCALE, idle_sign_out: None, ..<_>::default() };
    let tenant = "keep.guid_interval = \"500ms\"\n".into();
    let bridge = TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await;
    let fault = Fault::Retcode { retcode: "000-001".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::Poll));
    let session = bridge.sign_in(AGENT).await.expect("signed in").session.expect("a session");
    // A Guid lives for two of the gateway's minutes, which are 2.4 s.
    until("eight renewals", || bridge.asked(Interface::UpdateGuid).len() >= 8).await;
    bridge.set_busy(AGENT).await.expect("a good Guid");
    let renewed = bridge.session(AGENT).await;
    assert!(renewed.guid_version >= session.guid_version + 7, "{} renewals", renewed.guid_version);
    assert_eq!(renewed.state(), SessionState::Unkept);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_session_that_a_call_could_not_renew_is_renewed_by_its_keeper() {
    let bridge = keeping("timeouts.poll = \"500ms\"\n").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    // So that the call hears of the loss first.
    bridge.gateway.misbehave(Misbehaviour::always(Fault::Hang).on(Interface::Poll));
    let before = polls(&bridge, AGENT);
    until("a poll that hangs", || polls(&bridge, AGENT) > before).await;
    bridge.gateway.sign_out(AGENT);
    let fault = Fault::Retcode { retcode: "100-003".into(), message: String::new() };
    let rule = Misbehaviour { times: Some(1), ..Misbehaviour::always(fault) };
    bridge.gateway.misbehave(rule.on(Interface::SignIn));
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::Unavailable, "PLATFORM_UNAVAILABLE", "refused");

    bridge.gateway.behave();
    let signed_in = || bridge.gateway.agent(AGENT).is_some_and(|agent| agent.signed_in);
    until("the agent is back", signed_in).await;
}

#[tokio::test]
async fn a_session_that_is_signed_out_or_registered_is_not_polled() {
    let bridge = keeping("").await;
    for agent in [AGENT, AGENT + 1] {
        bridge.sign_in(agent).await.expect("signed in");
        until("a poll", || polls(&bridge, agent) > 0).await;
    }
    bridge.sign_out(AGENT).await.expect("signed out");
    let guid = bridge.gateway.agent(AGENT + 1).and_then(|agent| agent.guid).expect("a Guid");
    bridge.register(AGENT + 1, &guid).await.expect("registered");
    bridge.gateway.clear_journal();
    let another = until("", || !bridge.asked(Interface::Poll).is_empty());
    assert!(timeout(Duration::from_millis(300), another).await.is_err(), "polled again");

    bridge.sign_in(AGENT).await.expect("signed in");
    until("polls again", || polls(&bridge, AGENT) > 1).await;
}

#[tokio::test]
async fn a_rejected_password_is_not_tried_again_for_a_while() {
    let credentials = vec![AGENT];
    let tenant = "keep.rejected_for = \"1s\"\n".to_owned();
    let setup = Setup { credentials, password: Some("wrong"), tenant, ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    for _ in 0..5 {
        let result = bridge.set_busy(AGENT).await;
        refused(result, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);

    let again = async {
        while bridge.asked(Interface::SignIn).len() == 1 {
            let result = bridge.set_busy(AGENT).await;
            refused(result, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
        }
    };
    within("the password is tried again", again).await;
    bridge.sign_in(AGENT).await.expect("another password is tried at once");
}

#[tokio::test]
async fn a_session_that_a_call_made_anew_is_kept_too() {
    let bridge = keeping("").await;
    for _ in 0..10 {
        bridge.sign_in(AGENT).await.expect("signed in");
        bridge.gateway.sign_out(AGENT);
        bridge.set_busy(AGENT).await.expect("signed in anew, by the call or by the keeper");
        let guid = bridge.gateway.agent(AGENT).and_then(|agent| agent.guid).expect("a Guid");
        let polled = |entry: &ccgateway_sim::Entry| {
            entry.interface == Some(Interface::Poll) && entry.header("guid") == Some(&guid)
        };
        until("a poll with the new Guid", || bridge.gateway.journal().iter().any(polled)).await;
        bridge.sign_out(AGENT).await.expect("signed out");
    }
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}
