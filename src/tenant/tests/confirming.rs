//! Whether what was accepted has happened.

use std::time::{Duration, SystemTime};

use ccgateway_sim::{Fault, Interface, Misbehaviour};

use tokio::time::{Instant, timeout};

use super::{
    others::Others,
    safekeeping::TestStores,
    world::{FAST, Setup, UNPOLLED, World, agent, context, prompt, until},
};
use crate::{
    event::{Event, Fetched, GatewayEvent, What},
    gateway::{Command, SAY_FREE, say_busy},
    session::SessionState,
    tenant::{Confirmation, Unconfirmed},
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(1);

async fn kept() -> World {
    let world = World::polling(&[]).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    world
}

async fn confirmed(world: &World, command: Command, within: Duration) -> Confirmation {
    let accepted =
        world.tenant.command(agent(1001), command, &context(), None).await.expect("accepted");
    world.tenant.confirm(agent(1001), &accepted, within, &context()).await
}

#[tokio::test]
async fn an_event_and_the_status_confirm_a_change() {
    let world = kept().await;
    let confirmation = confirmed(&world, say_busy(None, None), LONG).await;
    assert!(matches!(confirmation, Confirmation::Confirmed { .. }), "{confirmation:?}");
    assert_eq!(world.asked(Interface::AgentStatus).len(), 1);
    assert_eq!(world.counted("ccgw_confirmations_total", "result=\"confirmed\""), 1);
    let confirmation = confirmed(&world, Command::plain(&SAY_FREE), LONG).await;
    assert!(matches!(confirmation, Confirmation::Confirmed { .. }), "{confirmation:?}");
}

#[tokio::test]
async fn without_polls_nothing_can_be_confirmed() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    let confirmation = confirmed(&world, say_busy(None, None), LONG).await;
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::NotKept));
}

#[tokio::test]
async fn a_change_that_waits_for_the_end_of_a_call_is_said_to() {
    let world = kept().await;
    assert!(world.gateway.start_call(1001));
    until("talking", || world.tenant.events.state(agent(1001)).is_some()).await;
    let confirmation = confirmed(&world, say_busy(None, None), SHORT).await;
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::Talking));
}

#[tokio::test]
async fn a_status_that_does_not_fit_confirms_nothing() {
    let world = kept().await;
    let body = br#"{"message":"","retcode":"0","result":{"agentState":4}}"#.to_vec();
    let (content_type, headers) = ("application/json".into(), Vec::new());
    let idle = Fault::Raw { body, content_type, headers };
    world.gateway.misbehave(Misbehaviour::always(idle).on(Interface::AgentStatus));
    let mut confirmation = confirmed(&world, say_busy(None, None), SHORT).await;
    // On a busy machine the event may come later than so short a wait ends.
    while confirmation == Confirmation::Accepted(Unconfirmed::NoEvent) {
        assert!(world.gateway.force_idle(1001));
        confirmation = confirmed(&world, say_busy(None, None), SHORT).await;
    }
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::OtherState));
}

#[tokio::test]
async fn a_gateway_that_does_not_tell_the_status_contradicts_nothing() {
    let world = kept().await;
    world.gateway.misbehave(Misbehaviour::always(Fault::Html).on(Interface::AgentStatus));
    let confirmation = confirmed(&world, say_busy(None, None), LONG).await;
    assert!(matches!(confirmation, Confirmation::Confirmed { .. }), "{confirmation:?}");
}

#[tokio::test]
async fn no_event_and_the_end_of_the_bridge_are_told_apart() {
    let world = kept().await;
    // The events come with polls, and these bring none.
    let body = br#"{"message":"","retcode":"0"}"#.to_vec();
    let (content_type, headers) = ("application/json".into(), Vec::new());
    let none = Fault::Status { status: 200, headers, body, content_type };
    world.gateway.misbehave(Misbehaviour::always(none).on(Interface::Poll));
    let confirmation = confirmed(&world, say_busy(None, None), SHORT).await;
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::NoEvent));
    assert!(world.gateway.force_idle(1001));
    world.work.stopping.cancel();
    let confirmation = confirmed(&world, say_busy(None, None), LONG).await;
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::ShuttingDown));
}

#[tokio::test]
async fn a_change_that_waits_for_the_work_after_a_call_is_said_to() {
    let world = kept().await;
    for (kind, why) in [
        ("AgentState_Work", Unconfirmed::AfterCallWork),
        ("AgentState_Busy", Unconfirmed::Talking),
        ("AgentState_Ready", Unconfirmed::NoEvent),
    ] {
        let before = world.tenant.events.newest();
        assert!(world.gateway.tell(1001, kind, None));
        until("told", || world.tenant.events.newest() > before).await;
        // Accepted, and nothing comes of it.
        let body = br#"{"message":"","retcode":"0"}"#.to_vec();
        let (content_type, headers) = ("application/json".into(), Vec::new());
        let nothing = Fault::Status { status: 200, headers, body, content_type };
        world.gateway.misbehave(Misbehaviour::once(nothing).on(Interface::SayBusy));
        let soon = Duration::from_millis(50);
        let confirmation = confirmed(&world, say_busy(None, None), soon).await;
        assert_eq!(confirmation, Confirmation::Accepted(why), "{kind}");
    }
}

#[tokio::test]
async fn an_event_that_another_replica_has_fetched_confirms_nothing_without_the_status() {
    let others = Others::default();
    let (gateway, replicas) = (prompt(), Some(&others as _));
    let world = World::of(Setup { gateway, lines: &FAST, replicas, ..Setup::default() }).await;
    world.sign_in(1001).await;
    let body = br#"{"message":"","retcode":"0"}"#.to_vec();
    let (content_type, headers) = ("application/json".into(), Vec::new());
    let none = Fault::Status { status: 200, headers, body, content_type };
    world.gateway.misbehave(Misbehaviour::always(none).on(Interface::Poll));
    world.gateway.misbehave(Misbehaviour::always(Fault::Html).on(Interface::AgentStatus));
    let accepted = world.busy(1001).await.expect("accepted");
    let (kind, work_no) = ("AgentState_SetNotReady_Success".into(), "1001".into());
    let event = GatewayEvent { kind, work_no, content: None, generated_at: None };
    world.tenant.events.append(Event {
        sequence: world.tenant.events.newest() + 1,
        received_at: SystemTime::now(),
        agent: agent(1001),
        what: What::Gateway(event),
        fetched: Fetched::ElsewhereBy(Instant::now()),
    });
    let within = Duration::from_millis(300);
    let confirmation = world.tenant.confirm(agent(1001), &accepted, within, &context()).await;
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::NoEvent));
    assert!(!world.asked(Interface::AgentStatus).is_empty(), "it was asked for");
}

/// As where another replica has made the change, and is asked here what came of it.
#[tokio::test]
async fn a_store_that_does_not_say_whether_the_agent_is_polled_delays_no_answer() {
    let stores = TestStores::new(false);
    let of_test = Some(stores.clone());
    let setup = Setup { lines: &UNPOLLED, stores: of_test, ..Setup::default() };
    let world = World::of(setup).await;
    world.sign_in(1001).await;
    let accepted = world.busy(1001).await.expect("accepted");
    stores.store.hang();
    let (soon, context) = (Duration::from_millis(50), context());
    let confirming = world.tenant.confirm(agent(1002), &accepted, soon, &context);
    let confirmation = timeout(LONG, confirming).await.expect("in time");
    assert_eq!(confirmation, Confirmation::Accepted(Unconfirmed::NoEvent));
}

#[tokio::test]
async fn a_question_of_the_bridges_own_is_no_call_whose_caller_has_left() {
    let lines = [&FAST[..], &[("timeouts.request", "1s")]].concat();
    let world = World::of(Setup { gateway: prompt(), lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    let accepted = world.busy(1001).await.expect("accepted");
    world.gateway.misbehave(Misbehaviour::always(Fault::Hang).on(Interface::AgentStatus));
    let context = context();
    let mut confirming = Box::pin(world.tenant.confirm(agent(1001), &accepted, LONG, &context));
    tokio::select! {
        confirmation = &mut confirming => panic!("{confirmation:?}"),
        () = until("asked", || !world.asked(Interface::AgentStatus).is_empty()) => {}
    }
    // The call has had its answer, and its caller leaves. The question goes on.
    drop(confirming);
    until("its end", || world.tenant.usage().requests.taken == 0).await;
    assert_eq!(world.tenant.abandoned.counted(), 0);
}
