//! What keepers do while the store does not say what other replicas did, or may not have heard of it yet.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ccgateway_sim::Interface;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    others::{OURS, Others, THEIRS},
    safekeeping::TestStores,
    world::{FAST, Setup, UNPOLLED, World, agent, prompt, until},
};
use crate::{
    call::Obstacle,
    session::{EndOf, SealedKind, SessionState},
    telemetry::log::captured::Captured,
    tenant::{Polls as _, automatic_sign_ins::Settled},
};

const MINUTE: Duration = Duration::from_secs(60);

/// An agent who is kept, and whose password is in the configuration.
async fn kept(others: &Others, stores: &TestStores) -> World {
    let setup =
        Setup { gateway: prompt(), lines: &FAST[..], credentials: &[1001], ..<_>::default() };
    let setup = Setup { replicas: Some(others), stores: Some(stores.clone()), ..setup };
    let world = World::of(setup).await;
    world.sign_in(1001).await;
    world.until_state(1001, Some(SessionState::Kept)).await;
    world
}

/// Agents whose passwords are in the configuration. The first of them has a session of this version, which has ended at the
/// gateway, and which nobody keeps.
async fn signed_out(others: &Others, stores: &TestStores) -> (World, u64) {
    let (lines, credentials) = (&UNPOLLED, &[1001, 1002][..]);
    let setup = Setup { lines, credentials, replicas: Some(others), ..<_>::default() };
    let world = World::of(Setup { stores: Some(stores.clone()), ..setup }).await;
    world.busy(1001).await.expect("signed in");
    world.gateway.sign_out(1001);
    let lost = world.tenant.sessions.cached(agent(1001)).expect("a session").version;
    (world, lost)
}

/// What comes of a sign-in that only the agent's keeper wants.
fn make_anew(world: &World, lost: u64) -> JoinHandle<Result<(), Obstacle>> {
    let tenant = world.tenant.clone();
    tokio::spawn(async move { tenant.make_anew(agent(1001), lost).await.result })
}

async fn check_refused_for_the_store(world: &World, made: JoinHandle<Result<(), Obstacle>>) {
    let made = made.await.expect("no panic");
    assert!(matches!(made, Err(Obstacle::StoreUnavailable(_))), "{made:?}");
    assert_eq!(world.asked(Interface::SignIn).len(), 1, "that of the call");
}

#[tokio::test]
async fn a_keeper_takes_no_lock_if_the_store_fell_silent_while_it_waited_for_its_moment() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let (world, lost) = signed_out(&others, &stores).await;
    others.sign_ins.takes_all_moments.store(true, Relaxed);
    let asked = others.sign_ins.asked.load(Relaxed);
    let made = make_anew(&world, lost);
    until("it waits", || world.tenant.sign_in_queue().waiting == 1).await;
    stores.drawers.gets_stuck(SealedKind::Rejected);
    others.sign_ins.takes_all_moments.store(false, Relaxed);
    check_refused_for_the_store(&world, made).await;
    assert_eq!(others.sign_ins.asked.load(Relaxed), asked);
}

#[tokio::test]
async fn a_keeper_signs_nobody_in_if_the_store_fell_silent_while_it_waited_for_the_lock() {
    // What another replica may know: that the agent was signed out, or that the gateway rejects the password.
    for unknown in [SealedKind::SignOut, SealedKind::Rejected] {
        let (others, stores) = (Others::default(), TestStores::new(false));
        let (world, lost) = signed_out(&others, &stores).await;
        others.answer([Some(THEIRS)]);
        let asked = others.sign_ins.asked.load(Relaxed);
        let made = make_anew(&world, lost);
        until("it waits", || others.sign_ins.asked.load(Relaxed) > asked).await;
        stores.drawers.gets_stuck(unknown);
        others.answer([Some(OURS)]);
        check_refused_for_the_store(&world, made).await;
    }
}

#[tokio::test]
async fn a_keeper_signs_nobody_in_before_others_can_have_told_a_store_that_is_back_what_they_did() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let world = kept(&others, &stores).await;
    stores.store.is_back_after(MINUTE);
    world.gateway.sign_out(1001);
    world.until_state(1001, Some(SessionState::Recovering)).await;
    // Another replica tells only now that it has signed the agent out.
    let session = world.tenant.sessions.cached(agent(1001)).expect("a session");
    let told = world.tenant.sessions.sign_out(agent(1001), &session, EndOf::Session);
    told.await.expect("told");
    until("given up", || !world.tenant.is_polling(agent(1001))).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn the_longer_a_store_was_away_the_longer_the_others_have_time_to_tell_it_what_they_did() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let world = kept(&others, &stores).await;
    assert_eq!(world.tenant.store_settles_in(), Duration::ZERO);
    let cases = [[0, 0, 2], [0, 1, 3], [1, 0, 3], [1, 1, 4], [3, 0, 5], [0, 60, 5], [60, 0, 5]];
    for [away, attempt, settles] in cases.map(|seconds| seconds.map(Duration::from_secs)) {
        stores.store.is_away_again_and_again(away, attempt);
        assert_eq!(world.tenant.store_settles_in(), settles, "{away:?}, {attempt:?}");
    }
}

#[tokio::test]
async fn a_keeper_waits_as_long_as_a_recovery_may_take_for_a_store_that_is_never_back() {
    let (log, recovery) = (Captured::start(), Duration::from_secs(1));
    let lines = [&FAST[..], &[("keep.recovery", "1s")]].concat();
    for (times, is_woken) in [(1, false), (2, true)] {
        let (others, stores) = (Others::default(), TestStores::new(false));
        let setup =
            Setup { gateway: prompt(), lines: &lines, credentials: &[1001], ..<_>::default() };
        let setup = Setup { replicas: Some(&others), stores: Some(stores.clone()), ..setup };
        let world = World::of(setup).await;
        world.sign_in(1001).await;
        world.until_state(1001, Some(SessionState::Kept)).await;
        stores.store.is_away_again_and_again(Duration::ZERO, Duration::ZERO);
        let begun = Instant::now();
        world.gateway.sign_out(1001);
        let has_ended = || !world.tenant.is_polling(agent(1001));
        let is_not_woken = || is_woken && !world.tenant.keep_again(agent(1001));
        until("given up", || has_ended() || is_not_woken()).await;
        assert!(begun.elapsed() >= recovery, "{:?}", begun.elapsed());
        assert_eq!(log.with("the store was away again and again").len(), times);
        assert_eq!(world.asked(Interface::SignIn).len(), 1);
        assert!(world.tenant.sessions.cached(agent(1001)).is_some(), "it stays stored");
    }
}

#[tokio::test]
async fn a_keeper_that_waits_for_the_lock_until_a_store_is_back_signs_nobody_in_at_once() {
    let (others, stores) = (Others::answering([Some(OURS)]), TestStores::new(false));
    let world = kept(&others, &stores).await;
    let unlocked = || others.sign_ins.unlocked.load(Relaxed);
    until("given back", || unlocked() == 1).await;
    others.answer([Some(THEIRS)]);
    let asked = others.sign_ins.asked.load(Relaxed);
    world.gateway.sign_out(1001);
    until("it waits", || others.sign_ins.asked.load(Relaxed) > asked).await;
    stores.store.is_back_after(MINUTE);
    others.answer([Some(OURS)]);
    until("given back", || unlocked() == 2).await;
    assert_eq!(world.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_keeper_takes_no_moment_before_the_store_has_heard_of_all_and_a_caller_does() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let (world, lost) = signed_out(&others, &stores).await;
    stores.store.is_away_again_and_again(Duration::ZERO, Duration::ZERO);
    let moments = || others.sign_ins.moments.load(Relaxed);
    let before = moments();
    check_refused_for_the_store(&world, make_anew(&world, lost)).await;
    assert_eq!(moments(), before);
    world.busy(1002).await.expect("signed in for its caller");
    assert_eq!(moments(), before + 1);
}

#[tokio::test]
async fn a_keeper_leaves_the_queue_if_the_store_has_been_away_while_it_waited_there() {
    let (others, stores) = (Others::default(), TestStores::new(false));
    let (world, lost) = signed_out(&others, &stores).await;
    others.sign_ins.takes_all_moments.store(true, Relaxed);
    let asked = others.sign_ins.asked.load(Relaxed);
    let tenant = world.tenant.clone();
    let made = tokio::spawn(async move { tenant.make_anew(agent(1001), lost).await });
    until("it waits", || world.tenant.sign_in_queue().waiting == 1).await;
    stores.store.is_back_after(MINUTE);
    others.sign_ins.takes_all_moments.store(false, Relaxed);
    let Settled { result, queued } = made.await.expect("no panic");
    assert!(matches!(result, Err(Obstacle::StoreUnavailable(_))), "{result:?}");
    assert!(!queued.is_zero(), "that does not count towards the time of its recovery");
    assert_eq!(world.tenant.sign_in_queue().waiting, 0);
    assert_eq!(others.sign_ins.asked.load(Relaxed), asked, "it needs no lock");
}
