use tokio::time::advance;

use super::*;
use crate::{
    call::{CallError, Stage},
    config::{Breaker as Settings, ClientTls, Trust},
    gateway::connector::Connector,
    resolver::Resolver,
    tls,
};

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings =
    Settings { failures: 3, pause: SECOND, pause_max: Duration::from_secs(8) };
const NONE: Tried = Tried(0);

/// Addresses that nobody connects to.
fn route(count: u32) -> Route {
    let any = ClientTls { trust: Trust::Anything, client: None };
    let endpoints = (0..count).map(|number| {
        let tls = tls::client_config(&any).expect("TLS");
        let connector = Connector::new(tls, SECOND, &any.trust, Resolver::default());
        let url = format!("https://gateway-{number}.example/x").parse().expect("a URL");
        Endpoint::new(&url, connector, SECOND).expect("a host")
    });
    let tenant = TenantId::parse("acme").expect("a name");
    Route::new(tenant, endpoints, SETTINGS)
}

fn agent(number: u32) -> AgentId {
    AgentId::lowest(&(number..=number))
}

impl Route {
    fn picked(&self, tried: Tried) -> Option<usize> {
        self.pick(agent(1), tried, LastResort::InTurn).map(|pick| pick.index)
    }

    fn note_at(&self, index: usize, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.note(self.addresses[index].pick(index), *outcome);
        }
    }

    fn trip(&self, index: usize) {
        self.note_at(index, &[Outcome::Unreached; 3]);
    }

    fn is_tripped(&self, index: usize) -> bool {
        self.views()[index].state == AddressState::Tripped
    }
}

fn tried(indexes: &[usize]) -> Tried {
    let mut tried = Tried::default();
    for index in indexes {
        tried.add(*index);
    }
    tried
}

#[tokio::test(start_paused = true)]
async fn requests_go_to_the_first_address_that_is_good_and_was_not_tried() {
    let route = route(3);
    assert_eq!((route.picked(NONE), route.preferred()), (Some(0), 0));
    for (before, next) in [
        (&[0][..], Some(1)),
        (&[0, 0], Some(1)),
        (&[1], Some(0)),
        (&[0, 1], Some(2)),
        (&[0, 1, 2], None),
    ] {
        assert_eq!(route.picked(tried(before)), next, "{before:?}");
    }
    for (index, host) in [(1, Some("gateway-1.example")), (3, None)] {
        assert_eq!(route.endpoint(index).map(ToString::to_string).as_deref(), host);
    }
    assert!(tried(&[2]).is_any() && !NONE.is_any());
    route.trip(0);
    assert_eq!((route.picked(NONE), route.preferred()), (Some(1), 1));
    route.trip(1);
    assert_eq!((route.picked(NONE), route.preferred()), (Some(2), 2));
    let views = route.views();
    assert_eq!(views.iter().position(|view| view.in_use), Some(2));
    assert!(route.is_tripped(0) && route.is_tripped(1) && !route.is_tripped(2));
}

#[tokio::test(start_paused = true)]
async fn all_agents_are_at_the_first_address_unless_it_has_tripped_not_long_ago() {
    let [alone, stable, moved] = [1, 2, 2].map(route);
    alone.trip(0);
    assert!(alone.is_at_first(), "there is no other");
    stable.trip(1);
    assert!(stable.is_at_first(), "whatever becomes of the second");
    moved.trip(0);
    assert!(!moved.is_at_first());
    advance(Duration::from_secs(60)).await;
    moved.note_at(0, &[Outcome::Answered; 3]);
    assert!(!moved.is_at_first(), "only a part of them");
    advance(SECOND * WHOLE).await;
    assert!(moved.is_at_first(), "also if none has been asked since");
}

/// Where an agent of each of the [`WHOLE`] parts goes, that this is known before, and that it is the same each time.
fn places(route: &Route) -> Vec<usize> {
    let of_part =
        |part: u32| (1..1_000).map(agent).find(|agent| part_of(*agent) == part).expect("an agent");
    let pick = |agent| route.pick(agent, NONE, LastResort::InTurn).expect("an address").index;
    let agents = || (0..WHOLE).map(of_part);
    let before: Vec<_> = agents().map(|agent| route.first_for(agent)).collect();
    for _ in 0..2 {
        assert_eq!(agents().map(pick).collect::<Vec<_>>(), before);
    }
    before
}

/// How many of [`WHOLE`] agents go to each of two addresses.
fn shares(route: &Route) -> [usize; 2] {
    let places = places(route);
    [0, 1].map(|index| places.iter().filter(|place| **place == index).count())
}

#[test]
fn agents_are_in_even_parts_also_where_their_ids_are_alike() {
    for step in [1, 2, 5, 10, 100, 1000] {
        let mut counts = [0; WHOLE as usize];
        for agent in (0..1000).map(|number| agent(101 + number * step)) {
            counts[part_of(agent) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (80..=120).contains(count)), "{step}: {counts:?}");
    }
    // The hash of the second one is the highest that there is.
    for number in [u32::MAX, 4_050_964_655] {
        assert!(part_of(agent(number)) < WHOLE, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_agent_goes_once_to_an_address_that_is_good_again() {
    let route = route(2);
    route.trip(0);
    advance(Duration::from_secs(60)).await;
    route.note_at(0, &[Outcome::Answered; 3]);
    let mut before = places(&route);
    for _ in 0..10 {
        advance(SECOND).await;
        let now = places(&route);
        assert!(now.iter().zip(&before).all(|(now, before)| now <= before), "{before:?} {now:?}");
        before = now;
    }
    assert_eq!(before, [0; WHOLE as usize]);
}

/// The one that is preferred may be the later one.
#[tokio::test(start_paused = true)]
async fn each_agent_moves_once_where_all_addresses_are_good_again() {
    for lag in [0, 1, 5, 10, 30, 35].map(|tenths| tenths * SECOND / 10) {
        let route = route(2);
        route.trip(0);
        route.trip(1);
        advance(Duration::from_secs(60)).await;
        route.note_at(1, &[Outcome::Answered; 3]);
        let mut before = places(&route);
        assert_eq!((&*before, route.preferred()), (&[1; WHOLE as usize][..], 1));
        advance(lag).await;
        route.note_at(0, &[Outcome::Answered; 3]);
        for _ in 0..30 {
            let now = places(&route);
            assert!(now.iter().zip(&before).all(|(now, before)| now <= before), "{now:?}");
            assert_eq!(route.preferred(), now[WHOLE as usize / 2], "most go there: {now:?}");
            before = now;
            advance(SECOND / 2).await;
        }
        assert_eq!(before, [0; WHOLE as usize], "{lag:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_good_again_gets_more_and_more_until_it_is_preferred() {
    let route = route(2);
    route.trip(0);
    advance(Duration::from_secs(60)).await;
    assert_eq!(shares(&route), [0, 10], "no time makes it good");
    route.note_at(0, &[Outcome::Answered; 3]);
    assert_eq!(route.views()[0].state, AddressState::Good);
    for pauses in 0..10 {
        let part = pauses.max(1);
        assert_eq!(shares(&route), [part, 10 - part]);
        assert_eq!(route.preferred(), usize::from(part <= 5), "{part}");
        advance(SECOND).await;
    }
    assert_eq!((shares(&route), route.preferred()), ([10, 0], 0));
    // One that gets a part is better than none.
    route.trip(0);
    advance(Duration::from_secs(60)).await;
    route.note_at(0, &[Outcome::Answered; 3]);
    route.trip(1);
    assert_eq!((shares(&route), route.preferred()), ([10, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn sign_ins_that_fail_together_trip_no_address_that_has_answered_anything_meanwhile() {
    for (answered, is_tripped) in
        [(None, true), (Some(Outcome::Alive), false), (Some(Outcome::Answered), false)]
    {
        let route = route(2);
        let begun = [1, 2, 3].map(|number| (route.addresses[0].pick(0), agent(number)));
        route.note_at(0, answered.as_slice());
        for (pick, agent) in begun {
            route.note(pick, Outcome::Ailing(agent));
        }
        assert_eq!(route.is_tripped(0), is_tripped, "{answered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_sign_ins_trip_no_address_while_the_other_gets_only_a_part() {
    let route = route(2);
    let failed_sign_ins = [1, 2, 3].map(|number| Outcome::Ailing(agent(number)));
    route.note_at(0, &failed_sign_ins);
    assert!(route.is_tripped(0));
    advance(Duration::from_secs(60)).await;
    route.note_at(0, &[Outcome::Answered; 3]);
    for _ in 0..WHOLE {
        route.note_at(1, &failed_sign_ins);
        assert!(!route.is_tripped(1), "{:?}", shares(&route));
        advance(SECOND).await;
    }
    route.note_at(1, &failed_sign_ins);
    assert!(route.is_tripped(1), "all can go to the other one again");
}

#[tokio::test(start_paused = true)]
async fn while_all_are_tripped_few_requests_go_to_the_one_that_is_probed_next() {
    let route = route(2);
    route.trip(0);
    advance(SECOND / 2).await;
    route.trip(1);
    for _ in 0..2 {
        assert_eq!(route.first_for(agent(1)), 0, "asking takes no turn");
        assert_eq!(route.picked(NONE), Some(0), "its probe comes first");
        assert_eq!(route.picked(NONE), None, "not so soon again");
        let always = route.pick(agent(1), NONE, LastResort::Always);
        assert_eq!(always.map(|pick| pick.index), Some(0));
        advance(SECOND / LAST_RESORTS / 2).await;
        assert_eq!(route.picked(NONE), None);
        advance(SECOND / LAST_RESORTS / 2).await;
    }
    assert_eq!(route.preferred(), 0);
    // One that has answered a probe is better than one that has not.
    route.note_at(1, &[Outcome::Answered]);
    assert_eq!(route.views()[1].state, AddressState::Probing);
    assert_eq!((route.picked(NONE), route.preferred()), (Some(1), 1));

    let told = |route: &Route, before: &[usize]| {
        let mut untouched = Untouched::at_the_start();
        let retry_in = route.left_out(tried(before), &mut untouched);
        (retry_in, untouched.unreachable(retry_in).to_string())
    };
    let (retry_in, text) = told(&route, &[0]);
    assert!(text.contains("gateway-1.example") && !text.contains("gateway-0.example"), "{text}");
    assert!(retry_in.is_some_and(|time| time >= SECOND / LAST_RESORTS && time <= SECOND));
    assert_eq!(told(&route, &[0, 1]).0, None);
}

#[tokio::test(start_paused = true)]
async fn while_all_are_tripped_the_one_that_is_probed_next_may_be_a_later_one() {
    let route = route(2);
    route.trip(1);
    advance(SECOND / 2).await;
    route.trip(0);
    assert_eq!((route.picked(NONE), route.preferred()), (Some(1), 1));
}

fn reply(status: u16, body: &'static str) -> Reply {
    Reply::of(status, &[], body.as_bytes())
}

type Asked = fn() -> Result<Reply, Failure>;

fn not_sent() -> Result<Reply, Failure> {
    Err(Failure::NotSent(Untouched::at_the_start(), "no route".into()))
}

fn prevented(cause: Option<&str>) -> Result<Reply, Failure> {
    Err(Failure::Prevented(CallError::Deadline(Stage::Answer), cause.map(Into::into)))
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_request_says_something_about_its_address_or_nothing() {
    use TimeoutClass::{Poll, Request, SignIn};
    let cut = || Err(Failure::Sent("cut".into()));
    let broken = || Ok(reply(502, "<html>"));
    let too_slow = || Ok(reply(504, "<html>"));
    let too_slow_for_old_envoy = || Ok(reply(408, ""));
    // Whether three of them trip the only address, or one beside another, and whether they count as answers.
    let table: [(TimeoutClass, Asked, [bool; 2], bool); 19] = [
        (Request, not_sent, [true, true], false),
        (Poll, not_sent, [true, true], false),
        (Request, || prevented(Some("no route")), [true, true], false),
        (Request, || prevented(None), [false, false], false),
        (Request, cut, [true, true], false),
        (SignIn, cut, [false, true], false),
        (Poll, cut, [false, false], false),
        (Request, broken, [true, true], false),
        (SignIn, broken, [false, true], false),
        (Poll, broken, [false, false], false),
        (Request, too_slow, [true, true], false),
        (SignIn, too_slow, [false, true], false),
        (Poll, too_slow, [false, false], false),
        (Request, too_slow_for_old_envoy, [true, true], false),
        (SignIn, too_slow_for_old_envoy, [false, true], false),
        (Poll, too_slow_for_old_envoy, [false, false], false),
        (Request, || Ok(reply(200, r#"{"retcode":"100-006"}"#)), [false, false], true),
        (SignIn, || Ok(reply(200, r#"{"retcode":"0"}"#)), [false, false], false),
        (Request, || Ok(reply(404, "")), [false, false], true),
    ];
    for (row, (class, asked, trips, counts)) in table.into_iter().enumerate() {
        for (count, trips) in [1, 2].into_iter().zip(trips) {
            let route = route(count);
            for number in 0..3 {
                let agent = agent(number);
                let pick = route.pick(agent, NONE, LastResort::Always).expect("an address");
                route.judge(pick, (class, agent), false, &asked());
            }
            assert_eq!(route.is_tripped(0), trips, "row {row} of {count}");
            let answers = route.addresses[0].answers.load(Ordering::Relaxed);
            assert_eq!(answers, if counts { 3 } else { 0 }, "row {row}");
        }
    }
}
