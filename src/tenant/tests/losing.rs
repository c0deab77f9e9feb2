//! How a session is found to be lost, and when it is not.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::world::{
    FAST, PASSWORD, Setup, UNPOLLED, World, agent, context, password, prompt, refusal, until,
    within,
};
use crate::{
    call::CallError,
    event::{Agents, What},
    gateway::{SAY_BUSY, SignIn, say_busy},
    session::{Guid, NewSession, Origin, SessionState},
    tenant::{
        Polls as _,
        agents::{Attempt, Event, Permission},
    },
};

const POLL: Interface = Interface::Poll;

/// A world with an agent who is kept, and whom the tenant can sign in again.
async fn kept(lines: &[(&str, &str)]) -> World {
    let lines = [&FAST[..], lines].concat();
    let (gateway, credentials) = (prompt(), &[1001][..]);
    let world = World::of(Setup { gateway, lines: &lines, credentials, ..Setup::default() }).await;
    let sign_in = SignIn::new(PASSWORD.into(), String::new(), true);
    world.tenant.sign_in(agent(1001), sign_in, &context(), None).await.expect("signed in");
    world.until_state(1001, Some(SessionState::Kept)).await;
    world
}

/// An answer that says so, though nothing was done and no Guid comes.
fn accepted() -> Fault {
    let body = br#"{"message":"success","retcode":"0"}"#.to_vec();
    let (content_type, headers) = ("application/json".into(), Vec::new());
    Fault::Status { status: 200, headers, body, content_type }
}

pub(super) async fn stored(world: &World, guid: &str, origin: Origin) -> u64 {
    let guid = Guid::parse(guid).expect("a Guid");
    let session = NewSession { guid, origin, ttl: None, cookies: <_>::default() };
    world.tenant.sessions.put(agent(1001), session).await.expect("stored").version
}

async fn polled_on(world: &World) {
    let before = world.asked(POLL).len();
    until("more polls", || world.asked(POLL).len() >= before + 3).await;
}

fn sign_ins(world: &World) -> usize {
    world.asked(Interface::SignIn).len()
}

#[tokio::test]
async fn who_polls_beside_the_bridge_is_found_out_by_asking_whose_the_agent_is() {
    let world = kept(&[]).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-007")).on(POLL));
    let status = Misbehaviour::always(refusal("100-006"));
    world.gateway.misbehave(status.on(Interface::AgentStatus));
    until("it is signed in anew", || sign_ins(&world) >= 2).await;
    assert!(!world.asked(Interface::AgentStatus).is_empty());
}

#[tokio::test]
async fn one_poll_that_meets_another_is_a_coincidence() {
    let world = kept(&[]).await;
    world.refuse(POLL, "000-007");
    polled_on(&world).await;
    assert!(world.asked(Interface::AgentStatus).is_empty());
    assert_eq!(sign_ins(&world), 1);
}

#[tokio::test]
async fn a_gateway_that_cannot_say_whose_an_agent_is_is_not_asked() {
    for line in [("edition", "2014"), ("auth_mode", "none")] {
        let world = kept(&[line]).await;
        world.gateway.misbehave(Misbehaviour::always(refusal("000-007")).on(POLL));
        polled_on(&world).await;
        assert!(world.asked(Interface::AgentStatus).is_empty(), "{line:?}");
        assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Kept));
    }
}

#[tokio::test]
async fn a_sign_out_that_nobody_is_seen_behind_is_a_loss_and_no_take_over() {
    let world = kept(&[("keep.take_back_pause", "1h")]).await;
    world.gateway.freeze();
    let before = world.asked(POLL).len();
    until("a poll waits", || world.asked(POLL).len() > before).await;
    world.gateway.expire_guids(1001);
    world.gateway.sign_out(1001);
    world.refuse(POLL, "100-006");
    world.gateway.thaw();
    until("signed in anew", || sign_ins(&world) == 2).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    assert!(world.tenant.taken_over().is_empty(), "{:?}", world.tenant.taken_over());
    let permission = world.tenant.agents.permission(agent(1001), tokio::time::Instant::now());
    assert!(matches!(permission, Permission::After(_)), "{permission:?}");
}

#[tokio::test]
async fn an_answer_about_a_session_that_was_replaced_meanwhile_loses_nothing() {
    let world = kept(&[]).await;
    world.gateway.freeze();
    let before = world.asked(POLL).len();
    until("a poll waits", || world.asked(POLL).len() > before).await;
    let guid = world.gateway.sign_in(1001);
    stored(&world, &guid, Origin::SignedIn).await;
    world.refuse(POLL, "100-006");
    world.gateway.thaw();
    polled_on(&world).await;
    assert_eq!(sign_ins(&world), 1);
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Kept));
}

#[tokio::test]
async fn a_command_that_is_refused_for_its_guid_uses_a_session_that_came_meanwhile() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let call = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is under way", || !world.asked(Interface::SayBusy).is_empty()).await;
    let guid = world.gateway.sign_in(1001);
    stored(&world, &guid, Origin::SignedIn).await;
    world.refuse(Interface::SayBusy, "000-003");
    world.gateway.thaw();
    call.await.expect("no panic").expect("accepted");
    assert_eq!((sign_ins(&world), world.asked(Interface::SayBusy).len()), (1, 2));
}

#[tokio::test]
async fn polls_begin_again_and_are_finished_one_by_one() {
    let world = World::of(Setup { gateway: prompt(), lines: &FAST, ..Setup::default() }).await;
    let guid = world.gateway.sign_in(1001);
    stored(&world, &guid, Origin::SignedIn).await;
    assert!(!world.tenant.is_polled(agent(1001)).await, "nobody else polls for a process alone");
    world.tenant.keep_again(agent(1001));
    assert!(world.tenant.is_polling(agent(1001)) && world.tenant.is_polled(agent(1001)).await);
    world.gateway.freeze();
    let before = world.asked(POLL).len();
    until("a poll is open", || world.asked(POLL).len() > before).await;
    assert!(!world.tenant.finish(agent(1001)), "its poll is under way");
    assert!(world.tenant.finish(agent(1002)), "there was none");
    world.gateway.thaw();
    until("it has ended", || world.tenant.finish(agent(1001))).await;
}

#[tokio::test]
async fn a_session_that_is_newer_than_the_lost_one_needs_no_sign_in() {
    let world = World::unpolled(&[1001]).await;
    world.busy(1001).await.expect("signed in");
    let version = world.tenant.sessions.cached(agent(1001)).expect("a session").version;
    let settled = world.tenant.make_anew(agent(1001), version - 1).await;
    assert!(settled.result.is_ok());
    assert_eq!(sign_ins(&world), 1);
    assert!(world.tenant.make_anew(agent(1001), version).await.result.is_ok());
    assert_eq!(sign_ins(&world), 2);
}

#[tokio::test]
async fn calls_that_wait_for_a_sign_in_share_its_failure() {
    let world = World::unpolled(&[1001]).await;
    world.gateway.freeze();
    world.refuse(Interface::SignIn, "100-003");
    let call = || {
        let tenant = world.tenant.clone();
        tokio::spawn(async move {
            tenant.command(agent(1001), say_busy(None, None), &context(), None).await
        })
    };
    let calls = [call(), call(), call()];
    until("all wait", || {
        world.tenant.usage().calls.taken == 3 && world.asked(Interface::SignIn).len() == 1
    })
    .await;
    world.gateway.thaw();
    for call in calls {
        call.await.expect("no panic").expect_err("no resources");
    }
    assert_eq!(sign_ins(&world), 1);
}

#[tokio::test]
async fn an_agent_whom_the_other_client_keeps_is_counted_and_another_failure_is_not() {
    let world = World::unpolled(&[1001, 1002]).await;
    let refused = || world.counted("ccgw_take_overs_total", "refused");
    world.refuse(Interface::SignIn, "100-003");
    world.busy(1002).await.expect_err("no resources");
    assert_eq!(refused(), 0);
    world.gateway.sign_in(1001);
    world.refuse(Interface::ForceSignIn, "100-003");
    world.busy(1001).await.expect_err("no resources");
    assert_eq!((refused(), world.counted("ccgw_take_overs_total", "taken_back")), (1, 0));
    world.busy(1002).await.expect("signed in");
    assert_eq!(world.counted("ccgw_take_overs_total", "taken_back"), 0);
}

#[tokio::test]
async fn a_sign_in_that_fails_leaves_the_session_that_is_known() {
    for (origin, is_newer, state) in [
        (Some(Origin::SignedIn), true, SessionState::Gone),
        (Some(Origin::Registered), true, SessionState::Registered),
        (Some(Origin::Registered), false, SessionState::Gone),
        (None, false, SessionState::Gone),
    ] {
        let world = World::unpolled(&[]).await;
        let version = match origin {
            Some(origin) => stored(&world, "a", origin).await,
            None => 0,
        };
        let before = world.entered(state);
        world.tenant.note(agent(1001), Event::Begun(Attempt::SignIn));
        let refused = if is_newer { version - 1 } else { version };
        world.tenant.attempt_failed(agent(1001), "it failed", refused);
        assert_eq!(world.entered(state), before + 1, "{origin:?} {is_newer}");
        assert_eq!(world.tenant.session_state(agent(1001)), None);
    }
}

#[tokio::test]
async fn a_session_that_other_replicas_may_keep_is_not_said_to_be_gone_with_a_failed_sign_in() {
    let others = super::others::Others::default();
    let (lines, replicas) = (&FAST[..], Some(&others as _));
    let world = World::of(Setup { lines, replicas, ..Setup::default() }).await;
    let version = stored(&world, "a", Origin::SignedIn).await;
    world.tenant.note(agent(1001), Event::Begun(Attempt::SignIn));
    world.tenant.attempt_failed(agent(1001), "it failed", version - 1);
    assert_eq!(world.entered(SessionState::Gone), 0);
}

#[tokio::test]
async fn what_came_of_undoing_a_sign_in_without_a_guid_is_told() {
    for (fault, told) in [
        (accepted(), "was signed out again"),
        (refusal("100-007"), "could not be signed out again"),
        (Fault::CutBeforeAnswer, "is not known"),
    ] {
        let world = World::unpolled(&[]).await;
        world.gateway.misbehave(Misbehaviour::once(accepted()).on(Interface::SignIn));
        world.gateway.misbehave(Misbehaviour::always(fault).on(Interface::SignOut));
        let signed_in =
            world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
        let error = signed_in.expect_err("no Guid");
        assert!(matches!(&error, CallError::BadReply(text) if text.contains(told)), "{error}");
    }
}

#[tokio::test]
async fn a_guid_of_a_gateway_that_is_said_to_have_none_is_warned_of() {
    let log = crate::telemetry::log::captured::Captured::start();
    let lines = [UNPOLLED[0], ("auth_mode", "none")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    assert_eq!(log.with("a sign-in brought a Guid, which is not used").len(), 1);
}

#[tokio::test]
async fn each_change_of_a_session_is_logged_and_troubles_as_warnings() {
    let log = crate::telemetry::log::captured::Captured::start();
    let world = kept(&[]).await;
    world.refuse(POLL, "000-004");
    world.until_state(1001, Some(SessionState::Doubtful)).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    let doubtful = log.with("to=doubtful");
    assert!(doubtful[0].contains("WARN") && doubtful[0].contains("1001"), "{doubtful:?}");
    assert!(log.with("from=\"doubtful\" to=kept")[0].contains("INFO"), "{log:?}");
}

#[tokio::test]
async fn who_asks_alone_whether_others_keep_sessions_is_told_no() {
    let others = super::others::Others::default();
    for (lines, is_kept) in [(&FAST[..], true), (&UNPOLLED, false)] {
        let setup = Setup { lines, replicas: Some(&others), ..Setup::default() };
        assert_eq!(World::of(setup).await.tenant.is_kept_by_replicas(), is_kept);
    }
}

#[tokio::test]
async fn an_event_of_another_kind_confirms_nothing_though_the_status_fits() {
    let world = kept(&[]).await;
    assert!(world.gateway.force_busy(1001));
    let newest = || world.tenant.events.newest();
    let before = newest();
    until("told", || newest() > before).await;
    world.gateway.misbehave(Misbehaviour::once(accepted()).on(Interface::SayBusy));
    let accepted = world.busy(1001).await.expect("accepted");
    assert_eq!(accepted.command.interface.log_name, SAY_BUSY.log_name);
    assert!(world.gateway.tell(1001, "AgentState_Ready", None));
    let within = Duration::from_millis(300);
    let confirmation = world.tenant.confirm(agent(1001), &accepted, within, &context()).await;
    assert!(matches!(confirmation, crate::tenant::Confirmation::Accepted(_)), "{confirmation:?}");
}

#[tokio::test]
async fn an_agent_whom_nobody_waits_for_is_not_signed_in_once_the_bridge_stops() {
    // Of two requests one may be an automatic sign-in.
    let lines = [("keep.enabled", "false"), ("limits.requests", "2")];
    let credentials = &[1001, 1002][..];
    let world = World::of(Setup { lines: &lines, credentials, ..Setup::default() }).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let first = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is under way", || sign_ins(&world) == 1).await;
    let hurried = within(Duration::from_millis(200));
    let command = say_busy(None, None);
    world.tenant.command(agent(1002), command, &hurried, None).await.expect_err("too soon");
    assert_eq!(world.tenant.sign_in_queue().waiting, 1);
    world.work.stopping.cancel();
    world.gateway.thaw();
    first.await.expect("no panic").expect("accepted");
    until("nobody waits", || world.tenant.sign_in_queue().waiting == 0).await;
    until("nothing is under way", || world.tenant.sign_in_queue().under_way == 0).await;
    assert_eq!(sign_ins(&world), 1);
}

#[tokio::test]
async fn a_call_that_waits_for_its_moment_uses_a_session_that_another_replica_makes() {
    let others = super::others::Others::default();
    let lines = [&FAST[..], &[("limits.requests", "2")]].concat();
    let (credentials, replicas) = (&[1001, 1002][..], Some(&others as _));
    let world = World::of(Setup { lines: &lines, credentials, replicas, ..Setup::default() }).await;
    let call = |id| {
        let tenant = world.tenant.clone();
        tokio::spawn(async move {
            tenant.command(agent(id), say_busy(None, None), &context(), None).await
        })
    };
    world.gateway.misbehave(Misbehaviour::always(Fault::Hang).on(Interface::SignIn).of(1002));
    let first = call(1002);
    until("it is under way", || sign_ins(&world) == 1).await;
    stored(&world, "a-guid-of-nobody", Origin::SignedIn).await;
    let second = call(1001);
    until("it waits", || world.tenant.sign_in_queue().waiting == 1).await;
    // It looks for a newer session meanwhile, and the refused one is none.
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(world.tenant.sign_in_queue().waiting, 1);
    let guid = world.gateway.sign_in(1001);
    stored(&world, &guid, Origin::SignedIn).await;
    second.await.expect("no panic").expect("accepted");
    assert_eq!(sign_ins(&world), 1);
    first.abort();
}

#[tokio::test]
async fn what_is_read_of_a_session_change_names_its_new_state() {
    let world = World::unpolled(&[]).await;
    let mut watch = world.tenant.watch(Agents::All, Some(0)).await;
    world.tenant.note(agent(1001), Event::Begun(Attempt::SignIn));
    let events = watch.more().await.events;
    let [event] = &events[..] else { panic!("{events:?}") };
    let What::Session(change) = &event.what else { panic!("{event:?}") };
    assert_eq!(change.state, SessionState::SigningIn);
}

#[tokio::test]
async fn polls_are_as_far_apart_as_is_configured() {
    let world = kept(&[("keep.pause_min", "10s"), ("keep.pause_max", "10s")]).await;
    until("polled", || !world.asked(POLL).is_empty()).await;
    // Whoever does not pause has polled many times by then.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.asked(POLL).len(), 1);
}

#[tokio::test]
async fn whoever_waits_for_a_calls_sign_in_is_told_how_it_ended() {
    let world = World::unpolled(&[1001]).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let call = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is under way", || sign_ins(&world) == 1).await;
    assert_eq!(world.tenant.usage().requests.taken, 1, "a sign-in is a request");
    let (anew, thawing) = (world.tenant.make_anew(agent(1001), 0), async {
        tokio::task::yield_now().await;
        world.gateway.thaw();
    });
    let (settled, ()) = tokio::join!(anew, thawing);
    assert!(settled.result.is_ok(), "{:?}", settled.result);
    call.await.expect("no panic").expect("accepted");
    assert_eq!(sign_ins(&world), 1);
}

/// A sign-in of agent 1001 whose turn has come, and that waits for a place among the requests. `None`: it got one
/// before others had taken all.
async fn sign_in_without_place(world: &World) -> Option<[JoinHandle<bool>; 3]> {
    let go_on = |made: BoxFuture<'static, bool>| tokio::spawn(made);
    let recover = |id| {
        let tenant = world.tenant.clone();
        go_on(Box::pin(async move { tenant.recover(agent(id), 0).await.is_ok() }))
    };
    let busy = |id| {
        let (tenant, command) = (world.tenant.clone(), say_busy(None, None));
        let call =
            async move { tenant.command(agent(id), command, &context(), None).await.is_ok() };
        go_on(Box::pin(call))
    };
    for id in [1002, 1003] {
        world.register(id).await;
    }
    assert!(recover(1004).await.expect("no panic"), "it takes the moment of this second");
    world.gateway.freeze();
    let signing_in = recover(1001);
    until("it is in the queue", || world.tenant.sign_in_queue().waiting == 1).await;
    let calls = [busy(1002), busy(1003)];
    let places = || world.asked(Interface::SayBusy).len();
    until("all places are taken", || places() == 2 || sign_ins(world) == 2).await;
    until("its turn has come", || world.tenant.sign_in_queue().waiting == 0).await;
    let [first, second] = calls;
    (places() == 2).then_some([signing_in, first, second])
}

#[tokio::test]
async fn an_owner_who_hands_a_session_in_while_a_sign_in_waits_for_its_place_keeps_it() {
    let lines =
        [("keep.enabled", "false"), ("limits.requests", "2"), ("keep.sign_ins_per_second", "1")];
    let credentials = &[1001, 1004][..];
    for _ in 0..10 {
        let world = World::of(Setup { lines: &lines, credentials, ..Setup::default() }).await;
        let Some(calls) = sign_in_without_place(&world).await else { continue };
        world.register(1001).await;
        world.gateway.thaw();
        for call in calls {
            assert!(call.await.expect("no panic"));
        }
        let session = world.tenant.sessions.cached(agent(1001)).expect("a session");
        assert_eq!((session.origin, sign_ins(&world)), (Origin::Registered, 1));
        return;
    }
    panic!("the places were never taken within a second");
}

#[tokio::test]
async fn an_agent_who_was_signed_out_meanwhile_is_not_signed_in_for_a_caller_who_has_left() {
    let lines = [("keep.enabled", "false"), ("keep.sign_ins_per_second", "1")];
    let credentials = &[1001, 1004][..];
    let world = World::of(Setup { lines: &lines, credentials, ..Setup::default() }).await;
    // It takes the moment of this second.
    world.busy(1004).await.expect("accepted");
    let left = within(Duration::from_millis(200));
    let queued = world.tenant.command(agent(1001), say_busy(None, None), &left, None).await;
    queued.expect_err("its turn comes later");
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let signing_in = tokio::spawn(async move {
        tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await.is_ok()
    });
    until("a sign-in under way", || sign_ins(&world) == 2).await;
    let tenant = world.tenant.clone();
    let signing_out =
        tokio::spawn(
            async move { tenant.sign_out(agent(1001), false, &context(), None).await.is_ok() },
        );
    until("the other's turn", || world.tenant.sign_in_queue().waiting == 0).await;
    world.gateway.thaw();
    assert!(signing_in.await.expect("no panic") && signing_out.await.expect("no panic"));
    until("nobody signs in", || world.tenant.sign_in_queue().under_way == 0).await;
    assert_eq!(sign_ins(&world), 2);
    assert!(!world.gateway.agent(1001).expect("known").signed_in);
}

#[tokio::test]
async fn an_owner_who_hands_a_session_in_while_the_bridge_signs_in_is_not_taken_over() {
    let world = World::unpolled(&[1001]).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let signing_in = tokio::spawn(async move { tenant.recover(agent(1001), 0).await });
    until("it has been sent", || sign_ins(&world) == 1).await;
    world.register(1001).await;
    world.gateway.thaw();
    let session = signing_in.await.expect("no panic").expect("a session");
    assert_eq!(session.origin, Origin::Registered);
    assert!(world.asked(Interface::ForceSignIn).is_empty());
    assert_eq!(world.tenant.taken_over(), []);
}

#[tokio::test]
async fn an_agent_whose_owner_hands_a_session_in_no_longer_waits_for_a_sign_in() {
    // Of two requests one may be an automatic sign-in.
    let lines = [("keep.enabled", "false"), ("limits.requests", "2")];
    let credentials = &[1001, 1002][..];
    let world = World::of(Setup { lines: &lines, credentials, ..Setup::default() }).await;
    world.gateway.freeze();
    let call = |id| {
        let tenant = world.tenant.clone();
        tokio::spawn(async move {
            tenant.command(agent(id), say_busy(None, None), &context(), None).await
        })
    };
    let first = call(1002);
    until("it is under way", || sign_ins(&world) == 1).await;
    let second = call(1001);
    until("it waits", || world.tenant.sign_in_queue().waiting == 1).await;
    world.register(1001).await;
    assert_eq!(world.tenant.sign_in_queue().waiting, 0);
    world.gateway.thaw();
    for call in [first, second] {
        call.await.expect("no panic").expect("accepted");
    }
    assert_eq!(sign_ins(&world), 1);
}
