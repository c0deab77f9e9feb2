//! The lock by which one of several replicas signs an agent in.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use tokio::time::timeout;

use super::{
    others::{OURS, OURS_AGAIN, Others},
    safekeeping::TestStores,
    world::{FAST, Setup, World, agent, context, prompt, refusal, until, within},
};
use crate::{
    call::Tasks,
    gateway::say_busy,
    session::{Guid, NewSession, Origin},
    tenant::{
        Grant, Lock, SharedSignIns,
        sign_in_lock::{Asking, Held, SignInLock},
    },
};

fn held(others: &Others) -> Arc<Held> {
    let shared: Arc<dyn SharedSignIns> = others.sign_ins.clone();
    Held::new(&shared, agent(1001), Duration::from_secs(60))
}

fn made(guid: &str) -> NewSession {
    let guid = Guid::parse(guid).expect("a Guid");
    NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies: <_>::default() }
}

async fn all_over(tasks: &Tasks) {
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_lock_is_given_back_when_its_sign_in_is_over() {
    let others = Others::answering([Some(OURS)]);
    let (held, tasks) = (held(&others), Tasks::default());
    drop(SignInLock::new(&held, &tasks));
    all_over(&tasks).await;
    assert_eq!(others.sign_ins.unlocked.load(Relaxed), 1);
}

#[tokio::test]
async fn a_lock_that_may_have_been_given_to_a_caller_who_left_is_given_back() {
    for (is_answered, unlocked) in [(true, 0), (false, 1)] {
        let others = Others::default();
        let (held, tasks) = (held(&others), Tasks::default());
        drop(Asking { held: &held, tasks: &tasks, is_answered });
        all_over(&tasks).await;
        assert_eq!(others.sign_ins.unlocked.load(Relaxed), unlocked);
    }
}

#[tokio::test]
async fn a_session_replaces_a_stored_one_only_while_its_lock_was_not_lost() {
    for (renewal, guid) in [(OURS, "ours"), (OURS_AGAIN, "stored")] {
        let world = World::unpolled(&[]).await;
        let sessions = &world.tenant.sessions;
        let before = sessions.claim(0);
        let stored = sessions.put(agent(1001), made("stored")).await.expect("stored");
        let others = Others::answering([Some(Lock { stored: stored.version, ..renewal })]);
        let tasks = Tasks::default();
        let mut lock = SignInLock::new(&held(&others), &tasks);
        lock.begin(Grant(1), before);
        let kept = world.tenant.store_made(agent(1001), made("ours"), Some(&lock)).await;
        assert_eq!(kept.expect("a session").guid, Guid::parse(guid).expect("a Guid"));
    }
}

async fn with(others: &Others, credentials: &[u32]) -> World {
    let (gateway, lines) = (prompt(), &FAST[..]);
    World::of(Setup { gateway, lines, credentials, replicas: Some(others), ..Setup::default() })
        .await
}

#[tokio::test]
async fn a_session_that_another_replica_has_stored_meanwhile_is_used_and_not_taken_by_force() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    let guid = world.gateway.sign_in(1001);
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let call = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is under way", || !world.asked(Interface::SignIn).is_empty()).await;
    let theirs = world.tenant.sessions.put(agent(1001), made(&guid)).await.expect("stored");
    others.answer([Some(Lock { stored: theirs.version, ..OURS })]);
    world.gateway.thaw();
    call.await.expect("no panic").expect("accepted");
    assert!(world.asked(Interface::ForceSignIn).is_empty());
}

#[tokio::test]
async fn a_sign_in_that_is_refused_for_another_reason_waits_for_no_other_replica() {
    let others = Others::answering([Some(OURS)]);
    let world = with(&others, &[1001]).await;
    world.refuse(Interface::SignIn, "100-003");
    let refused = world.busy(1001).await.expect_err("no resources");
    assert!(refused.refusal().is_some(), "{refused}");
    until("given back", || others.sign_ins.unlocked.load(Relaxed) == 1).await;
    // It could have asked for as long as a sign-in may take, every 50 ms.
    assert!(others.sign_ins.asked.load(Relaxed) < 100);
}

#[tokio::test]
async fn an_agent_whom_no_replica_is_signing_in_and_nobody_may_force_is_not_waited_for() {
    let others = Others::answering([Some(OURS)]);
    let gateway = Options { force_sign_in: false, ..prompt() };
    let (lines, credentials, replicas) = (&FAST[..], &[1001][..], Some(&others as _));
    let world =
        World::of(Setup { gateway, lines, credentials, replicas, ..Setup::default() }).await;
    world.gateway.sign_in(1001);
    world.busy(1001).await.expect_err("elsewhere");
    assert!(others.sign_ins.asked.load(Relaxed) < 100);
}

/// The store gives no lock, as while it takes no writes, and then says nothing.
#[tokio::test]
async fn a_store_that_hangs_after_a_refused_sign_in_keeps_nobody_longer_than_the_deadline() {
    let (others, stores) = (Others::answering([None]), TestStores::new(false));
    let gateway = Options { force_sign_in: false, ..prompt() };
    let (lines, credentials, replicas) = (&FAST[..], &[1001][..], Some(&others as _));
    let of_test = Some(stores.clone());
    let world = World::of(Setup { gateway, lines, credentials, replicas, stores: of_test }).await;
    world.gateway.sign_in(1001);
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let call = tokio::spawn(async move {
        let soon = within(Duration::from_secs(2));
        tenant.command(agent(1001), say_busy(None, None), &soon, None).await
    });
    until("it is under way", || !world.asked(Interface::SignIn).is_empty()).await;
    stores.store.hang();
    world.gateway.thaw();
    let answered = timeout(Duration::from_secs(20), call).await.expect("before the store");
    let refused = answered.expect("no panic").expect_err("elsewhere");
    assert!(refused.refusal().is_some(), "{refused}");
    stores.store.go_on();
}

#[tokio::test]
async fn a_session_counts_as_lost_while_its_agent_waits_for_a_sign_in() {
    let world = World::unpolled(&[1001]).await;
    world.busy(1001).await.expect("signed in");
    let lost = world.tenant.sessions.cached(agent(1001)).expect("a session").version;
    let is_lost = |id, version| world.tenant.sign_ins.is_lost(agent(id), version);
    assert!(!is_lost(1001, lost));
    world.gateway.freeze();
    let tenant = world.tenant.clone();
    let anew = tokio::spawn(async move { tenant.make_anew(agent(1001), lost).await });
    until("it is under way", || world.asked(Interface::SignIn).len() == 2).await;
    assert!(is_lost(1001, lost));
    assert!(!is_lost(1001, lost + 1) && !is_lost(1002, lost));
    world.gateway.thaw();
    anew.await.expect("no panic").result.expect("signed in anew");
    assert!(!is_lost(1001, lost));
}

#[tokio::test]
async fn whoever_meets_another_call_gives_its_place_back_and_takes_it_again() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    // The newest rule comes first.
    for fault in [Fault::Hang, refusal("000-007")] {
        world.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
    }
    let tenant = world.tenant.clone();
    let call = tokio::spawn(async move {
        tenant.command(agent(1001), say_busy(None, None), &context(), None).await
    });
    until("it is asked again", || world.asked(Interface::SayBusy).len() == 2).await;
    assert_eq!(world.tenant.usage().requests.taken, 1);
    call.abort();
}
