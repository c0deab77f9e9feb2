//! What a tenant makes of a store that is slow, away, or left behind by another process.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ccgateway_sim::Interface;
use secrecy::ExposeSecret as _;

use super::{
    safekeeping::TestStores,
    world::{
        FAST, PASSWORD, Setup, UNPOLLED, World, agent, context, password, prompt, until, within,
    },
};
use crate::{
    call::{CallError, Obstacle, Stage, StoreTrouble, Wait},
    gateway::say_busy,
    session::{
        Guid, NewSession, Origin, Owner, Scope, SealedKind, SessionState, StoreError, StoreRefusal,
    },
    tenant::{password_digest::PasswordDigest, session_lookup::trouble},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn with(stores: &TestStores, lines: &[(&str, &str)], credentials: &[u32]) -> World {
    let stores = Some(stores.clone());
    World::of(Setup { gateway: prompt(), lines, credentials, stores, ..Setup::default() }).await
}

fn session(guid: &str) -> NewSession {
    let guid = Guid::parse(guid).expect("a Guid");
    NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies: <_>::default() }
}

#[test]
fn callers_are_told_what_the_store_refuses() {
    let refused =
        |scope| StoreError::Refused(StoreRefusal { scope, answer: String::new(), advice: "" });
    assert_eq!(trouble(&refused(Scope::Writes)), StoreTrouble::RefusesWrites);
    assert_eq!(trouble(&refused(Scope::Reads)), StoreTrouble::RefusesReads);
    assert_eq!(trouble(&StoreError::Unavailable(String::new())), StoreTrouble::Silent);
}

#[tokio::test]
async fn what_a_store_that_is_away_does_not_know_is_unknown_unless_it_can_be_made() {
    let stores = TestStores::new(false);
    let world = with(&stores, &UNPOLLED, &[1002]).await;
    stores.store.is_away.store(true, Relaxed);
    let error = world.busy(1001).await.expect_err("unknown");
    let silent = StoreTrouble::Silent;
    assert!(
        matches!(error.obstacle(), Some(Obstacle::StoreUnavailable(t)) if *t == silent),
        "{error}"
    );
    world.busy(1002).await.expect("signed in, and not stored");
    assert_eq!(world.tenant.session_state(agent(1002)), None);
    assert_eq!(world.counted("ccgw_session_changes_unstored_total", ""), 1);
    assert!(world.tenant.sessions.cached(agent(1002)).is_none());
}

#[tokio::test]
async fn a_store_that_hangs_keeps_nobody_longer_than_the_deadline() {
    let stores = TestStores::new(false);
    let world = with(&stores, &UNPOLLED, &[]).await;
    stores.store.hang();
    let soon = || within(Duration::from_millis(100));
    let context = soon();
    let command = world.tenant.command(agent(1001), say_busy(None, None), &context, None);
    let error = command.await.expect_err("no answer of the store");
    assert!(matches!(error.obstacle(), Some(Obstacle::Deadline(Wait::Store))), "{error}");
    let found = world.tenant.session_by(agent(1001), soon().deadline).await;
    assert!(matches!(found, Err(Obstacle::Deadline(Wait::Store))), "{found:?}");
    let guid = Guid::parse("a").expect("a Guid");
    let registered = world.tenant.register(agent(1001), guid, None, soon().deadline).await;
    let registered = registered.expect_err("not in time");
    assert!(matches!(registered, CallError::Deadline(Stage::Store)), "{registered}");
    stores.store.go_on();
    // It goes on without its caller.
    until("registered", || world.entered(SessionState::Registered) == 1).await;
    assert!(world.tenant.session_by(agent(1001), super::world::context().deadline).await.is_ok());
}

#[tokio::test]
async fn a_call_is_answered_in_time_and_the_agents_next_one_waits_for_the_store() {
    let stores = TestStores::new(false);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    world.gateway.set_guid_on_next_reply(1001);
    stores.store.hang();
    let soon = within(Duration::from_secs(1));
    let answered = world.tenant.command(agent(1001), say_busy(None, None), &soon, None).await;
    assert!(answered.is_ok(), "{answered:?}");
    let next = world.tenant.clone();
    let next = tokio::spawn(async move {
        next.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(world.asked(Interface::SayBusy).len(), 1, "it waits");
    assert!(world.gateway.force_idle(1001));
    stores.store.go_on();
    next.await.expect("no panic").expect("accepted");
    let busy = world.asked(Interface::SayBusy);
    assert_ne!(busy[0].header("guid"), busy[1].header("guid"), "and finds the newer Guid");
}

#[tokio::test]
async fn sessions_that_the_process_before_has_left_are_kept_on() {
    for keep in [true, false] {
        let stores = TestStores::new(false);
        let lines = if keep { &FAST[..] } else { &UNPOLLED[..] };
        let world = with(&stores, lines, &[]).await;
        for id in [1001, 1002] {
            let guid = world.gateway.sign_in(id);
            world.tenant.sessions.put(agent(id), session(&guid)).await.expect("stored");
        }
        stores.store.found.lock().expect("free").push(agent(1001));
        stores.store.later.lock().expect("free").push(agent(1002));
        stores.store.finds_later.store(true, Relaxed);
        world.tenant.resume();
        let state = if keep { SessionState::Kept } else { SessionState::Unkept };
        world.until_state(1001, Some(state)).await;
        world.until_state(1002, Some(state)).await;
        if keep {
            // The Guid that is known may be an old one: it is renewed first.
            until("renewed", || world.asked(Interface::UpdateGuid).len() >= 2).await;
            until("polled", || world.asked(Interface::Poll).len() >= 4).await;
            assert_eq!(world.asked(Interface::UpdateGuid).len(), 2, "once each");
            assert!(world.asked(Interface::UpdateGuid)[0].at <= world.asked(Interface::Poll)[0].at);
        } else {
            assert!(world.asked(Interface::Poll).is_empty());
        }
        assert!(world.asked(Interface::SignIn).is_empty());
    }
}

#[tokio::test]
async fn a_password_that_worked_is_shared_and_goes_with_the_session() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    let has =
        |drawer| stores.drawers.sealed.lock().expect("free").contains_key(&(drawer, agent(1001)));
    assert!(has(SealedKind::Credentials));
    let (_, time) =
        stores.drawers.sealed.lock().expect("free")[&(SealedKind::Credentials, agent(1001))];
    assert_eq!(time, Duration::from_secs(30 * 24 * 60 * 60));
    // Another replica signs the agent in with it.
    world.gateway.sign_out(1001);
    let theirs = World { gateway: world.gateway.clone(), ..with(&stores, &UNPOLLED, &[]).await };
    assert!(theirs.tenant.credentials.find(agent(1001)).await.expect("read").is_some());
    assert!(theirs.tenant.credentials.find(agent(1002)).await.expect("read").is_none());
    world.busy(1001).await.expect("signed in anew");
    world.tenant.sign_out(agent(1001), false, &context(), None).await.expect("signed out");
    assert!(!has(SealedKind::Credentials));
    assert!(theirs.tenant.credentials.find(agent(1001)).await.expect("read").is_none());
}

#[tokio::test]
async fn a_password_that_all_know_anyway_or_that_nobody_shall_is_not_shared() {
    for (shared, credentials) in [(true, &[1001][..]), (false, &[])] {
        let stores = TestStores::new(shared);
        let world = with(&stores, &UNPOLLED, credentials).await;
        world.sign_in(1001).await;
        assert_eq!(stores.drawers.puts.load(Relaxed), 0);
        assert!(world.tenant.credentials.find(agent(1001)).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn a_rejected_password_is_told_and_no_replica_tries_it() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    let wrong = world.tenant.sign_in(agent(1001), password("wrong"), &context(), None).await;
    assert!(wrong.expect_err("wrong").is_credentials_rejected());
    let other = TestStores { store: TestStores::new(true).store, ..stores.clone() };
    let theirs = with(&other, &UNPOLLED, &[]).await;
    for (word, is_known) in [("wrong", true), (PASSWORD, false)] {
        let rejection = theirs.tenant.credentials.rejection(agent(1001), &password(word)).await;
        let rejection = rejection.expect("read");
        assert_eq!(rejection.is_some(), is_known, "{word}");
        let error = rejection.map(|error| error.is_credentials_rejected());
        assert_eq!(error, is_known.then_some(true));
    }
    let wrong = PasswordDigest::of(&password("wrong").password);
    assert!(theirs.tenant.agents.rejection(agent(1001), &wrong).is_none());
    let (_, time) =
        stores.drawers.sealed.lock().expect("free")[&(SealedKind::Rejected, agent(1001))];
    assert_eq!(time, world.tenant.config().keep.rejected_for);
}

#[tokio::test]
async fn a_rejected_password_displaces_none_of_those_before_it_where_they_cannot_be_read() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    let words = ["wrong", "wrong too"];
    for (word, is_away) in words.into_iter().zip([false, true]) {
        stores.drawers.is_away.store(is_away, Relaxed);
        let wrong = world.tenant.sign_in(agent(1001), password(word), &context(), None).await;
        assert!(wrong.expect_err("wrong").is_credentials_rejected());
    }
    stores.drawers.is_away.store(false, Relaxed);
    let other = TestStores { store: TestStores::new(true).store, ..stores.clone() };
    let theirs = with(&other, &UNPOLLED, &[]).await;
    for word in words {
        let rejection = theirs.tenant.credentials.rejection(agent(1001), &password(word)).await;
        assert!(rejection.expect("read").is_some(), "{word}");
    }
}

#[tokio::test]
async fn a_password_that_no_longer_works_is_forgotten_everywhere_but_another_is_not() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    let wrong = world.tenant.sign_in(agent(1001), password("wrong"), &context(), None).await;
    wrong.expect_err("wrong");
    assert!(
        world.tenant.credentials.find(agent(1001)).await.expect("read").is_some(),
        "another one"
    );
    world.refuse(Interface::SignIn, "100-004");
    let now_wrong = world.tenant.sign_in(agent(1001), password(PASSWORD), &context(), None).await;
    now_wrong.expect_err("rejected");
    assert!(world.tenant.credentials.find(agent(1001)).await.expect("read").is_none());
    let has = stores
        .drawers
        .sealed
        .lock()
        .expect("free")
        .contains_key(&(SealedKind::Credentials, agent(1001)));
    assert!(!has);
}

#[tokio::test]
async fn a_wrong_password_that_is_shared_does_not_cost_the_bridge_the_right_one() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    let wrong = password("wrong");
    let session = world.tenant.sessions.cached(agent(1001)).expect("signed in").made;
    let owner = Owner { agent: agent(1001), session: Some(session) };
    stores.sealed_values().put(SealedKind::Credentials, owner, b"wrong", MINUTE).await;
    let tried = world.tenant.sign_in(agent(1001), wrong, &context(), None).await;
    tried.expect_err("wrong");
    let known =
        world.tenant.credentials.find(agent(1001)).await.expect("read").expect("the right one");
    assert_eq!(known.password.expose_secret(), PASSWORD);
}

#[tokio::test]
async fn a_password_that_may_be_in_a_store_that_cannot_be_read_is_not_said_to_be_missing() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    // As at another replica.
    world.tenant.credentials.forget_here(agent(1001));
    stores.drawers.is_away.store(true, Relaxed);
    world.gateway.sign_out(1001);
    let error = world.busy(1001).await.expect_err("no password here");
    assert!(matches!(error.obstacle(), Some(Obstacle::StoreUnavailable(_))), "{error}");
    assert!(world.tenant.sessions.cached(agent(1001)).is_some(), "it is not given up");
    stores.drawers.is_away.store(false, Relaxed);
    world.busy(1001).await.expect("signed in anew");
}

#[tokio::test]
async fn only_a_caller_gets_an_agent_signed_in_while_nobody_says_what_was_rejected() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[1001]).await;
    world.busy(1001).await.expect("signed in");
    let version = world.tenant.sessions.cached(agent(1001)).expect("a session").version;
    stores.drawers.is_away.store(true, Relaxed);
    world.gateway.sign_out(1001);
    let made = world.tenant.make_anew(agent(1001), version).await.result;
    assert!(matches!(made, Err(Obstacle::StoreUnavailable(_))), "{made:?}");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
    world.busy(1001).await.expect("signed in anew");
    assert_eq!(world.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn whether_another_replica_has_lost_a_sign_out_is_unknown_while_the_store_cannot_be_read() {
    let stores = TestStores::new(false);
    let world = with(&stores, &UNPOLLED, &[1001]).await;
    world.sign_in(1001).await;
    let made = world.tenant.sessions.cached(agent(1001)).expect("a session").made;
    stores.drawers.is_away.store(true, Relaxed);
    assert!(world.tenant.unclear_sign_out(agent(1001), made).await.is_err());
    stores.drawers.is_away.store(false, Relaxed);
    assert_eq!(world.tenant.unclear_sign_out(agent(1001), made).await, Ok(None));
}

#[tokio::test]
async fn a_password_that_is_given_while_the_owner_registers_a_guid_is_not_used() {
    let stores = TestStores::new(true);
    let world = with(&stores, &UNPOLLED, &[]).await;
    world.sign_in(1001).await;
    let guid = Guid::parse("owners").expect("a Guid");
    let deadline = context().deadline;
    world.tenant.register(agent(1001), guid, None, deadline).await.expect("registered");
    world.tenant.credentials.hold(agent(1001), &PASSWORD.into());
    let session = world.tenant.sessions.cached(agent(1001)).expect("registered");
    world.tenant.credentials.share(agent(1001), &PASSWORD.into(), &session).await;
    world.busy(1001).await.expect_err("the owner has to register another");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
    stores.sealed_values().remove(SealedKind::Credentials, agent(1001)).await;
    world.busy(1001).await.expect_err("nor later");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_password_of_an_agent_who_was_signed_out_elsewhere_is_not_used() {
    let stores = TestStores::new(false);
    let world = with(&stores, &UNPOLLED, &[]).await;
    let session = world.sign_in(1001).await.session.expect("kept");
    world.tenant.sessions.remove(agent(1001), session.version).await.expect("removed");
    stores.store.all_signed_out.store(true, Relaxed);
    let error = world.busy(1001).await.expect_err("signed out");
    assert!(matches!(error.obstacle(), Some(Obstacle::SessionMissing)), "{error}");
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}
