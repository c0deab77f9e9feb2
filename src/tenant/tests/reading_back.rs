//! What a lost answer is taken to mean, where events are missing or say more than the agent's state.

use std::time::{Duration, SystemTime};

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use tokio::time::{Instant, sleep};

use super::losing::stored;
use super::world::{FAST, Setup, UNPOLLED, World, agent, context, prompt, refusal, until};
use crate::{
    call::{CallError, Outcome},
    event::{Event, Fetched, GatewayEvent, What},
    gateway::{AGENT_STATUS, CANCEL_BUSY, Command, SAY_FREE, rest, say_busy},
    session::{Origin, SessionState},
    state::AgentState,
    tenant::{Accepted, Answer, Confirmation},
};

const SETTLE: (&str, &str) = ("timeouts.settle", "20ms");
const SETTLED: Duration = Duration::from_millis(30);

/// An agent who is signed in, and polled for unless `UNPOLLED` is among the lines.
async fn signed_in(lines: &[(&str, &str)]) -> World {
    let lines = [&[SETTLE], lines].concat();
    let world = World::of(Setup { gateway: prompt(), lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    if !lines.contains(&UNPOLLED[0]) {
        world.until_state(1001, Some(SessionState::Kept)).await;
    }
    world
}

async fn ask(world: &World, command: Command) -> Result<Accepted, CallError> {
    world.tenant.command(agent(1001), command, &context(), None).await
}

/// The request does not reach the gateway: a proxy answers with this HTTP status.
fn lose(world: &World, interface: Interface, status: u16) {
    let (headers, body, content_type) = (Vec::new(), Vec::new(), String::new());
    let fault = Fault::Status { status, headers, body, content_type };
    world.gateway.misbehave(Misbehaviour::once(fault).on(interface));
}

/// The gateway accepts it, and does nothing.
fn ignore(world: &World, interface: Interface) {
    let fault = answer(r#"{"message":"success","retcode":"0"}"#);
    world.gateway.misbehave(Misbehaviour::once(fault).on(interface));
}

/// The gateway says that the agent is idle, whatever the agent is doing.
fn idle() -> Fault {
    answer(r#"{"message":"success","retcode":"0","result":{"agentState":4}}"#)
}

fn answer(body: &str) -> Fault {
    let (headers, content_type) = (Vec::new(), "application/json".into());
    Fault::Status { status: 200, headers, body: body.into(), content_type }
}

#[track_caller]
fn unproven(asked: Result<Accepted, CallError>, expected: AgentState) {
    let error = asked.expect_err("not proven");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(matches!(error, CallError::Observed { state, .. } if state == expected), "{error}");
}

#[tokio::test]
async fn what_an_agent_was_doing_is_not_known_for_long_where_no_events_come() {
    let unpolled = signed_in(&UNPOLLED).await;
    let doubtful = signed_in(&FAST).await;
    doubtful.gateway.misbehave(Misbehaviour::always(Fault::Html).on(Interface::Poll));
    doubtful.until_state(1001, Some(SessionState::Doubtful)).await;
    for world in [unpolled, doubtful] {
        assert!(world.gateway.force_busy(1001));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
        lose(&world, Interface::SayBusy, 502);
        unproven(ask(&world, say_busy(None, None)).await, AgentState::Busy);
    }
}

/// Somebody else ends the busy state at once.
#[tokio::test]
async fn a_change_that_an_event_tells_of_was_made_whatever_the_agent_does_by_now() {
    let world = signed_in(&FAST).await;
    world.gateway.misbehave(Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy));
    // The question waits until then.
    let overlap = Misbehaviour::always(refusal("000-007"));
    world.gateway.misbehave(overlap.on(Interface::AgentStatus));
    let busy = || world.tenant.events.state(agent(1001)) == Some(AgentState::Busy);
    let ended = async {
        until("the event", busy).await;
        assert!(world.gateway.force_idle(1001));
        world.gateway.behave();
    };
    let (asked, ()) = tokio::join!(ask(&world, say_busy(None, None)), ended);
    unproven(asked, AgentState::Idle);
}

/// Another replica signs the agent in anew, who is idle then.
#[tokio::test]
async fn what_an_agent_does_in_another_session_says_nothing_about_a_change_in_the_one_before() {
    let world = signed_in(&[UNPOLLED[0], ("timeouts.settle", "1s")]).await;
    world.gateway.misbehave(Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy));
    world.gateway.misbehave(Misbehaviour::once(idle()).on(Interface::AgentStatus));
    let anew = async {
        until("the question", || !world.asked(Interface::AgentStatus).is_empty()).await;
        let guid = world.gateway.sign_in(1001);
        stored(&world, &guid, Origin::SignedIn).await;
    };
    let (asked, ()) = tokio::join!(ask(&world, say_busy(None, None)), anew);
    assert_eq!(asked.expect_err("not proven").outcome(), Outcome::Unknown);
}

/// It is not known whether `sayfree` ends a rest.
#[tokio::test]
async fn an_accepted_request_says_nothing_where_it_may_have_had_no_effect() {
    let [free, cancel] = [Interface::SayFree, Interface::CancelBusy];
    for (interface, at_gateway) in [(&SAY_FREE, free), (&CANCEL_BUSY, cancel)] {
        let world = signed_in(&UNPOLLED).await;
        ask(&world, rest(60, 0, None)).await.expect("accepted");
        ignore(&world, at_gateway);
        ask(&world, Command::plain(interface)).await.expect("accepted");
        lose(&world, Interface::Rest, 502);
        unproven(ask(&world, rest(60, 0, None)).await, AgentState::Resting);
    }
}

#[tokio::test]
async fn an_old_state_proves_nothing_where_a_proxy_says_that_the_gateway_takes_too_long() {
    for (status, is_late) in [(502, false), (408, true), (504, true), (524, true)] {
        let world = signed_in(&UNPOLLED).await;
        lose(&world, Interface::SayBusy, status);
        let asked = ask(&world, say_busy(None, None)).await;
        if is_late {
            unproven(asked, AgentState::Idle);
        } else {
            assert_eq!(asked.expect_err("lost").outcome(), Outcome::NotApplied);
        }
    }
}

#[tokio::test]
async fn an_event_that_came_while_the_question_waited_for_another_call_still_confirms() {
    let world = signed_in(&FAST).await;
    world.gateway.misbehave(Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy));
    let overlap = Misbehaviour { times: Some(3), ..Misbehaviour::always(refusal("000-007")) };
    world.gateway.misbehave(overlap.on(Interface::AgentStatus));
    let accepted = ask(&world, say_busy(None, None)).await.expect("it was made");
    assert!(matches!(accepted.answer, Answer::Observed(AgentState::Busy)));
    let within = Duration::from_secs(20);
    let confirmation = world.tenant.confirm(agent(1001), &accepted, within, &context()).await;
    assert!(matches!(confirmation, Confirmation::Confirmed { .. }), "{confirmation:?}");
}

/// An event that another replica has fetched before the gateway was asked, and that comes late.
#[tokio::test]
async fn an_event_of_another_replica_may_be_older_than_what_the_gateway_has_said() {
    let world = signed_in(&FAST).await;
    ask(&world, say_busy(None, None)).await.expect("accepted");
    let busy = || world.tenant.events.state(agent(1001)) == Some(AgentState::Busy);
    until("the event", busy).await;
    ask(&world, Command::plain(&AGENT_STATUS)).await.expect("told");
    sleep(SETTLED).await;
    let kind = "AgentState_CancelNotReady_Success".into();
    let what = GatewayEvent { kind, work_no: "1001".into(), content: None, generated_at: None };
    world.tenant.events.append(Event {
        sequence: world.tenant.events.newest() + 1,
        received_at: SystemTime::now(),
        agent: agent(1001),
        what: What::Gateway(what),
        fetched: Fetched::ElsewhereBy(Instant::now()),
    });
    sleep(SETTLED).await;
    lose(&world, Interface::SayBusy, 502);
    unproven(ask(&world, say_busy(None, None)).await, AgentState::Busy);
}
