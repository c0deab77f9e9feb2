//! A change whose answer was lost: the bridge asks what the agent is doing, and says what that proves.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    ActivityState, GetStateRequest, SetBusyRequest, SetBusyResponse, SignInRequest,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    AGENT, PASSWORD, Setup, TestBridge, changes::Change, keeping, refused, said, until, until_asked,
};
use tokio::time::sleep;
use tonic::{Code, Request, Status};

use crate::table::{REST, Row, rows};

/// Carries the request out and loses the answer.
const CUT: Fault = Fault::CutBeforeAnswer;

const NO_ANSWER: &str = "GATEWAY_NO_ANSWER";
const PROXY: &str = "GATEWAY_PROXY_FAILED";

/// A gateway that does not go on with requests.
const SOON: &str = "timeouts.settle = \"50ms\"\n";
/// Longer than that.
const LONGER: Duration = Duration::from_millis(60);

/// Loses the request, as a proxy that cannot reach the gateway does.
fn lost() -> Fault {
    let content_type = "text/plain".into();
    Fault::Status { status: 502, headers: Vec::new(), body: Vec::new(), content_type }
}

async fn signed_in(tenant: &str) -> TestBridge {
    let bridge = TestBridge::with(Setup { tenant: tenant.into(), ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge
}

/// An agent whose owner has registered the session, so that the bridge does not know what it is doing.
async fn registered(options: Options) -> TestBridge {
    let bridge = TestBridge::with(Setup { gateway: options, ..<_>::default() }).await;
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    bridge
}

/// The changes that show in the agent's state.
fn shown() -> impl Iterator<Item = (u32, &'static Row)> {
    rows().filter(|(_, row)| !matches!(row.allowed_after, [REST]) || row.method != "SetResting")
}

/// Whether one change was found to be made.
async fn has_counted_one(bridge: &TestBridge) -> bool {
    let counted = bridge.scrape().await;
    let one = counted.get("ccgw_read_backs_total{tenant=\"acme\",result=\"applied\"}");
    one.is_some_and(|one| (one - 1.0).abs() < 0.1)
}

fn fail(bridge: &TestBridge, fault: Fault) {
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
}

fn observed(answer: Result<SetBusyResponse, Status>) -> ActivityState {
    let answer = answer.expect("accepted");
    assert_eq!((&*answer.retcode, &*answer.message, &answer.result), ("", "", &None));
    answer.observed_state()
}

#[track_caller]
fn unproven(answer: Result<SetBusyResponse, Status>, state: &str) {
    let refusal = refused(answer, Code::Unknown, NO_ANSWER, "unknown");
    assert_eq!(refusal.metadata.get("observed_state").map(String::as_str), Some(state));
    assert_eq!(refusal.pushback.as_deref(), Some("-1"));
}

#[tokio::test]
async fn every_lost_change_of_an_agent_whose_state_was_known_is_found_to_be_made() {
    for (_, row) in shown() {
        let bridge = signed_in("").await;
        for change in row.allowed_after {
            change.ask(&bridge.states, AGENT).await.expect("accepted");
        }
        bridge.gateway.clear_journal();
        bridge.gateway.misbehave(Misbehaviour::once(CUT).on(row.interface));
        let answer = row.change.ask(&bridge.states, AGENT).await.expect(row.method);
        assert_ne!(answer.observed_state, ActivityState::Unspecified, "{}", row.method);
        assert_eq!(answer.retcode, "");
        assert_eq!(bridge.asked(row.interface).len(), 1, "{}: not repeated", row.method);
        assert!(has_counted_one(&bridge).await);
    }
}

#[tokio::test]
async fn every_lost_request_is_found_not_to_have_been_made() {
    for (_, row) in shown() {
        let bridge = signed_in(SOON).await;
        for change in row.allowed_after {
            change.ask(&bridge.states, AGENT).await.expect("accepted");
        }
        bridge.gateway.misbehave(Misbehaviour::once(lost()).on(row.interface));
        let error = row.change.ask(&bridge.states, AGENT).await.map(drop);
        let refusal = refused(error, Code::Unavailable, "CHANGE_NOT_APPLIED", "not_applied");
        assert!(refusal.metadata.contains_key("observed_state"), "{}", row.method);
        assert_eq!(refusal.metadata["http_status"], "502");
        assert!(refusal.details.retry_info().is_some());
        assert_eq!(refusal.pushback.as_deref(), Some("1000"), "another attempt acts once");
        row.change.ask(&bridge.states, AGENT).await.expect("accepted");
    }
}

#[tokio::test]
async fn a_state_that_the_agent_may_have_had_before_proves_nothing() {
    let bridge = registered(Options::default()).await;
    fail(&bridge, CUT);
    unproven(bridge.set_busy(AGENT).await, "ACTIVITY_STATE_BUSY");

    // From now on it is known.
    Change::CancelBusy.ask(&bridge.states, AGENT).await.expect("accepted");
    fail(&bridge, CUT);
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);
}

#[tokio::test]
async fn what_a_caller_asked_for_is_known_too() {
    let bridge = registered(Options::default()).await;
    let request = GetStateRequest { agent_id: AGENT.to_string(), ..<_>::default() };
    bridge.states.clone().get_state(request).await.expect("told");
    fail(&bridge, CUT);
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);
}

/// A call ends by itself, and a state that the bridge does not know may be any.
#[tokio::test]
async fn a_state_that_passes_by_itself_proves_nothing_about_what_follows() {
    for before in [7, 99] {
        let bridge = registered(Options::default()).await;
        let request = GetStateRequest { agent_id: AGENT.to_string(), ..<_>::default() };
        bridge.gateway.misbehave(said(AGENT, &format!(r#"{{"agentState":{before}}}"#)));
        bridge.states.clone().get_state(request).await.expect("told");
        bridge.gateway.behave();
        bridge.gateway.misbehave(said(AGENT, r#"{"agentState":5}"#));
        bridge.gateway.misbehave(Misbehaviour::once(lost()).on(Interface::Work));
        let answer = Change::SetAfterCallWork.ask(&bridge.states, AGENT).await.map(drop);
        let refusal = refused(answer, Code::Unknown, PROXY, "unknown");
        assert_eq!(
            refusal.metadata["observed_state"], "ACTIVITY_STATE_AFTER_CALL_WORK",
            "{before}"
        );
    }
}

/// The event of the first change is fetched while the second one is being made.
#[tokio::test]
async fn an_event_of_an_earlier_change_proves_nothing() {
    let bridge = ccgateway_test_support::kept(Options::default(), [AGENT]).await;
    let slow_poll = Misbehaviour::always(Fault::DelayBefore(Duration::from_millis(300)));
    let polls = || bridge.asked(Interface::Poll).len();
    let before = polls();
    bridge.gateway.misbehave(slow_poll.on(Interface::Poll));
    bridge.gateway.start_call(AGENT);
    until("a poll is held", || polls() > before).await;
    bridge.gateway.end_call(AGENT);
    bridge.set_busy(AGENT).await.expect("accepted");
    fail(&bridge, lost());
    let slow = Fault::Delay(Duration::from_secs(3));
    bridge.gateway.misbehave(Misbehaviour::once(slow).on(Interface::AgentStatus));
    let refusal = refused(bridge.set_busy(AGENT).await, Code::Unknown, PROXY, "unknown");
    assert_eq!(refusal.metadata["observed_state"], "ACTIVITY_STATE_BUSY");
}

/// An agent whose supervisor has ended a busy state. The bridge knows that by an event alone.
async fn ended_by_another(settle: &str) -> TestBridge {
    let tenant = format!("timeouts.settle = \"{settle}\"\n");
    let bridge = keeping(Setup { tenant, ..<_>::default() }, [AGENT]).await;
    let events = async || bridge.scrape().await["ccgw_events_total{tenant=\"acme\"}"];
    let before = events().await;
    bridge.set_busy(AGENT).await.expect("accepted");
    until_asked("the event of the change", async || events().await > before).await;
    // Not for something to happen, but for the time in which nothing has.
    sleep(LONGER).await;
    let before = events().await;
    assert!(bridge.gateway.force_idle(AGENT));
    until_asked("the event of its end", async || events().await > before).await;
    bridge
}

#[tokio::test]
async fn what_events_say_is_known_after_a_while() {
    let bridge = Box::pin(ended_by_another("50ms")).await;
    sleep(LONGER).await;
    fail(&bridge, CUT);
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);
}

#[tokio::test]
async fn an_event_proves_nothing_while_another_one_may_be_on_its_way() {
    let bridge = Box::pin(ended_by_another("1m")).await;
    fail(&bridge, CUT);
    unproven(bridge.set_busy(AGENT).await, "ACTIVITY_STATE_BUSY");
}

/// Nothing is known of an agent who was taken over but for the event, which comes after the question.
#[tokio::test]
async fn an_event_of_the_change_shows_it_where_nothing_else_is_known() {
    let bridge = Box::pin(taken_over("50ms")).await;
    sleep(LONGER).await;
    fail(&bridge, CUT);
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);

    // The event may be that of something the bridge has done just before.
    let bridge = Box::pin(taken_over("1m")).await;
    fail(&bridge, CUT);
    unproven(bridge.set_busy(AGENT).await, "ACTIVITY_STATE_BUSY");

    // Nothing is made, so there is no event.
    let bridge = Box::pin(taken_over("50ms")).await;
    bridge.gateway.misbehave(said(AGENT, r#"{"agentState":3}"#));
    sleep(LONGER).await;
    fail(&bridge, lost());
    let refusal = refused(bridge.set_busy(AGENT).await, Code::Unknown, PROXY, "unknown");
    assert_eq!(refusal.metadata["observed_state"], "ACTIVITY_STATE_BUSY");
}

async fn taken_over(settle: &str) -> TestBridge {
    let tenant = format!("timeouts.settle = \"{settle}\"\n");
    let bridge = keeping(Setup { tenant, ..<_>::default() }, []).await;
    bridge.gateway.sign_in(AGENT);
    let request = SignInRequest {
        agent_id: AGENT.to_string(),
        password: Some(PASSWORD.into()),
        force: true,
        ..<_>::default()
    };
    bridge.sessions.clone().sign_in(request).await.expect("taken over");
    bridge
}

/// Calls are few while the only address is left alone, and so are questions.
#[tokio::test]
async fn the_question_is_asked_although_the_address_has_failed_too_often() {
    let bridge =
        signed_in("breaker.failures = 1\nbreaker.pause = \"1m\"\nbreaker.pause_max = \"1m\"\n")
            .await;
    fail(&bridge, CUT);
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);
    // One call in twelve seconds goes there all the same.
    bridge.gateway.misbehave(Misbehaviour::once(CUT).on(Interface::CancelBusy));
    let answer = Change::CancelBusy.ask(&bridge.states, AGENT).await.expect("accepted");
    assert_eq!(answer.observed_state, ActivityState::Idle);
    refused(bridge.set_busy(AGENT).await, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
}

#[tokio::test]
async fn another_reason_for_a_state_does_not_show() {
    let bridge = signed_in(SOON).await;
    bridge.set_busy(AGENT).await.expect("accepted");
    for fault in [CUT, lost()] {
        fail(&bridge, fault.clone());
        let request = SetBusyRequest {
            agent_id: AGENT.to_string(),
            reason: Some(222),
            prolong: Some(true),
            ..<_>::default()
        };
        let reason = if matches!(fault, Fault::Status { .. }) { PROXY } else { NO_ANSWER };
        let refusal = refused(bridge.call(request).await, Code::Unknown, reason, "unknown");
        assert_eq!(refusal.metadata["observed_state"], "ACTIVITY_STATE_BUSY");
    }
}

#[tokio::test]
async fn an_agent_in_a_call_may_still_become_busy() {
    let bridge = signed_in("").await;
    for (code, state) in [(7, "ACTIVITY_STATE_TALKING"), (5, "ACTIVITY_STATE_AFTER_CALL_WORK")] {
        bridge.gateway.behave();
        bridge.gateway.misbehave(said(AGENT, &format!(r#"{{"agentState":{code}}}"#)));
        fail(&bridge, CUT);
        unproven(bridge.set_busy(AGENT).await, state);
        Change::CancelBusy.ask_alone(&bridge.states, AGENT).await;
    }
}

/// The gateway goes on with the request after the bridge has given it up.
#[tokio::test]
async fn a_change_that_the_gateway_makes_late_is_found_once_it_is_made() {
    let bridge = signed_in("timeouts.request = \"500ms\"\ntimeouts.settle = \"5s\"\n").await;
    fail(&bridge, Fault::DelayBefore(Duration::from_secs(1)));
    assert_eq!(observed(bridge.set_busy(AGENT).await), ActivityState::Busy);
}

#[tokio::test]
async fn an_old_state_proves_nothing_where_the_gateway_has_taken_too_long() {
    let bridge = signed_in("timeouts.request = \"500ms\"\ntimeouts.settle = \"10ms\"\n").await;
    fail(&bridge, Fault::DelayBefore(Duration::from_secs(3)));
    unproven(bridge.set_busy(AGENT).await, "ACTIVITY_STATE_IDLE");
}

#[tokio::test]
async fn a_gateway_that_does_not_tell_the_state_leaves_the_outcome_unknown() {
    let bridge = signed_in("").await;
    for state in [Fault::CutBeforeAnswer, Fault::Html] {
        bridge.gateway.misbehave(Misbehaviour::once(state).on(Interface::AgentStatus));
        fail(&bridge, CUT);
        let answer = bridge.set_busy(AGENT).await;
        let refusal = refused(answer, Code::Unknown, NO_ANSWER, "unknown");
        assert!(!refusal.metadata.contains_key("observed_state"));
        Change::CancelBusy.ask(&bridge.states, AGENT).await.expect("accepted");
    }
}

#[tokio::test]
async fn nothing_is_asked_where_the_tenant_or_its_edition_does_not_allow_it() {
    for tenant in ["read_back = false\n", "edition = \"2014\"\n"] {
        let bridge = signed_in(tenant).await;
        fail(&bridge, CUT);
        let answer = bridge.set_busy(AGENT).await;
        refused(answer, Code::Unknown, NO_ANSWER, "unknown");
        assert!(bridge.asked(Interface::AgentStatus).is_empty(), "{tenant}");
    }
}

/// The caller hears at its deadline that the outcome is unknown, and the bridge goes on finding it out.
#[tokio::test]
async fn a_caller_who_cannot_wait_does_not_end_the_question() {
    let bridge = signed_in("timeouts.request = \"1s\"\n").await;
    fail(&bridge, Fault::Hang);
    let mut request =
        Request::new(SetBusyRequest { agent_id: AGENT.to_string(), ..<_>::default() });
    request.set_timeout(Duration::from_millis(400));
    let answer = bridge.states.clone().set_busy(request).await;
    refused(answer, Code::DeadlineExceeded, "DEADLINE", "unknown");
    until_asked("the question is answered", async || has_counted_one(&bridge).await).await;
}

#[tokio::test]
async fn no_confirmation_is_lost_with_the_answer() {
    use ccgateway_bridge::rpc::proto::confirmation;
    let bridge = ccgateway_test_support::kept(Options::default(), [AGENT]).await;
    fail(&bridge, CUT);
    let request = SetBusyRequest {
        agent_id: AGENT.to_string(),
        confirm_within: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..<_>::default()
    };
    let answer = bridge.call(request).await.expect("accepted");
    assert_eq!(answer.observed_state(), ActivityState::Busy);
    assert_eq!(answer.confirmation.expect("asked for").status(), confirmation::Status::Confirmed);
}
