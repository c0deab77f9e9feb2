//! What another configuration changes while the tenant goes on.

use ccgateway_sim::Interface;
use futures_util::FutureExt as _;

use super::world::{World, agent, context, until};
use crate::{
    call::{CallError, Obstacle, Share},
    gateway::say_busy,
    session::SessionState,
    tenant::CallerId,
};

/// How many polls have come by this name of the gateway's host.
fn polls_by(world: &World, host: &str) -> usize {
    let polls = world.asked(Interface::Poll);
    polls.iter().filter(|poll| poll.header("host").is_some_and(|by| by.contains(host))).count()
}

#[tokio::test]
async fn keepers_and_calls_go_on_by_the_new_address_with_the_session_that_they_have() {
    let world = World::polling(&[]).await;
    world.sign_in(1001).await;
    until("polls", || polls_by(&world, "localhost") > 1).await;
    let url = world.gateway.base_url().replace("localhost", "127.0.0.1");
    let changed = world.changed(&[("base_urls", &url)]);
    assert_eq!(polls_by(&world, "127.0.0.1"), 0, "it is not in force yet");

    changed.put_in_force(&world.tenant);
    until("polls by the new address", || polls_by(&world, "127.0.0.1") > 1).await;
    let before = polls_by(&world, "localhost");
    until("more polls", || polls_by(&world, "127.0.0.1") > 10).await;
    assert_eq!(polls_by(&world, "localhost"), before);
    changed.command(agent(1001), say_busy(None, None), &context(), None).await.expect("busy");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Kept));
    assert_eq!(changed.counts().sign_ins, 1, "it goes on counting");
}

#[tokio::test]
async fn agents_whom_the_tenant_does_not_have_any_more_are_let_go() {
    let world = World::polling(&[]).await;
    for id in [1001, 1002] {
        world.sign_in(id).await;
    }
    let changed = world.changed(&[("agent_ids", "1002-1002")]);
    changed.put_in_force(&world.tenant);
    let state = |id| world.tenant.session_state(agent(id));
    until("the first one let go", || state(1001) == Some(SessionState::Unkept)).await;
    let polled = |id| world.asked(Interface::Poll).iter().filter(|it| it.agent == Some(id)).count();
    let (before, others) = (polled(1001), polled(1002));
    until("more polls for the other", || polled(1002) > others + 5).await;
    assert_eq!(polled(1001), before);
    assert_eq!(state(1002), Some(SessionState::Kept));
    assert!(
        world.gateway.agent(1001).is_some_and(|agent| agent.signed_in),
        "it may be another's now"
    );
}

#[tokio::test]
async fn a_new_limit_holds_for_all_versions_and_what_lasts_stays_as_it_was() {
    let world = World::unpolled(&[]).await;
    let calls = [("limits.calls", "1"), ("limits.requests", "1")];
    let lines = [&calls[..], &[("limits.sessions", "7"), ("keep.enabled", "true")]].concat();
    let changed = world.changed(&lines);
    let (before, now) = (world.tenant.config(), changed.config());
    assert_eq!((now.limits.sessions, now.keep.enabled), (before.limits.sessions, false));
    let usage = |tenant: &crate::tenant::Tenant| tenant.usage().calls.limit;
    assert_eq!(usage(&changed), before.limits.calls.get(), "it is not in force yet");

    changed.put_in_force(&world.tenant);
    assert_eq!((usage(&changed), usage(&world.tenant)), (1, 1));
    // The surplus places are taken away by a task.
    until("one place", || world.tenant.admission.free_calls() == 1).await;
    let place = world.tenant.admission.enter().expect("a place");
    let refused = changed.command(agent(1001), say_busy(None, None), &context(), None).await;
    let share = match refused.as_ref().map_err(CallError::obstacle) {
        Err(Some(Obstacle::Overloaded { share, .. })) => *share,
        other => panic!("{other:?}"),
    };
    assert_eq!(share, Share::TenantCalls);
    drop(place);
    changed.without_calls().await;
}

#[tokio::test]
async fn whoever_waits_for_the_last_call_waits_for_a_batch_between_two_of_its_agents() {
    let world = World::unpolled(&[]).await;
    let batch = world.tenant.enter_server(CallerId::BRIDGE).expect("a place");
    let mut waiting = std::pin::pin!(world.tenant.without_calls());
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(world.tenant.admission.enter().expect("a place for an agent"));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(batch);
    waiting.await;
}

/// A world with a kept agent whom a caller has signed in.
async fn kept(credentials: &[u32]) -> World {
    let world = World::polling(credentials).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    world
}

#[tokio::test]
async fn a_new_password_in_the_configuration_takes_the_place_of_the_one_before_at_once() {
    let world = kept(&[1001]).await;
    world.gateway.set_password(1001, "new");
    let changed = world.changed_to(&[], &[(1001, "new")]);
    changed.put_in_force(&world.tenant);
    world.gateway.sign_out(1001);
    until("signed in anew", || world.asked(Interface::SignIn).len() >= 2).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 2, "the one before is not tried");
}

#[tokio::test]
async fn an_agent_who_is_taken_out_of_the_configuration_is_not_signed_in_again() {
    let world = kept(&[1001]).await;
    let changed = world.changed_to(&[], &[]);
    changed.put_in_force(&world.tenant);
    world.gateway.sign_out(1001);
    until("ended", || world.tenant.sessions.cached(agent(1001)).is_none()).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_new_password_in_the_configuration_is_tried_after_that_of_a_caller_was_rejected() {
    let world = kept(&[]).await;
    world.gateway.set_password(1001, "new");
    let changed = world.changed_to(&[], &[(1001, "new")]);
    changed.put_in_force(&world.tenant);
    world.gateway.sign_out(1001);
    until("signed in anew", || world.asked(Interface::SignIn).len() >= 3).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
}
