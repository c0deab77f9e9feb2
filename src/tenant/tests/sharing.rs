//! What a tenant does that other replicas serve too.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    others::{LOCK_TIME, OURS, Others, THEIRS},
    safekeeping::TestStores,
    world::{
        FAST, PASSWORD, Setup, UNPOLLED, World, agent, context, password, prompt, refusal, until,
        within,
    },
};
use crate::{
    call::{CallError, Obstacle, Outcome},
    gateway::say_busy,
    session::{Guid, NewSession, Origin, SessionState},
    state::AgentState,
    tenant::{Accepted, Claimed, LeaseCounts, Lock, Polls as _, Replicas, agents::Loss},
};

async fn with(others: &Others, credentials: &[u32]) -> World {
    let (gateway, lines) = (prompt(), &FAST[..]);
    World::of(Setup { gateway, lines, credentials, replicas: Some(others), ..Setup::default() })
        .await
}

/// A command that goes on beside the test.
fn busy(world: &World) -> tokio::task::JoinHandle<Result<Accepted, CallError>> {
    let tenant = world.tenant.clone();
    tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    })
}

/// Another replica signs the agent in, and stores the session.
async fn signed_in_elsewhere(world: &World) -> u64 {
    let guid = Guid::parse(&world.gateway.sign_in(1001)).expect("a Guid");
    let session = NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies: <_>::default() };
    world.tenant.sessions.put(agent(1001), session).await.expect("stored").version
}

#[tokio::test]
async fn who_keeps_a_session_is_decided_with_the_others() {
    for (claimed, state) in [
        (Claimed::Here, Some(SessionState::Kept)),
        (Claimed::Elsewhere, None),
        (Claimed::Unknown, Some(SessionState::Unkept)),
    ] {
        let others = Others::default();
        *others.polls.claimed.lock().expect("free") = claimed;
        let world = with(&others, &[]).await;
        world.sign_in(1001).await;
        assert_eq!(world.tenant.session_state(agent(1001)), state, "{claimed:?}");
        assert!(world.tenant.is_polled(agent(1001)).await == (claimed != Claimed::Unknown));
    }
}

#[tokio::test]
async fn a_replica_that_may_not_poll_leaves_the_session_to_another() {
    let others = Others::default();
    let world = with(&others, &[]).await;
    world.sign_in(1001).await;
    assert!(world.tenant.is_polling(agent(1001)));
    until("polled", || !world.asked(Interface::Poll).is_empty()).await;
    others.polls.may_poll.store(false, Relaxed);
    world.until_state(1001, None).await;
    assert_eq!(others.polls.ended.load(Relaxed), 1);
    assert!(!world.tenant.is_polling(agent(1001)));
    assert!(world.tenant.is_wanted(agent(1001)).await, "the session is there");
    assert!(!world.tenant.is_wanted(agent(1002)).await);
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn polls_that_are_finished_end_between_two_of_them_and_those_that_are_stopped_at_once() {
    let others = Others::default();
    let world = with(&others, &[]).await;
    world.sign_in(1001).await;
    until("it has ended", || world.tenant.finish(agent(1001))).await;
    world.sign_in(1002).await;
    world.tenant.stop(agent(1002));
    assert!(!world.tenant.is_polling(agent(1002)));
    assert_eq!(world.tenant.session_state(agent(1002)), None);
}

#[tokio::test]
async fn a_session_that_another_replica_may_have_is_not_made_anew() {
    let others = Others::default();
    let world = with(&others, &[]).await;
    world.sign_in(1001).await;
    others.polls.is_sole.store(false, Relaxed);
    world.gateway.sign_out(1001);
    world.until_state(1001, None).await;
    assert!(world.tenant.sessions.cached(agent(1001)).is_some(), "it stays stored");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_session_that_another_replica_may_have_is_not_ended_for_a_sign_out_without_answer() {
    let others = Others::default();
    let world = with(&others, &[]).await;
    world.sign_in(1001).await;
    let made = world.tenant.sessions.cached(agent(1001)).expect("a session").made;
    others.polls.is_sole.store(false, Relaxed);
    world.gateway.freeze();
    world.tenant.agents.lost(agent(1001), Loss::SignOut { made }, Instant::now());
    world.gateway.sign_out(1001);
    world.gateway.thaw();
    world.until_state(1001, None).await;
    assert!(world.tenant.sessions.cached(agent(1001)).is_some(), "it stays stored");
}

#[tokio::test]
async fn a_keeper_that_finds_its_agent_signed_out_ends_the_session_also_in_a_slow_store() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let world = World::of(Setup {
        gateway: prompt(),
        lines: &FAST[..],
        credentials: &[1001],
        replicas: Some(&others),
        stores: Some(stores.clone()),
    })
    .await;
    world.sign_in(1001).await;
    let made = world.tenant.sessions.cached(agent(1001)).expect("a session").made;
    world.gateway.freeze();
    world.tenant.agents.lost(agent(1001), Loss::SignOut { made }, Instant::now());
    world.gateway.sign_out(1001);
    stores.store.hang();
    world.gateway.thaw();
    world.until_state(1001, None).await;
    stores.store.go_on();
    until("ended", || world.tenant.sessions.cached(agent(1001)).is_none()).await;
    assert!(!world.tenant.is_polling(agent(1001)));
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

/// As after a sign-out at another replica, or in the process before this one, whose answer was lost.
async fn lost_sign_out(others: Option<&dyn Replicas>, is_good_since: bool) {
    let stores = TestStores::new(false);
    let lines = &FAST[..];
    let setup = Setup { gateway: prompt(), lines, credentials: &[1001], ..<_>::default() };
    let setup = Setup { replicas: others, stores: Some(stores), ..setup };
    let world = World::of(setup).await;
    world.sign_in(1001).await;
    let made = world.tenant.sessions.cached(agent(1001)).expect("a session").made;
    if !is_good_since {
        world.gateway.freeze();
    }
    world.tenant.credentials.note_sign_out(agent(1001), made).await;
    // A note has whole milliseconds.
    let noted = Instant::now() + Duration::from_millis(2);
    if is_good_since {
        let is_good = || world.tenant.agents.was_good_since(agent(1001), noted);
        until("a good poll", is_good).await;
    }
    world.gateway.sign_out(1001);
    world.gateway.thaw();
    let sign_ins = if is_good_since { 2 } else { 1 };
    let has_ended = || world.tenant.sessions.cached(agent(1001)).is_none();
    let done = || {
        if is_good_since { world.asked(Interface::SignIn).len() == sign_ins } else { has_ended() }
    };
    until("a new session, or the end", done).await;
    assert_eq!(world.asked(Interface::SignIn).len(), sign_ins);
}

#[tokio::test]
async fn a_session_that_goes_on_after_a_lost_sign_out_elsewhere_is_made_anew_when_it_is_lost() {
    lost_sign_out(Some(&Others::default()), true).await;
    lost_sign_out(None, true).await;
}

#[tokio::test]
async fn a_session_that_a_lost_sign_out_elsewhere_has_ended_is_not_made_anew() {
    lost_sign_out(Some(&Others::default()), false).await;
    lost_sign_out(None, false).await;
}

#[tokio::test]
async fn what_is_known_of_an_agent_whom_another_replica_polls_does_not_count_for_long() {
    let others = Others::default();
    *others.polls.claimed.lock().expect("free") = Claimed::Elsewhere;
    let world = with(&others, &[]).await;
    world.sign_in(1001).await;
    assert!(world.gateway.force_busy(1001));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let (headers, body, content_type) = (Vec::new(), Vec::new(), String::new());
    let lost = Fault::Status { status: 502, headers, body, content_type };
    world.gateway.misbehave(Misbehaviour::once(lost).on(Interface::SayBusy));
    let told = world.tenant.command(agent(1001), say_busy(None, None), &context(), None).await;
    assert_eq!(told.expect_err("not proven").outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn events_of_a_poll_are_told_also_if_its_new_guid_cannot_be_stored_in_time() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let setup = Setup { gateway: prompt(), lines: &FAST[..], ..<_>::default() };
    let setup = Setup { replicas: Some(&others), stores: Some(stores.clone()), ..setup };
    let world = World::of(setup).await;
    world.sign_in(1001).await;
    until("polled", || !world.asked(Interface::Poll).is_empty()).await;
    let version = || world.tenant.sessions.cached(agent(1001)).map(|session| session.version);
    let before = version();
    stores.store.hang();
    let event = r#"{"eventType":"AgentState_SetNotReady_Success","workNo":"1001"}"#;
    let both = Fault::Status {
        status: 200,
        headers: vec![("Set-GUID".into(), "JSESSIONID=newer".into())],
        body: format!(r#"{{"message":"success","retcode":"0","event":{event}}}"#).into(),
        content_type: "application/json".into(),
    };
    world.gateway.misbehave(Misbehaviour::once(both).on(Interface::Poll));
    let is_told = || world.tenant.events.state(agent(1001)) == Some(AgentState::Busy);
    until("the event", is_told).await;
    world.tenant.stop(agent(1001));
    assert_eq!(version(), before, "the Guid is not stored");
}

#[tokio::test]
async fn an_agent_without_polls_for_one_agent_is_not_left_to_others() {
    let others = Others::default();
    let gateway = prompt();
    let lines = [&FAST[..], &[("auth_mode", "static")]].concat();
    let setup = Setup { gateway, lines: &lines, replicas: Some(&others), ..<_>::default() };
    let world = World::of(setup).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-001")).on(Interface::Poll));
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Unkept)).await;
    assert_eq!(world.tenant.unkept(), [agent(1001)]);
    world.tenant.leave_to_others(agent(1001));
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Unkept));
    // Nobody knows who polls for a new session.
    *others.polls.claimed.lock().expect("free") = Claimed::Unknown;
    world.sign_in(1002).await;
    assert_eq!(world.tenant.unkept(), [agent(1001), agent(1002)]);
    world.tenant.leave_to_others(agent(1002));
    assert_eq!(world.tenant.session_state(agent(1002)), None);
    assert_eq!(world.tenant.unkept(), [agent(1001)]);
}

#[tokio::test]
async fn what_the_others_have_to_know_is_passed_on() {
    let others = Others::default();
    let world = with(&others, &[]).await;
    assert!(world.tenant.is_kept_by_replicas());
    assert_eq!(world.tenant.lease_counts(), LeaseCounts { overdue: 1, dropped: 2 });
    world.tenant.share_polls();
    until("run", || others.polls.runs.load(Relaxed) == 1).await;
    world.tenant.hand_over().await;
    assert_eq!(others.polls.left.load(Relaxed), 1);
}

#[tokio::test]
async fn a_sign_in_waits_until_no_other_replica_is_at_it() {
    let two = Lock { others: 2, ..OURS };
    for wait in [THEIRS, two] {
        let one_left = Lock { others: 1, ..OURS };
        let others = Others::answering([Some(wait), Some(wait), Some(one_left)]);
        let world = with(&others, &[1001]).await;
        busy(&world).await.expect("no panic").expect("accepted");
        assert!(others.sign_ins.asked.load(Relaxed) >= 3);
        until("given back", || others.sign_ins.unlocked.load(Relaxed) >= 1).await;
        assert_eq!(world.asked(Interface::SignIn).len(), 1);
    }
}

#[tokio::test]
async fn a_session_that_another_replica_has_made_meanwhile_is_used() {
    let others = Others::answering([Some(THEIRS)]);
    let world = with(&others, &[1001]).await;
    let call = busy(&world);
    until("it waits", || others.sign_ins.asked.load(Relaxed) >= 1).await;
    signed_in_elsewhere(&world).await;
    call.await.expect("no panic").expect("accepted");
    assert!(world.asked(Interface::SignIn).is_empty());
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_keeps_nobody_from_signing_in() {
    let others = Others::answering([None]);
    let world = with(&others, &[1001]).await;
    busy(&world).await.expect("no panic").expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_keeper_signs_nobody_in_while_the_store_does_not_say_what_others_have_done() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    for is_back in [true, false] {
        let signed_in = world.asked(Interface::SignIn).len();
        others.answer([None]);
        let asked = others.sign_ins.asked.load(Relaxed);
        world.gateway.sign_out(1001);
        until("it asks again", || others.sign_ins.asked.load(Relaxed) >= asked + 2).await;
        assert_eq!(world.asked(Interface::SignIn).len(), signed_in);
        if is_back {
            others.answer([Some(OURS)]);
            until("made anew", || world.asked(Interface::SignIn).len() > signed_in).await;
            world.until_state(1001, Some(SessionState::Kept)).await;
        } else {
            others.polls.is_sole.store(false, Relaxed);
            until("given up", || !world.tenant.is_polling(agent(1001))).await;
            assert_eq!(world.asked(Interface::SignIn).len(), signed_in);
            assert!(world.tenant.sessions.cached(agent(1001)).is_some(), "it stays stored");
        }
    }
}

#[tokio::test]
async fn a_call_does_not_undo_a_sign_out_at_another_replica_with_what_was_given_before_it() {
    for (credentials, signed_in) in [(&[][..], 1), (&[1001][..], 2)] {
        let (others, stores) = (Others::answering([Some(OURS)]), TestStores::new(false));
        let setup =
            Setup { lines: &UNPOLLED, credentials, replicas: Some(&others), ..<_>::default() };
        let world = World::of(Setup { stores: Some(stores.clone()), ..setup }).await;
        world.sign_in(1001).await;
        let version = world.tenant.sessions.cached(agent(1001)).expect("a session").version;
        world.gateway.sign_out(1001);
        others.answer([Some(THEIRS)]);
        let asked = others.sign_ins.asked.load(Relaxed);
        let call = busy(&world);
        until("it waits", || others.sign_ins.asked.load(Relaxed) > asked).await;
        world.tenant.sessions.remove(agent(1001), version).await.expect("removed");
        stores.store.all_signed_out.store(true, Relaxed);
        others.answer([Some(OURS)]);
        let told = call.await.expect("no panic");
        assert_eq!(told.is_ok(), signed_in == 2, "{told:?}");
        assert_eq!(world.asked(Interface::SignIn).len(), signed_in);
    }
}

#[tokio::test]
async fn the_lock_is_renewed_while_the_gateway_takes_its_time() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    let slow = Fault::Delay(4 * LOCK_TIME);
    world.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn));
    busy(&world).await.expect("no panic").expect("accepted");
    assert!(others.sign_ins.asked.load(Relaxed) >= 5);
    until("given back", || others.sign_ins.unlocked.load(Relaxed) == 1).await;
}

#[tokio::test]
async fn an_agent_whom_another_replica_is_signing_in_is_not_taken_from_it() {
    let contested = Lock { others: 1, ..OURS };
    let others = Others::answering([Some(OURS), Some(contested)]);
    let world = with(&others, &[1001]).await;
    world.gateway.sign_in(1001);
    let call = busy(&world);
    until("the gateway has refused", || !world.asked(Interface::SignIn).is_empty()).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    signed_in_elsewhere(&world).await;
    call.await.expect("no panic").expect("accepted");
    assert!(world.asked(Interface::ForceSignIn).is_empty());
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn an_agent_whom_no_replica_is_signing_in_is_taken_back() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    world.gateway.sign_in(1001);
    busy(&world).await.expect("no panic").expect("accepted");
    assert_eq!(world.asked(Interface::ForceSignIn).len(), 1);
    assert_eq!(world.counted("ccgw_take_overs_total", "taken_back"), 1);
}

#[tokio::test]
async fn a_sign_in_that_the_gateway_is_at_already_is_waited_for() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("100-021")).on(Interface::SignIn));
    let call = busy(&world);
    until("the gateway has refused", || !world.asked(Interface::SignIn).is_empty()).await;
    signed_in_elsewhere(&world).await;
    call.await.expect("no panic").expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
    assert_eq!(world.tenant.session_state(agent(1001)), None, "the other replica keeps it");
}

#[tokio::test]
async fn a_session_that_comes_late_is_not_put_over_a_newer_one() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[]).await;
    let slow = Fault::Delay(Duration::from_millis(60));
    world.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn));
    let tenant = world.tenant.clone();
    let late = tokio::spawn(async move {
        tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await
    });
    until("it is under way", || !world.asked(Interface::SignIn).is_empty()).await;
    let newer = signed_in_elsewhere(&world).await;
    let stored = Lock { stored: newer, ..OURS };
    others.answer([Some(stored)]);
    late.await.expect("no panic").expect("signed in");
    let stored = world.tenant.sessions.cached(agent(1001)).expect("a session");
    assert!(stored.version >= newer);
}

#[tokio::test]
async fn a_caller_who_cannot_wait_for_another_replica_is_told_so() {
    let others = Others::answering([Some(THEIRS)]);
    let world = with(&others, &[1001]).await;
    let hurried = within(Duration::from_secs(1));
    let command = say_busy(None, None);
    let error =
        world.tenant.command(agent(1001), command, &hurried, None).await.expect_err("waited");
    assert!(matches!(error.obstacle(), Some(Obstacle::Deadline(_))), "{error}");
    assert!(world.asked(Interface::SignIn).is_empty());
}

#[tokio::test]
async fn a_call_waits_whose_turn_comes_in_time_if_the_other_replicas_need_no_moments() {
    let others = Others::default();
    others.sign_ins.takes_all_moments.store(true, Relaxed);
    // By its own part of the rate, this replica needs longer for them than their callers wait.
    let agents: Vec<u32> = (1001..=1013).collect();
    let lines = [UNPOLLED[0], ("keep.sign_ins_per_second", "1")];
    let setup = Setup { lines: &lines, credentials: &agents, ..<_>::default() };
    let world = World::of(Setup { replicas: Some(&others), ..setup }).await;
    let calls = join_all(agents.iter().map(|id| world.busy(*id)));
    let giving = async {
        until("all wait", || world.tenant.sign_in_queue().waiting == agents.len()).await;
        others.sign_ins.takes_all_moments.store(false, Relaxed);
    };
    for call in tokio::join!(calls, giving).0 {
        call.expect("accepted");
    }
}

#[tokio::test]
async fn a_caller_is_told_when_the_turn_comes_by_this_replicas_part_of_the_rate() {
    let others = Others::default();
    others.sign_ins.takes_all_moments.store(true, Relaxed);
    let (lines, credentials) =
        ([UNPOLLED[0], ("keep.sign_ins_per_second", "1")], &[1001, 1002][..]);
    let setup = Setup { lines: &lines, credentials, replicas: Some(&others), ..<_>::default() };
    let world = World::of(setup).await;
    let _first = busy(&world);
    until("it waits", || world.tenant.sign_in_queue().waiting == 1).await;
    let (command, hurried) = (say_busy(None, None), within(Duration::from_secs(1)));
    let error =
        world.tenant.command(agent(1002), command, &hurried, None).await.expect_err("too soon");
    // There are two replicas.
    let second = Duration::from_secs(2);
    assert!(
        matches!(error.obstacle(), Some(Obstacle::SignInsQueued { due_in }) if *due_in == second),
        "{error:?}"
    );
}
