//! Sessions that are kept by the poll for all agents of a node.

use ccgateway_sim::{AuthMode, Entry, Fault, Interface, Misbehaviour, Options, Polls};
use tokio::time::Instant;

use super::world::{FAST, PASSWORD, Setup, World, agent, context, refusal, until};
use crate::{
    gateway::SignIn,
    session::{Guid, SessionState},
    tenant::agents::Loss,
};

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

/// Not carried out, as by a server that has no such address.
fn missing() -> Fault {
    let (headers, body) = (Vec::new(), Vec::new());
    Fault::Status { status: 404, headers, body, content_type: String::new() }
}

#[tokio::test]
async fn a_gateway_without_such_polls_is_told_from_one_that_is_being_started() {
    let world = polled(AuthMode::Static, Polls::All, &STATIC).await;
    polled_on(&world).await;
    world.gateway.misbehave(Misbehaviour::always(missing()));
    all_are(&world, SessionState::Doubtful).await;
    world.gateway.behave();
    all_are(&world, SessionState::Kept).await;
    polled_on(&world).await;
    let world = polled(AuthMode::Static, Polls::Agent, &[("auth_mode", "static")]).await;
    world.gateway.misbehave(Misbehaviour::always(missing()).on(Interface::PollAll));
    let changed = world.changed(&STATIC);
    changed.put_in_force(&world.tenant);
    until("a poll for all", || polls(&world) > 0).await;
    let before = world.asked(Interface::Poll).len();
    until("polls for each", || world.asked(Interface::Poll).len() > before + 10).await;
    assert_eq!(polls(&world), 1);
}

#[tokio::test]
async fn a_poll_of_another_client_keeps_the_sessions_and_gets_the_events() {
    let world = polled(AuthMode::Static, Polls::All, &STATIC).await;
    polled_on(&world).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("999-999")).on(Interface::PollAll));
    all_are(&world, SessionState::Doubtful).await;
    world.gateway.misbehave(Misbehaviour::always(refusal("000-007")).on(Interface::PollAll));
    all_are(&world, SessionState::Kept).await;
    polled_on(&world).await;
    all_are(&world, SessionState::Kept).await;
    assert!(world.asked(Interface::AgentStatus).is_empty(), "nobody is suspected");
}

/// A gateway that cannot be asked about one agent.
const OF_2014: [(&str, &str); 3] =
    [("keep.poll", "all"), ("auth_mode", "static"), ("edition", "2014")];

/// The poll that was open when the agent was signed in anew is refused. That says nothing of the new session.
#[tokio::test]
async fn a_poll_with_the_guid_of_a_session_that_a_call_has_replaced_ends_no_session() {
    let gateway = Options { polls: Polls::All, auth_mode: AuthMode::Static, ..Options::default() };
    let (lines, credentials) = ([&FAST[..], &OF_2014].concat(), &[1001][..]);
    let world = World::of(Setup { gateway, lines: &lines, credentials, ..Setup::default() }).await;
    let late = Fault::Delay(std::time::Duration::from_millis(300));
    world.gateway.misbehave(Misbehaviour::always(late).on(Interface::PollAll));
    world.sign_in(1001).await;
    until("a poll that waits", || polls(&world) == 2).await;
    let by_force = SignIn::new(PASSWORD.into(), String::new(), true);
    let signed_in = world.tenant.sign_in(agent(1001), by_force, &context(), None).await;
    signed_in.expect("signed in by force");
    let before = world.asked(Interface::SignIn).len();
    until("the refusal has come, and a poll with the new Guid", || polls(&world) >= 3).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    assert_eq!(world.asked(Interface::SignIn).len(), before);
}

/// That the gateway cannot be asked is no proof that a sign-out was not carried out whose answer was lost.
#[tokio::test]
async fn an_agent_who_cannot_be_asked_about_may_still_have_been_signed_out() {
    let lines = [&STATIC[..], &[("timeouts.settle", "0ms")]].concat();
    let world = polled(AuthMode::Static, Polls::All, &lines).await;
    polled_on(&world).await;
    world.gateway.misbehave(Misbehaviour::always(missing()).on(Interface::AgentStatus));
    let made = world.tenant.sessions.cached(agent(1003)).expect("a session").made;
    world.tenant.agents.lost(agent(1003), Loss::SignOut { made }, Instant::now());
    assert!(world.gateway.tell(1003, "AgentOther_ShutdownService", None));
    until("it is asked about", || !world.asked(Interface::AgentStatus).is_empty()).await;
    until("it has joined again", || world.work.tasks.len() == 1).await;
    assert!(world.tenant.agents.unclear_sign_out(agent(1003), made).is_some());
    world.until_state(1003, Some(SessionState::Kept)).await;
}

/// A poll for all without a Guid does not show that the agent is signed in with whose session it was sent.
#[tokio::test]
async fn without_guids_a_good_poll_does_not_undo_a_sign_out_whose_answer_was_lost() {
    let lines = [("keep.poll", "all"), ("auth_mode", "none"), ("timeouts.settle", "0ms")];
    let world = polled(AuthMode::None, Polls::All, &lines).await;
    polled_on(&world).await;
    world.gateway.misbehave(Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SignOut));
    // The first one carries the poll.
    let signed_out = world.tenant.sign_out(agent(1001), false, &context(), None).await;
    assert!(signed_out.is_err(), "its answer was lost");
    polled_on(&world).await;
    let looks = [&lines[..], &[("keep.guid_interval", "50ms")]].concat();
    let changed = world.changed(&looks);
    changed.put_in_force(&world.tenant);
    world.until_state(1001, None).await;
    assert_eq!(world.asked(Interface::SignIn).len(), AGENTS.len());
}

#[tokio::test]
async fn a_member_whose_new_guid_names_another_node_goes_to_the_poll_of_that_node() {
    let lines = [&STATIC[..], &[("keep.guid_interval", "50ms")]].concat();
    let world = polled(AuthMode::Static, Polls::All, &lines).await;
    polled_on(&world).await;
    let (sessions, moved) = (&world.tenant.sessions, agent(1003));
    let renewed = Guid::parse("279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway7");
    let session = sessions.cached(moved).expect("a session");
    let renewed = sessions.renew(moved, &session, renewed.expect("a Guid")).await;
    assert!(renewed.expect("stored").is_some());
    let is_of_other = |poll: &Entry| poll.header("guid").is_some_and(|guid| guid.ends_with('7'));
    until("a poll there", || world.asked(Interface::PollAll).iter().any(is_of_other)).await;
}

#[tokio::test]
async fn an_agent_who_is_the_tenants_no_more_is_not_said_to_be_kept_when_polls_are_for_all() {
    let world = polled(AuthMode::Static, Polls::Agent, &[("auth_mode", "static")]).await;
    let lines = [("auth_mode", "static"), ("agent_ids", "1002-1003")];
    let without = world.changed(&lines);
    without.put_in_force(&world.tenant);
    world.until_state(1001, Some(SessionState::Unkept)).await;
    let kept = world.entered(SessionState::Kept);
    let for_all = world.changed(&[&lines[..], &ALL].concat());
    for_all.put_in_force(&without);
    assert_eq!(world.entered(SessionState::Kept), kept);
    assert_eq!(world.tenant.session_state(agent(1001)), Some(SessionState::Unkept));
}
