//! Commands and sign-outs, and what they take and find.

use std::time::Duration;

use ccgateway_sim::{AgentState, Fault, Interface, Misbehaviour};
use tokio::runtime::Handle;

use super::world::{PASSWORD, Setup, World, agent, context, password, refusal, until, within};
use crate::{
    call::{CallError, Obstacle, Share, Wait},
    gateway::{AGENT_STATUS, Command, say_busy},
    session::{Guid, Origin, SessionState},
};

const LIMITS: [(&str, &str); 4] = [
    ("keep.enabled", "false"),
    ("limits.calls", "8"),
    ("limits.requests", "3"),
    ("limits.queue_wait", "1ms"),
];

#[tokio::test]
async fn a_command_goes_out_under_the_guid_of_the_agents_session() {
    let world = World::unpolled(&[]).await;
    let session = world.sign_in(1001).await.session.expect("kept");
    let accepted = world.busy(1001).await.expect("accepted");
    assert!(!accepted.of_batch);
    let busy = world.asked(Interface::SayBusy);
    assert_eq!(busy.len(), 1);
    assert_eq!(busy[0].header("guid"), Some(session.guid.header().to_str().expect("text")));
    assert_eq!(world.gateway.agent(1001).expect("known").state, AgentState::Busy);
    assert_eq!(world.counted("ccgw_queue_wait_seconds_count", ""), 2);
    let counts = world.tenant.counts();
    assert_eq!((counts.requests, counts.sign_ins, counts.polls), (2, 1, 0));
}

/// There may be thousands.
#[tokio::test]
async fn a_tenant_that_is_idle_has_no_task() {
    let world = World::polling(&[]).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // It has a client of the gateway of its own.
    let version = world.changed(&[]);
    version.share_polls();
    assert_eq!(tasks(), before);
}

#[tokio::test]
async fn without_a_session_or_a_password_the_gateway_is_not_asked() {
    let world = World::unpolled(&[]).await;
    let error = world.busy(1001).await.expect_err("no session");
    assert!(matches!(error.obstacle(), Some(Obstacle::SessionMissing)), "{error}");
    assert!(world.gateway.journal().is_empty());
}

#[tokio::test]
async fn an_agent_whose_password_is_known_is_signed_in_by_the_first_command_alone() {
    let world = World::unpolled(&[1001]).await;
    world.busy(1001).await.expect("accepted");
    assert!(world.gateway.force_idle(1001));
    world.busy(1001).await.expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
    assert_eq!(world.counted("ccgw_session_wait_seconds_count", ""), 1);
    let state = world.tenant.session(agent(1001)).await.expect("found").expect("a session");
    assert_eq!(state.origin, Origin::SignedIn);
}

#[tokio::test]
async fn whoever_only_looks_signs_nobody_in() {
    let world = World::unpolled(&[1001]).await;
    let look = Command::plain(&AGENT_STATUS);
    let error = world.tenant.command(agent(1001), look, &context(), None).await.expect_err("none");
    assert!(matches!(error.obstacle(), Some(Obstacle::SessionMissing)), "{error}");
    assert!(world.gateway.journal().is_empty());
    // Nor is a session made anew for it.
    world.busy(1001).await.expect("accepted");
    world.refuse(Interface::AgentStatus, "000-003");
    let look = Command::plain(&AGENT_STATUS);
    let error =
        world.tenant.command(agent(1001), look, &context(), None).await.expect_err("refused");
    assert!(error.refusal().is_some(), "{error}");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_command_that_is_refused_for_its_guid_is_sent_again_under_a_new_session() {
    let world = World::unpolled(&[1001]).await;
    world.busy(1001).await.expect("accepted");
    world.gateway.sign_out(1001);
    world.busy(1001).await.expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
    let guids: Vec<_> = world.asked(Interface::SayBusy);
    let guids: Vec<_> = guids.iter().map(|busy| busy.header("guid").expect("a Guid")).collect();
    assert_eq!(guids.len(), 3);
    assert_eq!(guids[0], guids[1]);
    assert_ne!(guids[1], guids[2]);
}

#[tokio::test]
async fn a_session_that_is_refused_and_cannot_be_made_anew_is_forgotten() {
    let world = World::unpolled(&[]).await;
    register(&world, "a-guid-of-nobody").await;
    let error = world.busy(1001).await.expect_err("refused");
    assert!(error.refusal().is_some(), "{error}");
    assert!(world.tenant.session(agent(1001)).await.expect("asked").is_none());
    assert_eq!(world.tenant.session_state(agent(1001)), None);
}

#[tokio::test]
async fn a_command_that_is_refused_for_another_reason_is_not_sent_again() {
    let world = World::unpolled(&[1001]).await;
    world.sign_in(1001).await;
    world.refuse(Interface::SayBusy, "100-009");
    let error = world.busy(1001).await.expect_err("refused");
    assert!(error.refusal().is_some(), "{error}");
    assert_eq!(world.asked(Interface::SayBusy).len(), 1);
    assert_eq!(world.asked(Interface::SignIn).len(), 1, "nor is the agent signed in anew");
}

#[tokio::test]
async fn an_owners_session_that_has_moved_is_not_taken_over() {
    let lines = [("keep.enabled", "false"), ("keep.take_back_pause", "1ms")];
    let setup = Setup { lines: &lines, credentials: &[1001], ..Setup::default() };
    let world = World::of(setup).await;
    let guid = world.gateway.sign_in(1001);
    register(&world, &guid).await;
    world.refuse(Interface::SayBusy, "105-006");
    let error = world.busy(1001).await.expect_err("refused");
    assert!(error.refusal().is_some(), "{error}");
    assert!(world.asked(Interface::ForceSignIn).is_empty());
    // One that the bridge has made is made anew, and so is an owner's that is just too old.
    world.refuse(Interface::SayBusy, "000-003");
    world.busy(1001).await.expect("signed in anew");
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(world.gateway.force_idle(1001));
    world.refuse(Interface::SayBusy, "105-006");
    world.busy(1001).await.expect("signed in anew");
    assert_eq!(world.asked(Interface::ForceSignIn).len(), 2);
}

#[tokio::test]
async fn a_command_that_meets_another_call_is_sent_again_until_that_is_over() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    let busy = Misbehaviour { times: Some(3), ..Misbehaviour::always(refusal("000-007")) };
    world.gateway.misbehave(busy.on(Interface::SayBusy));
    world.busy(1001).await.expect("accepted in the end");
    assert_eq!(world.asked(Interface::SayBusy).len(), 4);
}

#[tokio::test]
async fn a_command_that_meets_another_call_is_not_sent_again_for_ever() {
    let lines = [("keep.enabled", "false"), ("timeouts.request", "1s")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    let never = Misbehaviour::always(refusal("000-007")).on(Interface::SayBusy);
    world.gateway.misbehave(never);
    let error = world.busy(1001).await.expect_err("given up");
    assert!(error.refusal().is_some(), "{error}");
    let times = world.asked(Interface::SayBusy).len();
    assert!((2..40).contains(&times), "{times}: the pauses grow");
}

#[tokio::test]
async fn a_guid_that_comes_with_an_answer_is_used_from_then_on() {
    let world = World::unpolled(&[]).await;
    let first = world.sign_in(1001).await.session.expect("kept");
    world.gateway.set_guid_on_next_reply(1001);
    world.busy(1001).await.expect("accepted");
    let newer = world.tenant.session(agent(1001)).await.expect("asked").expect("a session");
    assert_ne!(newer.guid, first.guid);
    assert!(newer.version > first.version);
    assert!(world.gateway.force_idle(1001));
    world.busy(1001).await.expect("accepted");
    let busy = world.asked(Interface::SayBusy);
    assert_eq!(busy[1].header("guid"), Some(newer.guid.header().to_str().expect("text")));
    assert_eq!(world.counted("ccgw_guid_renewals_total", ""), 1);
}

#[tokio::test]
async fn an_agent_who_signs_out_is_forgotten_with_the_password() {
    for (force, interface) in [(false, Interface::SignOut), (true, Interface::ForceSignOut)] {
        let world = World::unpolled(&[]).await;
        world.sign_in(1001).await;
        assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Unkept));
        world.tenant.sign_out(agent(1001), force, &context(), None).await.expect("signed out");
        assert_eq!(world.asked(interface).len(), 1);
        assert!(world.tenant.session(agent(1001)).await.expect("asked").is_none());
        assert_eq!(world.tenant.session_state(agent(1001)), None);
        let error = world.busy(1001).await.expect_err("the password is forgotten");
        assert!(matches!(error.obstacle(), Some(Obstacle::SessionMissing)), "{error}");
        let again = world.tenant.sign_out(agent(1001), force, &context(), None).await;
        let error = again.expect_err("nobody to sign out");
        assert!(matches!(error.obstacle(), Some(Obstacle::SessionMissing)), "{error}");
    }
}

#[tokio::test]
async fn a_sign_out_that_is_refused_leaves_the_session_unless_there_is_none() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    world.refuse(Interface::SignOut, "100-009");
    world.tenant.sign_out(agent(1001), false, &context(), None).await.expect_err("refused");
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Unkept));
    world.busy(1001).await.expect("still signed in");

    world.gateway.sign_out(1001);
    world.tenant.sign_out(agent(1001), false, &context(), None).await.expect_err("refused");
    assert!(world.tenant.session(agent(1001)).await.expect("asked").is_none());
    assert_eq!(world.tenant.session_state(agent(1001)), None);
}

#[tokio::test]
async fn what_is_under_way_takes_the_shares_and_a_batch_half_of_the_requests() {
    let world = World::of(Setup { lines: &LIMITS, ..Setup::default() }).await;
    let ids = 1001..=1004;
    for id in ids.clone() {
        world.sign_in(id).await;
    }
    world.gateway.freeze();
    let of_batch: Vec<_> = ids
        .clone()
        .take(3)
        .map(|id| {
            let tenant = world.tenant.clone();
            tokio::spawn(async move {
                tenant
                    .command_of_batch((agent(id), None), say_busy(None, None), &context(), || None)
                    .await
            })
        })
        .collect();
    until("two of the batch", || world.asked(Interface::SayBusy).len() == 2).await;
    assert_eq!(world.tenant.batch_share(), 2);
    let taken = || world.tenant.usage().all().map(|usage| usage.taken);
    assert_eq!(taken(), [2, 2, 0, 2, 4]);
    assert_eq!(world.tenant.usage().all().map(|usage| usage.limit)[..4], [8, 3, 64, 2][..]);

    let tenant = world.tenant.clone();
    let single = tokio::spawn(async move {
        tenant.command(agent(1004), say_busy(None, None), &context(), None).await
    });
    until("the single one", || world.asked(Interface::SayBusy).len() == 3).await;
    assert_eq!(taken(), [3, 3, 0, 2, 4]);
    world.gateway.thaw();
    for accepted in of_batch {
        assert!(accepted.await.expect("no panic").expect("accepted").of_batch);
    }
    assert!(!single.await.expect("no panic").expect("accepted").of_batch);
    until("all is given back", || taken() == [0, 0, 0, 0, 4]).await;
}

#[tokio::test]
async fn one_of_a_batch_waits_for_a_place_as_long_as_its_caller_does() {
    let world = World::of(Setup { lines: &LIMITS, ..Setup::default() }).await;
    let ids = 1001..=1004;
    for id in ids.clone() {
        world.sign_in(id).await;
    }
    world.gateway.freeze();
    let open: Vec<_> = ids
        .take(3)
        .map(|id| {
            let tenant = world.tenant.clone();
            tokio::spawn(async move {
                tenant.command(agent(id), say_busy(None, None), &context(), None).await
            })
        })
        .collect();
    until("three requests", || world.asked(Interface::SayBusy).len() == 3).await;
    let error = world.busy(1004).await.expect_err("no place in a millisecond");
    let overloaded = Obstacle::Overloaded {
        share: Share::TenantRequests,
        limit: 3.try_into().expect("not zero"),
    };
    assert_eq!(error.obstacle().map(ToString::to_string), Some(overloaded.to_string()));
    let (command, soon) = (say_busy(None, None), within(Duration::from_millis(200)));
    let waited = world.tenant.command_of_batch((agent(1004), None), command, &soon, || None);
    let error = waited.await.expect_err("no place");
    assert!(matches!(error.obstacle(), Some(Obstacle::Deadline(Wait::Queue))), "{error}");
    world.gateway.thaw();
    for accepted in open {
        accepted.await.expect("no panic").expect("accepted");
    }
}

#[tokio::test]
async fn a_call_that_waits_ends_with_its_deadline_or_with_the_bridge() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let first = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("the first is open", || world.asked(Interface::SayBusy).len() == 1).await;
    let (command, soon) = (say_busy(None, None), within(Duration::from_millis(300)));
    let waited = world.tenant.command(agent(1001), command, &soon, None);
    let error = waited.await.expect_err("the turn is taken");
    assert!(matches!(error.obstacle(), Some(Obstacle::Deadline(Wait::Queue))), "{error}");
    world.work.cutoff.give();
    let error = world.busy(1001).await.expect_err("the bridge ends");
    assert!(matches!(error.obstacle(), Some(Obstacle::ShuttingDown)), "{error}");
    world.gateway.thaw();
    let _ended = first.await.expect("no panic");
}

#[tokio::test]
async fn an_interface_that_the_gateway_does_not_have_is_not_asked_for() {
    let lines = [("edition", "2014"), ("keep.enabled", "false")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    let look = || Command::plain(&AGENT_STATUS);
    let single = world.tenant.command(agent(1001), look(), &context(), None).await;
    let of_batch =
        world.tenant.command_of_batch((agent(1001), None), look(), &context(), || None).await;
    for result in [single, of_batch] {
        let error = result.expect_err("no such interface");
        assert!(matches!(error.obstacle(), Some(Obstacle::InterfaceMissing { .. })), "{error}");
    }
}

#[tokio::test]
async fn a_registered_session_is_used_and_kept_by_its_owner() {
    let world = World::polling(&[]).await;
    let guid = world.gateway.sign_in(1001);
    let session = register(&world, &guid).await;
    assert_eq!(
        (session.origin, session.guid.header().to_str().expect("text")),
        (Origin::Registered, &*guid)
    );
    assert!(session.expires_at.is_some());
    assert_eq!(world.entered(SessionState::Registered), 1);
    world.busy(1001).await.expect("accepted");
    assert!(world.asked(Interface::Poll).is_empty());
}

async fn register(world: &World, guid: &str) -> std::sync::Arc<crate::session::Session> {
    let guid = Guid::parse(guid).expect("a Guid");
    let deadline = context().deadline;
    world.tenant.register(agent(1001), guid, None, deadline).await.expect("registered")
}

#[tokio::test]
async fn there_are_no_more_sessions_than_there_may_be() {
    let lines = [("keep.enabled", "false"), ("limits.sessions", "1")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    let second = world.tenant.sign_in(agent(1002), password(PASSWORD), &context(), None).await;
    let error = second.expect_err("full");
    let share = Share::TenantSessions;
    assert!(
        matches!(error.obstacle(), Some(Obstacle::Overloaded { share: full, .. }) if *full == share),
        "{error}"
    );
    let guid = Guid::parse("another").expect("a Guid");
    let third = world.tenant.register(agent(1003), guid, None, context().deadline).await;
    assert!(matches!(third.expect_err("full").obstacle(), Some(Obstacle::Overloaded { .. })));
    assert_eq!(world.tenant.session_state(agent(1003)), None);
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn the_agents_next_call_waits_until_a_request_that_was_given_up_is_noticed() {
    let lines = [("keep.enabled", "false"), ("read_back", "false"), ("timeouts.request", "500ms")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    world.sign_in(1001).await;
    world.gateway.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SayBusy));
    let error = world.busy(1001).await.expect_err("no answer");
    assert!(matches!(error, CallError::NoAnswer(_)), "{error}");
    assert!(world.gateway.force_idle(1001));
    world.busy(1001).await.expect("accepted");
    assert_eq!(world.gateway.violations(), Vec::<String>::new());
}
