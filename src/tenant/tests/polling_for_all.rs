//! Sessions that are kept by the poll for all agents of a node.

use ccgateway_sim::{AuthMode, Fault, Interface, Misbehaviour, Options, Polls};

use super::world::{FAST, Setup, World, agent, context, refusal, until};
use crate::session::SessionState;

const AGENTS: [u32; 3] = [1001, 1002, 1003];
const ALL: [(&str, &str); 1] = [("keep.poll", "all")];
const STATIC: [(&str, &str); 2] = [("keep.poll", "all"), ("auth_mode", "static")];

/// A world whose agents are members of their node's poll.
async fn polled(auth_mode: AuthMode, polls: Polls, lines: &[(&str, &str)]) -> World {
    let poll_wait = std::time::Duration::ZERO;
    let gateway = Options { polls, auth_mode, poll_wait, ..Options::default() };
    let lines = [&FAST[..], lines].concat();
    let world = World::of(Setup { gateway, lines: &lines, ..Setup::default() }).await;
    for id in AGENTS {
        world.sign_in(id).await;
    }
    world
}

fn polls(world: &World) -> usize {
    world.asked(Interface::PollAll).len()
}

async fn polled_on(world: &World) {
    let before = polls(world);
    until("more polls", || polls(world) >= before + 3).await;
}

async fn all_are(world: &World, state: SessionState) {
    for id in AGENTS {
        world.until_state(id, Some(state)).await;
    }
}

#[tokio::test]
async fn members_have_no_task_of_their_own() {
    let world = polled(AuthMode::Static, Polls::All, &STATIC).await;
    polled_on(&world).await;
    all_are(&world, SessionState::Kept).await;
    assert_eq!(world.tenant.kept(), AGENTS.len());
    // That of the poll.
    until("one task", || world.work.tasks.len() == 1).await;
    for id in AGENTS {
        world.tenant.sign_out(agent(id), false, &context(), None).await.expect("signed out");
        world.until_state(id, None).await;
    }
    assert_eq!(world.tenant.kept(), 0);
    until("no task", || world.work.tasks.is_empty()).await;
    world.sign_in(1002).await;
    polled_on(&world).await;
}

#[tokio::test]
async fn a_silent_node_makes_all_its_sessions_doubtful_until_it_answers() {
    for fault in [Fault::CutBeforeAnswer, refusal("999-999")] {
        let world = polled(AuthMode::Static, Polls::All, &STATIC).await;
        polled_on(&world).await;
        world.gateway.misbehave(Misbehaviour::always(fault).on(Interface::PollAll));
        all_are(&world, SessionState::Doubtful).await;
        world.gateway.behave();
        all_are(&world, SessionState::Kept).await;
        assert_eq!(world.asked(Interface::SignIn).len(), AGENTS.len());
    }
}

#[tokio::test]
async fn a_guid_that_may_have_been_lost_with_the_answer_to_a_poll_is_asked_for_again() {
    let world = polled(AuthMode::Dynamic, Polls::All, &ALL).await;
    polled_on(&world).await;
    let carrier = world.asked(Interface::PollAll).last().and_then(|poll| {
        let guid = poll.header("guid")?.to_owned();
        AGENTS.into_iter().find(|id| {
            let session = world.tenant.sessions.cached(agent(*id));
            session.is_some_and(|session| session.guid.header().as_bytes() == guid.as_bytes())
        })
    });
    world.gateway.misbehave(Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::PollAll));
    until("a new Guid", || world.asked(Interface::UpdateGuid).len() == 1).await;
    assert_eq!(world.asked(Interface::UpdateGuid)[0].agent, Some(carrier.expect("one of them")));
    polled_on(&world).await;
    all_are(&world, SessionState::Kept).await;
    assert_eq!(world.asked(Interface::SignIn).len(), AGENTS.len());
}

#[tokio::test]
async fn a_carrier_that_is_refused_once_is_looked_at_and_joins_again() {
    for (auth_mode, lines, look) in [
        (AuthMode::Dynamic, &ALL[..], Interface::UpdateGuid),
        (AuthMode::Static, &STATIC[..], Interface::AgentStatus),
    ] {
        let world = polled(auth_mode, Polls::All, lines).await;
        polled_on(&world).await;
        world.refuse(Interface::PollAll, "000-003");
        until("it is looked at", || world.asked(look).len() == 1).await;
        polled_on(&world).await;
        all_are(&world, SessionState::Kept).await;
        until("one task", || world.work.tasks.len() == 1).await;
        assert_eq!(world.asked(Interface::SignIn).len(), AGENTS.len());
    }
}

#[tokio::test]
async fn polls_that_are_refused_with_good_guids_are_given_up() {
    let world = polled(AuthMode::Static, Polls::Agent, &STATIC).await;
    // Each agent is polled for, since this gateway has no other polls.
    until("polls for each", || world.asked(Interface::Poll).len() > 10).await;
    assert_eq!(polls(&world), 1);
    // A changed configuration tries again.
    world.gateway.misbehave(Misbehaviour::always(refusal("000-003")).on(Interface::PollAll));
    let changed = world.changed(&STATIC);
    changed.put_in_force(&world.tenant);
    until("polls for all", || polls(&world) > 3).await;
    let before = world.asked(Interface::Poll).len();
    until("polls for each again", || world.asked(Interface::Poll).len() > before + 10).await;
    all_are(&world, SessionState::Kept).await;
    assert_eq!(world.asked(Interface::SignIn).len(), AGENTS.len());
}

#[tokio::test]
async fn a_poll_of_another_client_keeps_the_sessions_and_gets_the_events() {
    let world = polled(AuthMode::Static, Polls::All, &STATIC).await;
    polled_on(&world).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-007")).on(Interface::PollAll));
    polled_on(&world).await;
    all_are(&world, SessionState::Kept).await;
    assert!(world.asked(Interface::AgentStatus).is_empty(), "nobody is suspected");
}
