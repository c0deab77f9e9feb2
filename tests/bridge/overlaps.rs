//! Calls for an agent that overlap another one at the gateway, which refuses the later one.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{GetStateRequest, SetBusyRequest, SetBusyResponse};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Setup, TestBridge, refused, until};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::batch::{batch, registered, request};

fn overlap() -> Fault {
    Fault::Retcode { retcode: "000-007".into(), message: String::new() }
}

/// A bridge that waits for answers of the gateway for this long.
async fn waiting_for(request: &str, gateway: Options) -> TestBridge {
    let tenant = format!("read_back = false\ntimeouts.request = \"{request}\"\n");
    let bridge = TestBridge::with(Setup { gateway, tenant, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.gateway.clear_journal();
    bridge
}

/// A call that its own deadline does not end, however slow the machine is.
async fn set_busy_in_a_minute(bridge: &TestBridge) -> Result<SetBusyResponse, Status> {
    // It is accepted for an agent who is busy, too.
    let (agent_id, reason, prolong) = (AGENT.to_string(), Some(200), Some(true));
    let message = SetBusyRequest { agent_id, reason, prolong, ..<_>::default() };
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(60));
    bridge.states.clone().set_busy(request).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_call_that_overlaps_another_one_is_repeated() {
    let bridge = TestBridge::signed_in().await;
    let rule = Misbehaviour { times: Some(3), ..Misbehaviour::always(overlap()) };
    bridge.gateway.misbehave(rule.on(Interface::SayBusy));
    bridge.set_busy(AGENT).await.expect("accepted in the end");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 4);
}

#[tokio::test]
async fn sign_ins_and_sign_outs_that_overlap_another_call_are_repeated() {
    let bridge = TestBridge::start().await;
    for interface in [Interface::SignIn, Interface::SignOut] {
        bridge.gateway.misbehave(Misbehaviour::once(overlap()).on(interface));
    }
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.sign_out(AGENT).await.expect("signed out");
    for interface in [Interface::SignIn, Interface::SignOut] {
        assert_eq!(bridge.asked(interface).len(), 2);
    }
}

#[tokio::test]
async fn a_call_that_keeps_overlapping_others_is_refused_in_time() {
    let bridge = waiting_for("1s", Options::default()).await;
    bridge.gateway.misbehave(Misbehaviour::always(overlap()).on(Interface::SayBusy));
    let answer = set_busy_in_a_minute(&bridge).await;
    let refusal = refused(answer, Code::Aborted, "OPERATION_IN_PROGRESS", "refused");
    assert_eq!(refusal.metadata["retcode"], "000-007");
    assert_eq!(refusal.pushback.as_deref(), Some("500"));
    let asked = bridge.asked(Interface::SayBusy).len();
    assert!((3..60).contains(&asked), "{asked}");
}

#[tokio::test]
async fn repeated_calls_of_a_tenant_share_one_retry_budget() {
    let limits = "limits.requests = 1\nkeep.sign_ins_per_second = 1\n";
    let tenant = format!("{limits}limits.queue_wait = \"10s\"\n");
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    for agent in AGENT..AGENT + 20 {
        bridge.register(agent, &bridge.gateway.sign_in(agent)).await.expect("registered");
    }
    bridge.gateway.misbehave(Misbehaviour::always(overlap()).on(Interface::SayBusy));
    let begun = Instant::now();
    for agent in AGENT..AGENT + 20 {
        let answer = bridge.set_busy(agent).await;
        refused(answer, Code::Aborted, "OPERATION_IN_PROGRESS", "refused");
    }
    // Two at once and one a second, beside the first request of each call.
    let most = 20 + 2 + usize::try_from(begun.elapsed().as_secs()).expect("short") + 1;
    let asked = bridge.asked(Interface::SayBusy).len();
    assert!(asked <= most, "{asked} of {most}");
}

/// The gateway holds the first request until it sees that its connection has been closed.
#[tokio::test]
async fn the_call_after_one_that_was_given_up_waits_until_the_gateway_has_noticed() {
    let bridge = waiting_for("500ms", Options::default()).await;
    for _ in 0..5 {
        bridge.gateway.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SayBusy));
        let next = set_busy_in_a_minute(&bridge);
        let (given_up, next) = tokio::join!(bridge.set_busy(AGENT), next);
        refused(given_up, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
        next.expect("accepted");
    }
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 10);
}

/// The gateway goes on with the first request although its connection has been closed.
#[tokio::test]
async fn a_call_that_overlaps_an_abandoned_one_is_repeated_until_that_is_over() {
    let bridge = waiting_for("500ms", Options::default()).await;
    let slow = Fault::DelayBefore(Duration::from_millis(800));
    bridge.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SayBusy));
    let next = set_busy_in_a_minute(&bridge);
    let (given_up, next) = tokio::join!(bridge.set_busy(AGENT), next);
    refused(given_up, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    next.expect("accepted");
}

/// The gateway holds the reset of the skill queues that follows a sign-in, until it sees that its
/// connection has been closed. The change that the sign-in was made for comes in the same turn.
#[tokio::test]
async fn a_change_waits_until_the_gateway_has_noticed_that_the_reset_before_it_was_given_up() {
    // What the bridge waits for the reset, and then gives the gateway to notice.
    let (limit, moment) = (Duration::from_millis(500), Duration::from_millis(100));
    let agents = AGENT..AGENT + 4;
    let tenant = "timeouts.request = \"500ms\"\nreset_skills_after_sign_in = true\n".into();
    let credentials = agents.clone().collect();
    let bridge = TestBridge::with(Setup { tenant, credentials, ..<_>::default() }).await;
    let mut shortest = Duration::MAX;
    for agent in agents.clone() {
        let hang = Misbehaviour::once(Fault::Hang).on(Interface::ResetSkill);
        bridge.gateway.misbehave(hang.of(agent));
        let begun = Instant::now();
        bridge.set_busy(agent).await.expect("accepted");
        shortest = shortest.min(begun.elapsed());
    }
    assert!(shortest >= limit + moment, "{shortest:?}");
    assert_eq!(bridge.asked(Interface::ResetSkill).len(), agents.len());
    assert_eq!(bridge.asked(Interface::SayBusy).len(), agents.len(), "none met the reset");
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_repeated_request_of_a_batch_waits_for_its_place_as_long_as_the_first() {
    let gateway = Options { latency: Duration::from_millis(100), ..<_>::default() };
    let tenant = "limits.requests = 1\nlimits.queue_wait = \"300ms\"\n".into();
    let bridge = registered(Setup { gateway, tenant, ..<_>::default() }, AGENT..AGENT + 2).await;
    bridge.gateway.clear_journal();
    bridge.gateway.misbehave(Misbehaviour::once(overlap()).on(Interface::SayBusy));
    let slow = Fault::Delay(Duration::from_secs(1));
    bridge.gateway.misbehave(Misbehaviour::always(slow).on(Interface::AgentStatus));
    let busy = batch(&bridge, request([AGENT]), Duration::from_secs(20));
    // Gets the only place when the batch's first request has been answered, and keeps it for longer
    // than calls wait for one.
    let other = async {
        until("the first request", || !bridge.asked(Interface::SayBusy).is_empty()).await;
        let request = GetStateRequest { agent_id: (AGENT + 1).to_string(), ..<_>::default() };
        bridge.states.clone().get_state(request).await
    };
    let (busy, _other) = tokio::join!(busy, other);
    assert_eq!(busy.expect("an answer").error_count, 0);
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 2);
}
