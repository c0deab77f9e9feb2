//! How sessions are kept alive, lost and made anew.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};

use super::world::{FAST, PASSWORD, Setup, World, agent, context, prompt, refusal, until};
use crate::{
    call::{CallError, Obstacle, Outcome},
    event::{Agents, What},
    gateway::SignIn,
    session::{Guid, SessionState},
    tenant::SignedOut,
};

const POLL: Interface = Interface::Poll;

fn polls(world: &World) -> usize {
    world.asked(POLL).len()
}

/// More polls have been answered.
async fn polled_on(world: &World) {
    let before = polls(world);
    until("more polls", || polls(world) >= before + 3).await;
}

/// A world with one agent who is kept.
async fn kept(lines: &[(&str, &str)], credentials: &[u32]) -> World {
    let lines = [&FAST[..], lines].concat();
    let setup = Setup { gateway: prompt(), lines: &lines, credentials, ..Setup::default() };
    let world = World::of(setup).await;
    let sign_in = SignIn::new(PASSWORD.into(), String::new(), !credentials.is_empty());
    world.tenant.sign_in(agent(1001), sign_in, &context(), None).await.expect("signed in");
    world.until_state(1001, Some(SessionState::Kept)).await;
    world
}

#[tokio::test]
async fn a_session_is_polled_until_the_agent_signs_out() {
    let world = kept(&[], &[]).await;
    polled_on(&world).await;
    assert_eq!(world.tenant.kept(), 1);
    let kept = world.tenant.session_states();
    let kept = kept.iter().find(|count| count.state == SessionState::Kept).expect("counted");
    assert_eq!((kept.now, kept.entered), (1, 1));
    world.tenant.sign_out(agent(1001), false, &context(), None).await.expect("signed out");
    world.until_state(1001, None).await;
    assert_eq!(world.tenant.kept(), 0);
    let before = polls(&world);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(polls(&world) <= before + 1, "polls have ended");
}

/// Signs the agent out, and replaces the session's Guid while the gateway is asked.
async fn signed_out_while_renewed(world: &World) -> Result<(), CallError> {
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let signing_out = tokio::spawn(async move {
        tenant.sign_out(agent(1001), false, &context(), None).await.map(drop)
    });
    until("it was asked", || world.asked(Interface::SignOut).len() == 1).await;
    let session = world.tenant.sessions.cached(agent(1001)).expect("a session");
    let guid = Guid::parse(&world.gateway.renew_guid(1001).expect("signed in")).expect("a Guid");
    let renewed = world.tenant.sessions.renew(agent(1001), &session, guid).await.expect("stored");
    assert!(renewed.is_some_and(|renewed| renewed.made == session.made));
    world.gateway.thaw();
    signing_out.await.expect("no panic")
}

#[tokio::test]
async fn a_sign_out_that_is_refused_for_a_guid_that_was_replaced_is_sent_again_with_the_new_one() {
    let world = kept(&[], &[]).await;
    world.refuse(Interface::SignOut, "000-003");
    signed_out_while_renewed(&world).await.expect("signed out");
    assert_eq!(world.asked(Interface::SignOut).len(), 2);
    world.until_state(1001, None).await;
    assert!(world.tenant.sessions.cached(agent(1001)).is_none());
    assert!(!world.gateway.agent(1001).is_some_and(|agent| agent.signed_in));
}

#[tokio::test]
async fn a_sign_out_whose_answer_was_lost_ends_also_what_was_renewed_meanwhile() {
    let world = kept(&[], &[1001]).await;
    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignOut);
    world.gateway.misbehave(cut);
    let told = signed_out_while_renewed(&world).await.expect_err("no answer");
    assert_eq!(told.outcome(), Outcome::Unknown);
    until("ended", || world.tenant.sessions.cached(agent(1001)).is_none()).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn an_agent_who_was_signed_out_is_signed_in_again_without_a_call() {
    let world = kept(&[], &[]).await;
    world.gateway.sign_out(1001);
    until("signed in again", || world.asked(Interface::SignIn).len() == 2).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    polled_on(&world).await;
    world.busy(1001).await.expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn a_lost_session_without_a_good_password_is_given_up_and_forgotten() {
    let world = kept(&[], &[]).await;
    world.refuse(Interface::SignIn, "100-004");
    world.gateway.sign_out(1001);
    world.until_state(1001, None).await;
    until("forgotten", || world.tenant.sessions.cached(agent(1001)).is_none()).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
    assert_eq!(world.tenant.kept(), 0);
}

#[tokio::test]
async fn a_sign_in_that_fails_for_a_while_is_tried_until_it_works() {
    let world = kept(&[], &[]).await;
    let busy = Misbehaviour { times: Some(2), ..Misbehaviour::always(refusal("100-003")) };
    world.gateway.misbehave(busy.on(Interface::SignIn));
    world.gateway.sign_out(1001);
    world.until_state(1001, Some(SessionState::Recovering)).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 4);
}

#[tokio::test]
async fn a_session_that_cannot_be_made_anew_in_time_is_given_up() {
    let world = kept(&[("keep.recovery", "1s")], &[]).await;
    let never = Misbehaviour::always(refusal("100-003")).on(Interface::SignIn);
    world.gateway.misbehave(never);
    world.gateway.sign_out(1001);
    world.until_state(1001, None).await;
    assert!(world.asked(Interface::SignIn).len() >= 3);
    assert!(world.tenant.session(agent(1001)).await.expect("asked").is_none());
}

#[tokio::test]
async fn a_guid_that_a_poll_brings_is_used_from_then_on() {
    let world = kept(&[], &[]).await;
    let guid = world.gateway.renew_guid(1001).expect("signed in");
    let is_stored =
        || world.tenant.sessions.cached(agent(1001)).is_some_and(|s| s.guid.header() == &*guid);
    until("stored", is_stored).await;
    polled_on(&world).await;
    assert_eq!(world.counted("ccgw_guid_renewals_total", ""), 1);
    assert_eq!(
        world.asked(POLL).last().and_then(|poll| poll.header("guid").map(str::to_owned)),
        Some(guid)
    );
}

#[tokio::test]
async fn a_gateway_without_a_usable_answer_puts_the_session_in_doubt_only() {
    for fault in [Fault::Html, refusal("000-004"), refusal("999-999")] {
        let world = kept(&[], &[]).await;
        world.gateway.misbehave(Misbehaviour::always(fault).on(POLL));
        world.until_state(1001, Some(SessionState::Doubtful)).await;
        let asked = polls(&world);
        until("it is asked again", || polls(&world) >= asked + 2).await;
        world.gateway.behave();
        world.until_state(1001, Some(SessionState::Kept)).await;
        assert_eq!(world.asked(Interface::SignIn).len(), 1);
    }
}

#[tokio::test]
async fn a_guid_that_is_refused_twice_is_not_lost_and_three_times_it_is() {
    for (times, sign_ins) in [(2, 1), (3, 2)] {
        let world = kept(&[], &[1001]).await;
        let refused =
            Misbehaviour { times: Some(times), ..Misbehaviour::always(refusal("000-003")) };
        world.gateway.misbehave(refused.on(POLL));
        let refused = || {
            let polls = world.asked(POLL);
            polls
                .iter()
                .filter(|poll| poll.answer.as_ref().is_some_and(|a| a.fault.is_some()))
                .count()
        };
        until("refused", || refused() == times as usize).await;
        // The session is still there, so that it takes force to make it anew.
        world.until_state(1001, Some(SessionState::Kept)).await;
        polled_on(&world).await;
        assert_eq!(world.asked(Interface::SignIn).len(), sign_ins);
    }
}

#[tokio::test]
async fn a_session_of_a_sign_in_whose_answer_was_lost_is_not_another_clients() {
    let world = kept(&[("keep.take_backs", "20")], &[]).await;
    let lost = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignIn);
    world.gateway.misbehave(lost);
    world.gateway.sign_out(1001);
    until("lost and tried again", || world.asked(Interface::SignIn).len() >= 3).await;
    let asked = world.asked(Interface::SignIn).len();
    until("tried on", || world.asked(Interface::SignIn).len() >= asked + 3).await;
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Recovering));
    // The sign-out counts as one loss.
    assert!(world.tenant.taken_over().iter().all(|taken| taken.attempts == 1));
    // The gateway gives it up, since nobody polls.
    world.gateway.sign_out(1001);
    world.until_state(1001, Some(SessionState::Kept)).await;
}

#[tokio::test]
async fn a_session_whose_guid_was_lost_is_made_anew_by_force_without_being_taken_over() {
    let world = World::polling(&[1001]).await;
    let lost = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignIn);
    world.gateway.misbehave(lost);
    world.busy(1001).await.expect_err("its sign-in had no answer");
    // That does not say whether somebody has the agent.
    world.refuse(Interface::SignIn, "100-003");
    world.busy(1001).await.expect_err("its sign-in was refused");
    world.busy(1001).await.expect("accepted");
    assert_eq!(world.asked(Interface::ForceSignIn).len(), 1);
    assert_eq!(world.tenant.taken_over(), []);
    assert_eq!(world.counted("ccgw_take_overs_total", ""), 0);
}

#[tokio::test]
async fn calls_are_told_of_a_lost_guid_and_the_gateway_is_left_alone_for_a_while() {
    let world = kept(&[("keep.take_back_pause", "60s")], &[]).await;
    let lost = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignIn);
    world.gateway.misbehave(lost);
    world.gateway.restart(true).await.expect("restarted");
    until("lost and tried again", || world.asked(Interface::SignIn).len() >= 3).await;
    for _ in 0..3 {
        let error = world.busy(1001).await.expect_err("signed in without a Guid");
        let retry_in = match error.obstacle() {
            Some(Obstacle::GuidLost { retry_in }) => *retry_in,
            other => panic!("{other:?}"),
        };
        assert!(retry_in <= Duration::from_secs(60));
    }
    assert_eq!(world.asked(Interface::SignIn).len(), 3);
    assert_eq!(world.tenant.taken_over(), []);
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Recovering));
}

#[tokio::test]
async fn a_guid_that_was_lost_and_cannot_be_had_any_more_is_no_take_over() {
    let setup = Setup {
        gateway: Options { old_guid_lives: false, ..prompt() },
        lines: &FAST,
        credentials: &[1001],
        ..Setup::default()
    };
    let world = World::of(setup).await;
    world.busy(1001).await.expect("accepted");
    world.gateway.misbehave(Misbehaviour::always(Fault::CutBeforeAnswer).on(POLL));
    // While the agent is moved to another site, nothing is renewed.
    world.gateway.misbehave(Misbehaviour::once(refusal("000-004")).on(Interface::UpdateGuid));
    world.gateway.renew_guid(1001);
    until("asked for", || world.asked(Interface::UpdateGuid).len() > 1).await;
    world.gateway.behave();
    until("taken by force", || !world.asked(Interface::ForceSignIn).is_empty()).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    assert_eq!(world.tenant.taken_over(), []);
    assert_eq!(world.counted("ccgw_take_overs_total", ""), 0);
}

#[tokio::test]
async fn a_guid_that_was_lost_and_had_again_hides_no_later_take_over() {
    let world = kept(&[("keep.guid_interval", "5ms")], &[1001]).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-001")).on(POLL));
    let renewals = || world.asked(Interface::UpdateGuid).len();
    until("no polls", || renewals() > 0).await;
    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::UpdateGuid);
    world.gateway.misbehave(cut);
    let before = renewals();
    until("it is had again", || renewals() > before + 3).await;
    world.gateway.take_over(1001).expect("signed in");
    until("taken back", || !world.asked(Interface::ForceSignIn).is_empty()).await;
    assert_eq!(world.tenant.taken_over().first().map(|taken| taken.attempts), Some(1));
}

/// The Guid of the newest request through this interface.
fn last_guid(world: &World, interface: Interface) -> Option<String> {
    world.asked(interface).last().and_then(|asked| asked.header("guid").map(str::to_owned))
}

#[tokio::test]
async fn a_guid_that_was_lost_with_the_answer_to_a_poll_is_asked_for() {
    for fault in [Fault::CutBeforeAnswer, Fault::CutMidAnswer, Fault::Hang] {
        // The simulator announces each Guid once.
        let world = kept(&[("timeouts.poll", "100ms")], &[]).await;
        polled_on(&world).await;
        let first = last_guid(&world, POLL);
        world.gateway.misbehave(Misbehaviour::always(fault.clone()).on(POLL));
        // The first answer with another one is lost, too.
        let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::UpdateGuid);
        world.gateway.misbehave(cut);
        let lost = world.gateway.renew_guid(1001);
        let asked = || world.asked(Interface::UpdateGuid).len();
        until("the Guid is lost", || asked() >= 2).await;
        world.gateway.behave();
        polled_on(&world).await;
        let newest = last_guid(&world, POLL);
        assert!(newest != first && newest != lost, "{fault:?}: {first:?} {lost:?} {newest:?}");
        let updates = asked();
        polled_on(&world).await;
        assert_eq!(asked(), updates, "{fault:?}: it is known again");
        assert_eq!(world.asked(Interface::SignIn).len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_guid_that_cannot_have_been_lost_is_not_asked_for() {
    // The answer is whole, or Guids stay as they are.
    for (mode, fault) in [("dynamic", refusal("999-999")), ("static", Fault::CutBeforeAnswer)] {
        let world = kept(&[("auth_mode", mode)], &[]).await;
        world.gateway.misbehave(Misbehaviour::always(fault).on(POLL));
        polled_on(&world).await;
        world.gateway.behave();
        polled_on(&world).await;
        assert!(world.asked(Interface::UpdateGuid).is_empty(), "{mode}");
    }
}

#[tokio::test]
async fn whoever_else_polls_leaves_the_session_good() {
    let world = kept(&[], &[]).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-007")).on(POLL));
    polled_on(&world).await;
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Kept));
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn where_polls_are_not_allowed_guids_that_change_are_asked_for() {
    let setup = Setup {
        gateway: Options { polls: ccgateway_sim::Polls::All, ..prompt() },
        lines: &[&FAST[..], &[("keep.guid_interval", "5ms")]].concat(),
        ..Setup::default()
    };
    let world = World::of(setup).await;
    let first = world.sign_in(1001).await.session.expect("kept");
    world.until_state(1001, Some(SessionState::Unkept)).await;
    until("asked for", || world.asked(Interface::UpdateGuid).len() >= 3).await;
    assert_eq!(polls(&world), 1);
    let newest = world.tenant.session(agent(1001)).await.expect("asked").expect("a session");
    assert!(newest.version > first.version);
    world.busy(1001).await.expect("accepted");
}

#[tokio::test]
async fn where_polls_are_not_allowed_guids_that_stay_are_left_alone() {
    let setup = Setup {
        gateway: Options { polls: ccgateway_sim::Polls::All, ..prompt() },
        lines: &[&FAST[..], &[("auth_mode", "static"), ("keep.guid_interval", "5ms")]].concat(),
        ..Setup::default()
    };
    let world = World::of(setup).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Unkept)).await;
    until("the keeper has ended", || world.tenant.kept() == 0).await;
    assert_eq!(polls(&world), 1);
    assert!(world.asked(Interface::UpdateGuid).is_empty());
    world.busy(1001).await.expect("accepted");
}

#[tokio::test]
async fn an_agent_whom_another_client_keeps_taking_is_given_up() {
    let world = kept(&[("keep.take_backs", "2")], &[1001]).await;
    for _ in 0..50 {
        if world.tenant.session_state(agent(1001)).is_none() {
            break;
        }
        world.gateway.take_over(1001);
        let signed_in = world.asked(Interface::ForceSignIn).len();
        let is_back = || {
            world.asked(Interface::ForceSignIn).len() > signed_in
                || world.tenant.session_state(agent(1001)).is_none()
        };
        until("taken back or given up", is_back).await;
    }
    world.until_state(1001, None).await;
    let taken_over = world.tenant.taken_over();
    assert!(taken_over.iter().all(|taken| taken.given_up), "{taken_over:?}");
    assert_eq!(taken_over.len(), 1);
    assert_eq!(world.tenant.kept(), 0);
}

#[tokio::test]
async fn an_owner_who_hands_a_session_in_ends_the_polls() {
    let world = kept(&[], &[]).await;
    world.register(1001).await;
    assert_eq!(world.entered(SessionState::Registered), 1);
    assert_eq!(world.tenant.kept(), 0);
}

#[tokio::test]
async fn events_that_polls_bring_are_told_and_counted() {
    let world = kept(&[], &[]).await;
    let after = world.tenant.events.newest();
    assert!(world.gateway.force_busy(1001));
    let mut watch = world.tenant.watch(Agents::These([agent(1001)].into()), Some(after)).await;
    let events = watch.more().await.events;
    assert!(events.iter().all(|event| matches!(event.what, What::Gateway(_))), "{events:?}");
    assert!(world.tenant.counts().events >= 1);
    assert!(world.tenant.counts().polls >= 1);
}

#[tokio::test]
async fn all_agents_are_signed_out_however_few_requests_there_may_be() {
    let gateway = Options { latency: Duration::from_millis(5), ..prompt() };
    let lines = [
        ("keep.enabled", "false"),
        ("limits.requests", "2"),
        ("limits.calls", "2"),
        ("limits.queue_wait", "10ms"),
    ];
    let world = World::of(Setup { gateway, lines: &lines, ..Setup::default() }).await;
    for id in 1001..1041 {
        world.sign_in(id).await;
    }
    let left = world.tenant.sign_out_all(context().deadline).await;
    assert_eq!(left, SignedOut { sessions: 40, signed_out: 40 });
}

#[tokio::test]
async fn sessions_are_signed_out_or_left_when_the_bridge_stops() {
    let world = kept(&[], &[]).await;
    world.sign_in(1002).await;
    let left = world.tenant.sign_out_all(context().deadline).await;
    assert_eq!(left, SignedOut { sessions: 2, signed_out: 2 });
    assert_eq!(world.asked(Interface::SignOut).len(), 2);

    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    world.register(1002).await;
    let left = world.tenant.sign_out_all(context().deadline).await;
    assert_eq!(left, SignedOut { sessions: 1, signed_out: 1 }, "also one that is not polled");
    assert!(world.gateway.agent(1002).expect("known").signed_in, "it is its owner's");

    world.sign_in(1001).await;
    world.sign_in(1003).await;
    world.gateway.sign_out(1003);
    let without_1001 = world.changed(&[("keep.enabled", "false"), ("agent_ids", "1002-1003")]);
    without_1001.put_in_force(&world.tenant);
    let left = without_1001.sign_out_all(context().deadline).await;
    assert_eq!(left, SignedOut { sessions: 1, signed_out: 1 }, "who is out already is out");
    assert!(world.gateway.agent(1001).expect("known").signed_in, "it may be another bridge's");

    let world = kept(&[], &[]).await;
    world.work.keeping.cancel();
    world.work.tasks.close();
    world.work.tasks.wait().await;
    let before = polls(&world);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(polls(&world), before);
    assert!(world.gateway.agent(1001).expect("known").signed_in);
}
