//! What a tenant tells of itself.

use std::{net::IpAddr, time::Duration};

use ccgateway_sim::{Fault, Interface, Misbehaviour};

use super::world::{Setup, World, agent, context, until, within};
use crate::{
    call::{CallError, Obstacle, Refusal, Share},
    gateway::say_busy,
    telemetry::{log::captured::Captured, metrics::Label},
    tenant::{CallerId, Confirmation, Counts, TakeOver, Tenants, Unconfirmed},
};

const PEERS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
];

#[tokio::test]
async fn a_tenant_says_who_it_is_and_where_its_gateway_is() {
    let world = World::unpolled(&[1001]).await;
    let tenant = &world.tenant;
    assert_eq!((tenant.id().as_str(), tenant.gateway()), ("acme", Some("localhost")));
    assert!(!tenant.config().keep.enabled);
    assert_eq!(tenant.addresses().len(), 1);
    tenant.metrics().renewed();
    assert_eq!(world.counted("ccgw_guid_renewals_total", "acme"), 1);
    assert!(tenant.configured(agent(1001)).is_some_and(|known| known.force));
    assert!(tenant.configured(agent(1002)).is_none());
    assert!(!tenant.stopping().is_cancelled());
    world.work.stopping.cancel();
    assert!(tenant.stopping().is_cancelled());
    // Twice a connection of 2 s and an answer of 15 s.
    assert_eq!(tenant.sign_in_max(), Duration::from_secs(34));
    assert!(!tenant.is_kept_by_replicas());
}

#[tokio::test]
async fn tenants_are_found_by_their_ids_and_the_only_one_without() {
    let world = World::unpolled(&[]).await;
    let tenants = Tenants::new([world.tenant]);
    assert!(tenants.named("acme").is_some() && tenants.named("other").is_none());
    assert_eq!(tenants.named("").map(|tenant| tenant.id().to_string()), Some("acme".into()));
    assert_eq!(tenants.all().len(), 1);
    tenants.replace([]);
    assert!(tenants.named("").is_none() && tenants.named("acme").is_none());
}

#[tokio::test]
async fn who_watches_takes_a_place_that_a_newcomer_may_get() {
    let world = World::of(Setup { lines: &[("events.watches", "2")], ..Setup::default() }).await;
    let enter = |peer| world.tenant.enter_watches(peer);
    let _kept = enter(PEERS[0]).expect("a place");
    let lost = enter(PEERS[0]).expect("a place");
    assert_eq!(world.tenant.usage().watches.taken, 2);
    let error = enter(PEERS[0]).expect_err("nobody has more");
    assert!(
        matches!(error, Obstacle::Overloaded { share: Share::TenantWatches, limit } if limit.get() == 2)
    );
    let _place = enter(PEERS[1]).expect("the other has two");
    assert!(lost.is_lost());
    lost.lost_owned().await;
    assert!(lost.lost_token().is_cancelled());
}

#[tokio::test]
async fn the_server_has_places_for_a_tenants_calls() {
    let world = World::unpolled(&[]).await;
    let (mut places, mut callers) = (Vec::new(), 0..);
    let error = loop {
        let caller = callers.next().map(|number: u64| CallerId::of_test(number << 32));
        match world.tenant.enter_server(caller.unwrap_or(CallerId::BRIDGE)) {
            Ok(place) => places.push(place),
            Err(error) => break error,
        }
        assert!(places.len() < 100_000, "there is an end");
    };
    assert!(
        matches!(error, Obstacle::Overloaded { share: Share::ServerCalls, limit } if limit.get() == places.len())
    );
}

#[tokio::test]
async fn one_caller_does_not_get_the_last_places_and_others_do() {
    let world = World::of(Setup { lines: &[("limits.calls", "160")], ..Setup::default() }).await;
    let [greedy, other] = [1 << 32, 2 << 32].map(CallerId::of_test);
    // Its calls wait for their agents, so each has a place among the tenant's calls.
    let mut taken = Vec::new();
    let error = loop {
        match world.tenant.enter_server(greedy) {
            Ok(place) => taken.push((place, world.tenant.admission.enter().expect("a place"))),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (taken.len(), error.to_string()),
        (
            150,
            "the caller's part of the tenant's limit is reached: 150 calls at once of one caller"
                .to_owned()
        )
    );
    for _ in 0..10 {
        let place = world.tenant.enter_server(other).expect("kept for it");
        taken.push((place, world.tenant.admission.enter().expect("a place")));
    }
    assert!(world.tenant.admission.enter().is_err(), "all are taken");
    taken.clear();
    world.tenant.enter_server(greedy).expect("there are many now");
}

#[tokio::test]
async fn calls_whose_callers_have_left_go_on_and_are_counted_until_they_are_told() {
    let world = World::unpolled(&[]).await;
    for (id, fault) in [(1001, None), (1002, Some(Fault::CutBeforeAnswer))] {
        world.sign_in(id).await;
        if let Some(fault) = fault {
            world.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy).of(id));
        }
        // Long enough for the request to be sent, however busy the machine is.
        let slow = within(Duration::from_secs(1));
        world.gateway.freeze();
        let before = world.asked(Interface::SayBusy).len();
        let tenant = world.tenant.clone();
        let call = tokio::spawn(async move {
            tenant.command(agent(id), say_busy(None, None), &slow, None).await
        });
        until("asked", || world.asked(Interface::SayBusy).len() > before).await;
        call.await.expect("no panic").expect_err("too late");
        world.gateway.thaw();
    }
    until("both have ended", || world.tenant.abandoned.counted() == 2).await;
    world.tenant.tell_abandoned();
    assert_eq!(world.tenant.abandoned.counted(), 0);
}

#[test]
fn counts_are_subtracted_one_by_one_and_never_below_zero() {
    let counts = |by: u64| Counts {
        calls: 10 * by,
        calls_failed: 20 * by,
        calls_over_own_share: 21 * by,
        calls_refused: 22 * by,
        calls_cancelled: 23 * by,
        requests: 30 * by,
        requests_unanswered: 40 * by,
        polls: 50 * by,
        sign_ins: 60 * by,
        events: 70 * by,
    };
    assert_eq!(counts(5) - counts(2), counts(3));
    assert_eq!(counts(2) - counts(5), Counts::default());
}

#[test]
fn labels_are_spelt_as_the_reference_has_them() {
    let take_overs = [TakeOver::TakenBack, TakeOver::Refused].map(Label::as_str);
    assert_eq!(take_overs, ["taken_back", "refused"]);
    let unconfirmed = [
        (Unconfirmed::NotKept, "not_kept"),
        (Unconfirmed::Talking, "talking"),
        (Unconfirmed::AfterCallWork, "after_call_work"),
        (Unconfirmed::OtherState, "other_state"),
        (Unconfirmed::NoEvent, "no_event"),
        (Unconfirmed::ShuttingDown, "shutting_down"),
    ];
    for (why, spelt) in unconfirmed {
        assert_eq!(Label::as_str(Confirmation::Accepted(why)), spelt);
    }
    assert_eq!(Label::as_str(Share::TenantCalls), Share::TenantCalls.as_str());
    assert_eq!(Label::as_str(crate::session::SessionState::Kept), "kept");
}

#[tokio::test]
async fn a_command_without_time_is_not_begun() {
    let world = World::unpolled(&[]).await;
    world.sign_in(1001).await;
    let none = within(Duration::from_millis(1));
    let command = world.tenant.command(agent(1001), say_busy(None, None), &none, None);
    assert!(command.await.expect_err("no time").obstacle().is_some());
    assert!(world.asked(Interface::SayBusy).is_empty());
    world
        .tenant
        .command(agent(1001), say_busy(None, None), &context(), None)
        .await
        .expect("accepted");
}

#[tokio::test]
async fn calls_without_a_caller_are_counted_by_what_became_of_them_until_a_line_is_written() {
    tokio::time::pause();
    let log = Captured::start();
    let world = World::unpolled(&[]).await;
    let (tenant, abandoned) = (&world.tenant, &world.tenant.abandoned);
    let refused = || {
        let retcode = crate::retcode::Retcode::refusal("100-009").expect("a retcode");
        let (message, node) = (String::new(), None);
        CallError::Refused(Refusal { retcode, message, node, http_status: 200 })
    };
    let unsent = || CallError::unasked(Obstacle::SessionMissing);
    for (count, error) in (1..).zip([
        None,
        Some(refused()),
        Some(unsent()),
        Some(CallError::NoAnswer(String::new())),
        Some(refused()),
        Some(unsent()),
    ]) {
        abandoned.note(tenant, error.as_ref());
        assert_eq!(abandoned.counted(), count);
    }
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(abandoned.counted(), 6);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(abandoned.counted(), 0, "a line has been written");
    assert_eq!(log.with("their callers had left").len(), 1);
    assert!(log.with("their callers had left")[0].contains("WARN"), "one outcome is unknown");
    abandoned.note(tenant, Some(&refused()));
    assert_eq!(abandoned.counted(), 1);
    tokio::time::sleep(Duration::from_millis(10_100)).await;
    assert_eq!(abandoned.counted(), 0);
    let told = log.with("their callers had left");
    assert!(told.len() == 2 && told[1].contains("INFO"), "{told:?}");
}
