//! How agents are signed in, asked or not.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};

use super::world::{
    FAST, PASSWORD, Setup, UNPOLLED, World, agent, context, password, until, within,
};
use crate::{
    call::{CallError, Obstacle},
    gateway::{SignIn, say_busy},
    session::SessionState,
};

fn forced() -> SignIn {
    SignIn::new(PASSWORD.into(), String::new(), true)
}

/// Accepted, without a Guid.
fn without_guid() -> Misbehaviour {
    let (status, headers) = (200, Vec::new());
    let body = br#"{"message":"success","retcode":"0"}"#.to_vec();
    let content_type = "application/json".into();
    Misbehaviour::once(Fault::Status { status, headers, body, content_type }).on(Interface::SignIn)
}

#[tokio::test]
async fn a_rejected_password_is_not_tried_again_and_another_is() {
    let world = World::unpolled(&[]).await;
    for _ in 0..2 {
        let signed_in =
            world.tenant.sign_in(agent(1001), password("wrong"), &context(), None).await;
        let error = signed_in.expect_err("wrong");
        assert!(error.is_credentials_rejected(), "{error}");
        assert_eq!(world.asked(Interface::SignIn).len(), 1);
        assert_eq!(world.tenant.session_state(agent(1001)), None);
    }
    world.sign_in(1001).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn calls_that_waited_for_a_sign_in_that_failed_do_not_try_it_again() {
    let mut gateway = Options::default();
    gateway.agents.insert(1001, "another".into());
    let setup = Setup { gateway, lines: &UNPOLLED, credentials: &[1001], ..Setup::default() };
    let world = World::of(setup).await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let tenant = world.tenant.clone();
            tokio::spawn(async move {
                tenant.command(agent(1001), say_busy(None, None), &context(), None).await
            })
        })
        .collect();
    for call in calls {
        let error = call.await.expect("no panic").expect_err("a wrong password");
        assert!(error.is_credentials_rejected(), "{error}");
    }
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn an_agent_who_is_signed_in_elsewhere_is_taken_over_only_by_force() {
    let world = World::unpolled(&[]).await;
    world.gateway.sign_in(1001);
    let signed_in = world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
    assert!(signed_in.expect_err("elsewhere").is_signed_in_elsewhere());
    assert!(world.asked(Interface::ForceSignIn).is_empty());
    world.tenant.sign_in(agent(1001), forced(), &context(), None).await.expect("signed in");
    assert_eq!(world.asked(Interface::ForceSignIn).len(), 1);
    world.busy(1001).await.expect("accepted");
}

#[tokio::test]
async fn a_gateway_that_allows_no_force_is_not_asked_for_it() {
    let gateway = Options { force_sign_in: false, ..Options::default() };
    let setup = Setup { gateway, lines: &UNPOLLED, ..Setup::default() };
    let world = World::of(setup).await;
    world.gateway.sign_in(1001);
    let signed_in = world.tenant.sign_in(agent(1001), forced(), &context(), None).await;
    assert!(signed_in.expect_err("elsewhere").is_signed_in_elsewhere());
    assert!(world.asked(Interface::ForceSignIn).is_empty());
}

#[tokio::test]
async fn a_sign_in_without_a_guid_is_undone_and_not_tried_again() {
    let world = World::unpolled(&[]).await;
    world.gateway.misbehave(without_guid());
    let signed_in = world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
    let error = signed_in.expect_err("no Guid");
    assert!(matches!(error, CallError::BadReply(_)), "{error}");
    assert_eq!(world.asked(Interface::SignOut).len(), 1);
    let signed_in = world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
    let error = signed_in.expect_err("held back");
    assert!(matches!(error.obstacle(), Some(Obstacle::SignInWithoutGuid)), "{error}");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_gateway_without_guids_needs_none() {
    let lines = [("auth_mode", "none"), ("keep.enabled", "false")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    world.gateway.misbehave(without_guid());
    world.sign_in(1001).await;
    assert!(world.asked(Interface::SignOut).is_empty());
}

#[tokio::test]
async fn the_skill_queues_are_reset_where_that_is_configured() {
    let world = World::unpolled(&[]).await;
    assert!(world.sign_in(1001).await.skills.is_none());
    assert!(world.asked(Interface::ResetSkill).is_empty());

    let lines = [("reset_skills_after_sign_in", "true"), ("keep.enabled", "false")];
    let world = World::of(Setup { lines: &lines, ..Setup::default() }).await;
    let skills = world.sign_in(1001).await.skills.expect("asked for");
    assert!(skills.is_ok());
    assert_eq!(world.asked(Interface::ResetSkill).len(), 1);
    world.refuse(Interface::ResetSkill, "100-007");
    assert!(world.sign_in(1002).await.skills.expect("asked for").is_err());
}

#[tokio::test]
async fn who_cannot_wait_for_the_agents_moment_is_told_so_and_the_agent_keeps_its_place() {
    // Of two requests one may be an automatic sign-in.
    let lines = [("keep.enabled", "false"), ("limits.requests", "2")];
    let credentials = [1001, 1002];
    let setup = Setup { lines: &lines, credentials: &credentials, ..Setup::default() };
    let world = World::of(setup).await;
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let first = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is under way", || world.asked(Interface::SignIn).len() == 1).await;
    let (command, hurried) = (say_busy(None, None), within(Duration::from_millis(200)));
    let error =
        world.tenant.command(agent(1002), command, &hurried, None).await.expect_err("too soon");
    assert!(matches!(error.obstacle(), Some(Obstacle::SignInsQueued { .. })), "{error}");
    let queue = world.tenant.sign_in_queue();
    assert_eq!((queue.waiting, queue.under_way), (1, 1));
    assert!(queue.oldest > Duration::ZERO);
    world.gateway.thaw();
    first.await.expect("no panic").expect("accepted");
    until("signed in", || world.gateway.agent(1002).is_some_and(|agent| agent.signed_in)).await;
    world.busy(1002).await.expect("accepted");
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
    until("the queue is empty", || world.tenant.sign_in_queue().under_way == 0).await;
    let queue = world.tenant.sign_in_queue();
    assert_eq!((queue.waiting, queue.oldest, queue.empty_in), Default::default());
}

#[tokio::test]
async fn a_caller_who_asks_for_a_sign_in_ends_the_pause_after_a_take_over() {
    let lines = [("keep.enabled", "false"), ("keep.take_back_pause", "1h")];
    let setup = Setup { lines: &lines, credentials: &[1001], ..Setup::default() };
    let world = World::of(setup).await;
    world.gateway.sign_in(1001);
    // The first is by force, since nobody knows since when the agent has been elsewhere.
    world.busy(1001).await.expect("taken over");
    world.gateway.take_over(1001);
    let error = world.busy(1001).await.expect_err("left to the other client");
    assert!(matches!(error.obstacle(), Some(Obstacle::TakenOver { .. })), "{error}");
    let taken_over = world.tenant.taken_over();
    assert_eq!(taken_over.iter().map(|taken| taken.agent).collect::<Vec<_>>(), [agent(1001)]);
    world.tenant.sign_in(agent(1001), forced(), &context(), None).await.expect("signed in");
    assert!(world.tenant.taken_over().is_empty());
    world.gateway.take_over(1001);
    world.busy(1001).await.expect("taken back at once");
}

#[tokio::test]
async fn a_sign_in_that_fails_leaves_what_is_known_of_an_older_session() {
    let world = World::of(Setup { lines: &FAST, ..Setup::default() }).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    world.refuse(Interface::SignIn, "100-003");
    let signed_in = world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
    signed_in.expect_err("no resources");
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Kept));
}
