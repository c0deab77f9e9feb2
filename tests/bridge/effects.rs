//! Confirmations of every change, by its event and by the agent's status.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    Confirmation,
    confirmation::{Reason, Status},
};
use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, TestBridge, changes::Change, kept, said, until};

use crate::table::{BUSY, ROWS, rows};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn every_change_is_confirmed_by_its_event() {
    let bridge = kept(Options::default(), rows().map(|(agent, _)| agent)).await;
    for (agent, row) in rows() {
        let mut watching = bridge.watch(&[agent], None).await;
        for change in row.allowed_after {
            let before = change.confirmed(&bridge.states, agent, LONG).await.expect("accepted");
            assert_eq!(before.status(), Status::Confirmed, "{change:?}: {before:?}");
        }
        let told = row.change.confirmed(&bridge.states, agent, LONG).await.expect("accepted");
        assert_eq!(told.status(), Status::Confirmed, "{}: {told:?}", row.method);
        assert_eq!(told.reason(), Reason::Unspecified);
        let event = loop {
            let event = watching.event(row.event).await;
            if event.sequence >= told.event_sequence {
                break event;
            }
        };
        assert_eq!(told.event_sequence, event.sequence, "{}", row.method);
        assert!(told.event_time.is_some());
    }
}

#[tokio::test]
async fn an_event_confirms_only_if_the_agents_status_fits_it() {
    const CODES: std::ops::RangeInclusive<i32> = 0..=10;
    const SOME: Duration = Duration::from_secs(3);
    let cases = || (AGENT..).zip(ROWS.iter().flat_map(|row| CODES.map(move |code| (row, code))));
    let bridge = kept(Options::default(), cases().map(|(agent, _)| agent)).await;
    let confirming = cases().map(|(agent, (row, code))| {
        let (states, gateway) = (bridge.states.clone(), bridge.gateway.clone());
        tokio::spawn(async move {
            for change in row.allowed_after {
                change.confirmed(&states, agent, LONG).await.expect("accepted");
            }
            gateway.misbehave(said(agent, &format!(r#"{{"agentState":{code}}}"#)));
            // Numbers that say nothing contradict nothing.
            let fits = (row.fits)(code) || matches!(code, 0 | 10);
            let within = if fits { LONG } else { SOME };
            let told = row.change.confirmed(&states, agent, within).await.expect("accepted");
            let expected = if fits {
                (Status::Confirmed, Reason::Unspecified)
            } else {
                (Status::Accepted, Reason::OtherState)
            };
            assert_eq!((told.status(), told.reason()), expected, "{} {code}", row.method);
        })
    });
    let confirming: Vec<_> = confirming.collect();
    for told in confirming {
        told.await.expect("as expected");
    }
}

#[tokio::test]
async fn a_change_does_not_claim_to_wait_for_the_state_that_it_ends() {
    let bridge = kept(short_polls(), [AGENT]).await;
    Change::SetAfterCallWork.confirmed(&bridge.states, AGENT, LONG).await.expect("accepted");
    hold_polls(&bridge).await;
    let told = Change::CancelAfterCallWork.confirmed(&bridge.states, AGENT, SHORT).await;
    check_accepted(&told.expect("accepted"), Reason::NoEvent);
}

#[tokio::test]
async fn an_agent_who_is_called_before_the_event_comes_is_talking_and_not_busy() {
    let bridge = kept(short_polls(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    hold_polls(&bridge).await;
    let confirming = BUSY.confirmed(&bridge.states, AGENT, Duration::from_secs(2));
    let calling = async {
        until("accepted", || answered(&bridge, Interface::SayBusy)).await;
        bridge.gateway.start_call(AGENT);
        bridge.gateway.behave();
        watching.event("AgentState_SetNotReady_Success").await;
        watching.event("AgentState_Busy").await;
    };
    let (told, ()) = tokio::join!(confirming, calling);
    check_accepted(&told.expect("accepted"), Reason::Talking);
}

#[tokio::test]
async fn a_busy_waits_for_the_end_of_after_call_work() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    Change::SetAfterCallWork.confirmed(&bridge.states, AGENT, LONG).await.expect("accepted");
    let told = BUSY.confirmed(&bridge.states, AGENT, SHORT).await.expect("accepted");
    check_accepted(&told, Reason::AfterCallWork);

    Change::CancelAfterCallWork.ask(&bridge.states, AGENT).await.expect("accepted");
    watching.event("AgentState_CancelWork_Success").await;
    watching.event("AgentState_SetNotReady_Success").await;
}

#[tokio::test]
async fn set_idle_while_talking_cancels_a_waiting_busy_request() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.gateway.start_call(AGENT);
    watching.event("AgentState_Busy").await;
    BUSY.ask(&bridge.states, AGENT).await.expect("accepted");
    let pending = || bridge.gateway.agent(AGENT).is_some_and(|agent| agent.pending_busy);
    assert!(pending());

    let told = Change::SetIdle.confirmed(&bridge.states, AGENT, SHORT).await.expect("accepted");
    check_accepted(&told, Reason::Talking);
    assert!(!pending());
    bridge.gateway.end_call(AGENT);
    watching.event("AgentState_Ready").await;
}

/// So that a rule for polls soon has its effect.
fn short_polls() -> Options {
    Options { poll_wait: Duration::from_millis(20), ..<_>::default() }
}

/// Has every poll refused in a way that the bridge waits out; events stay with the gateway.
async fn hold_polls(bridge: &TestBridge) {
    let retcode = "000-004".to_owned();
    let fault = Fault::Retcode { retcode, message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::Poll));
    let held = |poll: &Entry| poll.answer.as_ref().is_some_and(|answer| answer.fault.is_some());
    until("a poll is refused", || bridge.asked(Interface::Poll).iter().any(held)).await;
}

fn answered(bridge: &TestBridge, interface: Interface) -> bool {
    bridge.asked(interface).iter().any(|entry| entry.answer.is_some())
}

#[track_caller]
fn check_accepted(told: &Confirmation, why: Reason) {
    assert_eq!((told.status(), told.reason()), (Status::Accepted, why), "{told:?}");
}
