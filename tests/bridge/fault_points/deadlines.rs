//! The caller's deadline passes while a request is at one of several points.

use std::time::Duration;

use ccgateway_test_support::lossy::Loss;

use super::{
    points::{CALLS, Call, Point},
    world::{Setting, Told, World, applied},
};

/// Where a request stands still until the bridge gives it up.
const STANDS: [Loss; 3] = [Loss::Swallowed, Loss::Withheld, Loss::HalfWithheld];
/// What has come before it.
const BEFORE: [Point; 4] =
    [Point::Nowhere, Point::Connected, Point::Refused("000-003"), Point::Refused("000-007")];
const DEADLINE: Duration = Duration::from_millis(400);

/// What one of these calls was told.
struct Case {
    call: Call,
    agent: u32,
    name: String,
    told: Told,
}

#[tokio::test]
async fn the_outcome_of_a_call_is_true_at_whichever_point_its_deadline_passes() {
    let points = STANDS.iter().flat_map(|loss| BEFORE.iter().map(move |before| (*before, *loss)));
    let cases = CALLS.iter().flat_map(|call| points.clone().map(move |points| (*call, points)));
    let cases: Vec<_> = (1001..).zip(cases).collect();
    // Whoever has an answer to the question what the agent is doing is answered before the deadline.
    let more = "read_back = false\ntimeouts.request = \"2s\"\ntimeouts.sign_in = \"2s\"\n";
    let setting = Setting { keeps_connections: false, more, ..Setting::default() };
    let world = World::new(setting, cases.iter().map(|(agent, _)| *agent)).await;
    let (mut told, mut unanswered) = (Vec::new(), 0);
    for (agent, (call, (before, loss))) in cases {
        let name = format!("{call:?} of {agent} with {before:?} and {loss:?}");
        let points = if before == Point::Nowhere {
            [Point::Lost(loss), Point::Nowhere]
        } else {
            [before, Point::Lost(loss)]
        };
        let case = world.told(call, agent, points, Some(DEADLINE)).await;
        world.proxy.behave();
        world.bridge.gateway.behave();
        assert!(case.result.is_err(), "{name}: nobody has answered");
        // A request that is under way is not known to have done nothing.
        if case.sent.last().is_some_and(|seen| seen.answer.is_empty()) {
            assert_eq!(case.outcome().as_deref(), Some("unknown"), "{name}");
            unanswered += 1;
        }
        told.push(Case { call, agent, name, told: case });
    }
    assert!(unanswered >= 18, "{unanswered} of the calls were under way");
    // What goes on after its caller has had an answer ends here.
    let gateway = world.bridge.gateway.clone();
    world.bridge.bridge.drain().await;
    for Case { call, agent, name, told } in told {
        told.check(&name, applied(&gateway, call, agent));
    }
}
