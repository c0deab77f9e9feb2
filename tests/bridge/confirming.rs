//! `confirm_within`: the call waits for the event that confirms that the agent is busy.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, Confirmation, SetBusyRequest, SignInRequest,
    confirmation::{Reason, Status},
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, PASSWORD, Setup, TestBridge, keeping, kept, refused, until};
use tokio::time::Instant;
use tonic::{Code, Request};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

async fn confirmed(bridge: &TestBridge, reason: i32, within: Duration) -> Confirmation {
    let request = SetBusyRequest {
        agent_id: AGENT.to_string(),
        reason: Some(reason),
        prolong: Some(true),
        confirm_within: Some(within.try_into().expect("a duration")),
        ..<_>::default()
    };
    let answer = bridge.call(request).await.expect("accepted");
    answer.confirmation.expect("asked for")
}

#[track_caller]
fn check_accepted(confirmation: &Confirmation, why: Reason) {
    let seen = (confirmation.status(), confirmation.reason());
    assert_eq!(seen, (Status::Accepted, why), "{confirmation:?}");
    assert_eq!(confirmation.event_time, None);
}

#[tokio::test]
async fn an_idle_agents_busy_is_confirmed_with_the_events_number_and_time() {
    let bridge = kept(Options { event_gen_time: true, ..<_>::default() }, [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let confirmation = confirmed(&bridge, 200, LONG).await;
    assert_eq!(confirmation.status(), Status::Confirmed, "{confirmation:?}");

    let event = watching.event("AgentState_SetNotReady_Success").await;
    assert_eq!(confirmation.event_sequence, event.sequence);
    let time = confirmation.event_time.expect("a time");
    let age = std::time::SystemTime::now().duration_since(time.try_into().expect("a time"));
    assert!(age.expect("not in the future") < LONG);
}

#[tokio::test]
async fn a_talking_agents_busy_is_accepted_and_its_event_comes_when_the_call_ends() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.gateway.start_call(AGENT);
    watching.event("AgentState_Busy").await;

    check_accepted(&confirmed(&bridge, 200, SHORT).await, Reason::Talking);
    bridge.gateway.end_call(AGENT);
    watching.event("AgentState_SetNotReady_Success").await;
}

#[tokio::test]
async fn a_caller_without_a_deadline_is_waited_for_as_long_as_it_wants_a_confirmation() {
    let within = Duration::from_secs(3);
    let server = "default_deadline = \"2s\"\n".into();
    let bridge = keeping(Setup { server, ..<_>::default() }, []).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let (agent_id, password) = (AGENT.to_string(), Some(PASSWORD.into()));
    let mut sign_in = Request::new(SignInRequest { agent_id, password, ..<_>::default() });
    sign_in.set_timeout(LONG);
    bridge.sessions.clone().sign_in(sign_in).await.expect("signed in");
    bridge.gateway.start_call(AGENT);
    watching.event("AgentState_Busy").await;

    let started = Instant::now();
    check_accepted(&confirmed(&bridge, 200, within).await, Reason::Talking);
    assert!(started.elapsed() >= within, "{:?}", started.elapsed());

    let request = BatchSetBusyRequest {
        confirm_within: Some(within.try_into().expect("a duration")),
        ..crate::batch::request([AGENT])
    };
    let started = Instant::now();
    bridge.states.clone().batch_set_busy(request).await.expect("answered");
    assert!(started.elapsed() >= within, "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_end_of_a_call_within_the_time_confirms() {
    let bridge = kept(Options::default(), [AGENT]).await;
    bridge.gateway.start_call(AGENT);
    let waiting = confirmed(&bridge, 200, LONG);
    let ending = async {
        let accepted = || {
            let asked = bridge.asked(Interface::SayBusy);
            asked.first().is_some_and(|entry| entry.answer.is_some())
        };
        until("accepted", accepted).await;
        bridge.gateway.end_call(AGENT);
    };
    let (confirmation, ()) = tokio::join!(waiting, ending);
    assert_eq!(confirmation.status(), Status::Confirmed, "{confirmation:?}");
}

#[tokio::test]
async fn events_that_were_queued_before_the_call_confirm_nothing() {
    // Whether the gateway tells the agent's status, or its answer is lost.
    for lost in [None, Some(Fault::CutBeforeAnswer)] {
        let bridge = kept(Options::default(), [AGENT]).await;
        let mut watching = bridge.watch(&[AGENT], None).await;
        // The agent was busy and is not any more; the gateway has both events in its queue, and the
        // polls that would fetch them hang.
        let hold = Fault::DelayBefore(Duration::from_secs(1));
        let polls = || bridge.asked(Interface::Poll).len();
        let before = polls();
        bridge.gateway.misbehave(Misbehaviour::always(hold).on(Interface::Poll));
        bridge.gateway.start_call(AGENT);
        until("a poll that waits", || polls() > before).await;
        bridge.gateway.end_call(AGENT);
        bridge.set_busy(AGENT).await.expect("busy");
        bridge.gateway.start_call(AGENT);
        bridge.gateway.behave();
        if let Some(lost) = lost {
            bridge.gateway.misbehave(Misbehaviour::always(lost).on(Interface::AgentStatus));
        }

        let confirmation = confirmed(&bridge, 200, Duration::from_secs(3)).await;
        check_accepted(&confirmation, Reason::Talking);
        watching.event("AgentState_SetNotReady_Success").await;
    }
}

#[tokio::test]
async fn an_event_from_before_a_repeated_request_confirms_nothing() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.gateway.start_call(AGENT);
    bridge.set_busy(AGENT).await.expect("accepted, and carried out when the call ends");
    let overlap = Fault::Retcode { retcode: "000-007".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(overlap).on(Interface::SayBusy));
    let asked = || bridge.asked(Interface::SayBusy).len();
    let before = asked();
    let others = async {
        until("a refused command", || asked() > before).await;
        bridge.gateway.end_call(AGENT);
        let event = watching.event("AgentState_SetNotReady_Success").await;
        // One request may have been sent before the event. The one after it was not.
        let seen = asked();
        until("two more refused commands", || asked() > seen + 1).await;
        bridge.gateway.behave();
        event.sequence
    };
    let (confirmation, others) = tokio::join!(confirmed(&bridge, 200, LONG), others);
    assert_eq!(confirmation.status(), Status::Confirmed, "{confirmation:?}");
    assert!(confirmation.event_sequence > others, "{confirmation:?}, and not {others}");
}

#[tokio::test]
async fn an_event_with_another_busy_reason_confirms_nothing() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let first = confirmed(&bridge, 200, LONG).await;
    let second = confirmed(&bridge, 201, LONG).await;
    assert_eq!(second.status(), Status::Confirmed);
    assert!(second.event_sequence > first.event_sequence);
}

#[tokio::test]
async fn sessions_that_are_not_kept_are_not_waited_for() {
    let bridge = TestBridge::signed_in().await;
    let started = Instant::now();
    check_accepted(&confirmed(&bridge, 200, LONG).await, Reason::NotKept);

    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    check_accepted(&confirmed(&bridge, 201, LONG).await, Reason::NotKept);
    assert!(started.elapsed() < LONG);
}

#[tokio::test]
async fn without_events_the_call_waits_no_longer_than_confirm_within() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let silent = Misbehaviour::always(Fault::Hang).on(Interface::Poll);
    bridge.gateway.misbehave(silent);
    // The poll that is open now may still bring something.
    bridge.gateway.start_call(AGENT);
    bridge.gateway.end_call(AGENT);
    let polls = || bridge.asked(Interface::Poll).len();
    let before = polls();
    until("a poll that hangs", || polls() > before).await;
    check_accepted(&confirmed(&bridge, 200, SHORT).await, Reason::NoEvent);
}

#[tokio::test]
async fn a_confirmation_is_given_up_when_the_deadline_comes_first() {
    let bridge = kept(Options::default(), [AGENT]).await;
    bridge.gateway.start_call(AGENT);
    let mut request = Request::new(SetBusyRequest {
        agent_id: AGENT.to_string(),
        confirm_within: Some(LONG.try_into().expect("a duration")),
        ..<_>::default()
    });
    request.set_timeout(Duration::from_millis(500));
    let answer = bridge.states.clone().set_busy(request).await.expect("accepted is no failure");
    let confirmation = answer.into_inner().confirmation.expect("asked for");
    assert_eq!(confirmation.status(), Status::Accepted, "{confirmation:?}");
}

#[tokio::test]
async fn a_confirm_within_out_of_range_is_refused() {
    let bridge = TestBridge::start().await;
    for (seconds, nanos) in [(0, 0), (-1, 0), (601, 0), (0, 999)] {
        let within = prost_types::Duration { seconds, nanos };
        let agent_id = AGENT.to_string();
        let request = SetBusyRequest { agent_id, confirm_within: Some(within), ..<_>::default() };
        let refusal = refused(
            bridge.call(request).await,
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "not_sent",
        );
        let field = &refusal.details.bad_request().expect("fields").field_violations[0].field;
        assert_eq!(field, "confirm_within");
    }
}
