use std::{num::NonZeroUsize, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::{
    config::HostLimit, id::DEFAULT_AGENT_IDS, telemetry::metrics::Metrics,
    tenant::agents::AgentRecords,
};

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const SHORT: Patience =
    Patience { caller: CallerId::BRIDGE, wait: Duration::from_millis(50), start_by: None };

fn hosts(is_adaptive: bool) -> Hosts {
    Hosts::new(HostLimit { requests: ONE, is_adaptive })
}

/// The limits of a tenant whose gateway has an address at each of these hosts.
fn at(hosts: &Hosts, names: &[&str]) -> Admission {
    let two = NonZeroUsize::new(2).expect("not zero");
    let pool = |share| Pool::new(share, two);
    Admission {
        server: [pool(Share::ServerCalls), pool(Share::ServerCalls)],
        calls: pool(Share::TenantCalls),
        callers: CallerParts::new(),
        requests: Places::new(Share::TenantRequests, two),
        batches: Places::in_order(Share::TenantRequests, NonZeroUsize::MIN),
        hosts: names.iter().map(|name| hosts.host(name)).collect(),
        number: 1,
        open: TaskTracker::new(),
    }
}

fn repeats() -> Repeats {
    Repeats::of_test(Metrics::new(&[], &[]).tenants.of("acme"))
}

async fn turn() -> Turn {
    let agent = crate::id::AgentId::parse("1001", &DEFAULT_AGENT_IDS).expect("an id");
    Arc::new(AgentRecords::of_test(8, 8)).turn(agent, None).await.expect("a turn")
}

/// The hosts of which a place is taken.
fn taken(hosts: &Hosts) -> Vec<String> {
    let taken = hosts.usage().into_iter().filter(|host| host.places.taken > 0);
    let mut taken: Vec<_> = taken.map(|host| host.host).collect();
    taken.sort();
    taken
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_to_another_host_takes_its_place_with_it() {
    let hosts = hosts(false);
    let (admission, mut turn) = (at(&hosts, &["a", "b", "a"]), turn().await);
    let repeats = repeats();
    let mut request = admission.request(0, SHORT).await.expect("a place");
    assert_eq!(taken(&hosts), ["a"]);
    let mut seat = admission.seat(Some(&mut request), &mut turn, (SHORT, &repeats));
    for (address, host) in [(0, "a"), (1, "b"), (0, "a"), (2, "a"), (1, "b"), (2, "a")] {
        assert!(seat.move_to(address).await.is_ok(), "to {address}");
        assert_eq!(taken(&hosts), [host]);
    }
    assert!(seat.move_to(7).await.is_ok(), "there is no such host, so none has a limit");
    drop(request);
    assert!(taken(&hosts).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_found_no_place_at_the_next_host_holds_none_and_may_return() {
    let hosts = hosts(false);
    let (admission, mut turn) = (at(&hosts, &["a", "b"]), turn().await);
    let repeats = repeats();
    let mut request = admission.request(0, SHORT).await.expect("a place");
    let other = admission.request(1, SHORT).await.expect("a place");
    let mut seat = admission.seat(Some(&mut request), &mut turn, (SHORT, &repeats));
    let error = seat.move_to(1).await.expect_err("it is taken");
    let share = Share::HostRequests;
    assert!(matches!(error, Obstacle::Overloaded { share: s, limit: ONE } if s == share));
    assert_eq!(taken(&hosts), ["b"]);
    assert!(seat.move_to(0).await.is_ok());
    assert_eq!(taken(&hosts), ["a", "b"]);
    drop(other);
}

#[test]
fn calls_that_have_no_place_among_the_requests_wait_for_one() {
    let used = |resource, taken| Usage { resource, limit: 9, taken };
    let waiting = |calls, requests| {
        let calls = used(Resource::Share(Share::TenantCalls), calls);
        let requests = used(Resource::Share(Share::TenantRequests), requests);
        let (watches, sessions) = (requests, requests);
        let batches = used(Resource::BatchRequests, 0);
        TenantUsage { calls, requests, watches, batches, sessions }.waiting_calls()
    };
    assert_eq!((waiting(7, 3), waiting(3, 3)), (4, 0));
    assert_eq!(waiting(0, 2), 0, "the bridge makes requests, too");
}

#[test]
fn each_resource_has_a_name_of_its_own() {
    let names = [
        (Resource::Share(Share::TenantCalls), Share::TenantCalls.as_str()),
        (Resource::BatchRequests, "batch_requests"),
        (Resource::Connections, "connections"),
        (Resource::Handshakes, "handshakes"),
        (Resource::LingeringConnections, "lingering_connections"),
        (Resource::UnreadAnswers, "unread_answers"),
        (Resource::HealthWatches, "health_watches"),
    ];
    for (resource, name) in names {
        assert_eq!((resource.as_str(), resource.to_string().as_str()), (name, name));
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_is_held_against_the_agents_turn() {
    let hosts = hosts(false);
    let (admission, mut turn) = (at(&hosts, &["a"]), turn().await);
    let repeats = repeats();
    assert!(turn.take_closing().is_none());
    let mut seat = admission.seat(None, &mut turn, (SHORT, &repeats));
    assert!(seat.move_to(7).await.is_ok(), "it has no place to move");
    seat.given_up(Closing::of(std::future::pending()));
    assert!(turn.take_closing().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_has_too_much_to_do_gets_fewer_requests_if_that_is_wanted_also_over_a_reload() {
    for (is_adaptive, expected) in [(true, 32), (false, 64)] {
        let requests = NonZeroUsize::new(64).expect("not zero");
        let hosts = Hosts::new(HostLimit { requests, is_adaptive });
        let before = at(&hosts, &["a"]);
        let mut taken = Vec::new();
        while let Some(place) = before.hosts[0].places.take_now() {
            taken.push(place);
        }
        assert!(before.hosts[0].take(SHORT).now_or_never().is_none(), "it waits");
        for _ in 0..200 {
            before.hosts[0].note(0, 0, Sample::TooMuch);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        before.hosts[0].note(0, 0, Sample::TooMuch);
        let usage = hosts.usage();
        let after = at(&hosts, &["a"]);
        assert_eq!((usage[0].places.limit, usage[0].ceiling), (expected, 64));
        assert_eq!(after.hosts[0].places.limit(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_to_start_before_it_gets_a_place_counts_as_one_without() {
    let hosts = hosts(false);
    let admission = at(&hosts, &["a"]);
    let place = admission.hosts[0].take(SHORT).await.expect("a place");
    let until = Instant::now() + SHORT.wait / 2;
    assert!(timeout_at(until, admission.hosts[0].take(SHORT)).await.is_err(), "too late");
    assert!(admission.hosts[0].take(SHORT).await.is_err(), "it has waited");
    drop(place);
    admission.hosts[0].take(SHORT).await.expect("a place");
    assert_eq!(hosts.usage()[0].refused, 2);
}
