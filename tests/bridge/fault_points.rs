//! A call fails at every possible point, alone and in pairs: the caller is always told the truth.

mod deadlines;
mod points;
mod stores;
mod world;

use self::{
    points::{Call, POINTS, Point},
    world::{Setting, World},
};

/// Every pair of points that is wanted, each with an agent of its own.
async fn all_pairs(call: Call, setting: Setting, wanted: impl Fn([Point; 2]) -> bool) {
    let pairs = POINTS.iter().flat_map(|first| POINTS.iter().map(move |second| [*first, *second]));
    let cases: Vec<_> = (1001..).zip(pairs.filter(|pair| wanted(*pair))).collect();
    let world = World::new(setting, cases.iter().map(|(agent, _)| *agent)).await;
    for (agent, points) in cases {
        world.check(call, agent, points).await;
    }
}

async fn everywhere(call: Call) {
    all_pairs(call, Setting::default(), |_| true).await;
    // Each request has a connection of its own, which can be closed under it.
    let fresh = Setting { keeps_connections: false, ..Setting::default() };
    all_pairs(call, fresh, |pair| pair.contains(&Point::Connected)).await;
    // What is not reached at one address is sent to the other.
    let standby = Setting { has_standby: true, ..fresh };
    all_pairs(call, standby, |pair| pair.contains(&Point::Connected)).await;
}

#[tokio::test]
async fn the_outcome_of_a_change_is_true_whatever_fails() {
    everywhere(Call::SetBusy).await;
}

#[tokio::test]
async fn the_outcome_of_a_change_after_a_sign_in_is_true_whatever_fails() {
    everywhere(Call::FirstSetBusy).await;
}

#[tokio::test]
async fn the_outcome_of_a_sign_in_is_true_whatever_fails() {
    everywhere(Call::SignIn).await;
}

#[tokio::test]
async fn the_outcome_of_a_sign_out_is_true_whatever_fails() {
    everywhere(Call::SignOut).await;
}
