//! Events that replicas tell each other.

use std::{num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use ccgateway_test_support::RedisServer;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    linking::leading,
    world::{agent, ask, shared, store_config, tenant},
};
use crate::{
    cluster::{RedisEvents, Shared, StreamRelay},
    config,
    event::{
        Agents, Event, Events, Fetched, GatewayEvent, News, Relay as _, Watch, What, sequence,
    },
    telemetry::log::captured::Captured,
};

fn event(name: &str) -> What {
    let (kind, work_no) = (name.into(), "1001".into());
    What::Gateway(GatewayEvent { kind, work_no, content: None, generated_at: None })
}

fn name(event: &Event) -> &str {
    match &event.what {
        What::Gateway(event) => &event.kind,
        What::Session(_) => "",
    }
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(name).collect()
}

/// The latest events, and up to which number some may be missing.
async fn latest(events: &RedisEvents, count: usize) -> (Option<u64>, Vec<Event>) {
    match events.latest(count).await.expect("read") {
        News::Told(latest) | News::Missed(latest) => (None, latest),
        News::Cut { gone, events } => (Some(gone), events),
    }
}

/// Boxed, since a subscription's future is large.
fn soon<'a, T>(what: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(async move { timeout(Duration::from_secs(20), what).await.expect("in time") })
}

async fn add(events: &RedisEvents, name: &str, known: u64) {
    events.add(agent(1001), event(name), Instant::now(), known).await.expect("added");
}

#[tokio::test]
async fn a_stream_tells_the_latest_and_those_behind_a_number() {
    let server = RedisServer::start().await;
    let [own, other] = [1, 1].map(|key| shared(&server, &[key]).events(&tenant(), 100));
    assert_eq!(latest(&own, 9).await, (None, Vec::new()));
    for name in ["a", "b", "c"] {
        add(&own, name, 0).await;
    }
    let (gone, all) = latest(&other, 9).await;
    assert_eq!(gone, Some(all[0].sequence - 1));
    assert_eq!(names(&all), ["a", "b", "c"]);
    assert!(all.is_sorted_by_key(|event| event.sequence));
    assert_eq!(all[0].agent, agent(1001));
    assert_eq!(names(&latest(&other, 2).await.1), ["b", "c"]);

    // The first word of a subscription is that something may have been missed.
    let News::Missed(missed) = soon(other.next()).await.expect("read") else {
        panic!("told, not missed");
    };
    assert_eq!(names(&missed), ["a", "b", "c"], "of the last minute");
    assert!(matches!(missed[0].fetched, Fetched::Unknown));
    let asked = Instant::now();
    add(&own, "d", 0).await;
    let News::Told(told) = soon(other.next()).await.expect("heard") else { panic!("missed") };
    assert_eq!(names(&told), ["d"]);
    let Fetched::ElsewhereBy(by) = told[0].fetched else { panic!("{told:?}") };
    assert!(by >= asked && by <= Instant::now(), "{by:?}");
}

#[tokio::test]
async fn an_event_of_ones_own_is_known_for_when_it_was_fetched() {
    let server = RedisServer::start().await;
    let own = shared(&server, &[1]).events(&tenant(), 100);
    let News::Missed(_) = soon(own.next()).await.expect("read") else { panic!("told") };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let fetched = Instant::now();
    own.add(agent(1001), event("a"), fetched, 0).await.expect("added");
    let News::Told(told) = soon(own.next()).await.expect("heard") else { panic!("missed") };
    let Fetched::Here(at) = told[0].fetched else { panic!("{told:?}") };
    assert!(fetched.saturating_duration_since(at) < Duration::from_millis(1));
    assert!(at.saturating_duration_since(fetched) < Duration::from_millis(1));
}

#[tokio::test]
async fn a_redis_whose_clock_is_behind_is_told_which_number_comes_next() {
    let server = RedisServer::start().await;
    let own = shared(&server, &[1]).events(&tenant(), 100);
    add(&own, "a", 0).await;
    let first = latest(&own, 1).await.1[0].sequence;
    let ahead = first + (3_600_000 << 20) + 5;
    add(&own, "b", ahead).await;
    assert_eq!(latest(&own, 1).await.1[0].sequence, ahead + 1);
    // One that knows better does not go back.
    add(&own, "c", first).await;
    assert!(latest(&own, 1).await.1[0].sequence > ahead + 1);
}

#[tokio::test]
async fn more_events_than_one_round_trip_reads_are_all_read() {
    let server = RedisServer::start().await;
    let own = shared(&server, &[1]).events(&tenant(), 2000);
    for _ in 0..600 {
        add(&own, "a", 0).await;
    }
    let other = shared(&server, &[1]).events(&tenant(), 2000);
    let News::Missed(missed) = soon(other.next()).await.expect("read") else { panic!("told") };
    assert_eq!(missed.len(), 600);
}

/// A replica's events, and what tells them.
struct Told {
    events: Arc<Events>,
    relay: StreamRelay,
    work: JoinHandle<()>,
}

impl Told {
    async fn by(server: &RedisServer) -> Self {
        Self::of(&shared(server, &[1])).await
    }

    async fn of(shared: &Shared) -> Self {
        let kept = NonZeroUsize::new(100).expect("not zero");
        let kept_bytes = NonZeroUsize::new(1 << 20).expect("not zero");
        let limits = config::Events { kept, kept_bytes, watches: kept };
        let events = Arc::new(Events::numbered_elsewhere(limits));
        let stream = shared.events(&tenant(), kept.get());
        let (relay, work) = StreamRelay::new(stream, events.clone(), kept.get());
        let work = tokio::spawn(work);
        soon(relay.ready()).await;
        Self { events, relay, work }
    }

    fn tells(&self, name: &str) {
        self.relay.publish(agent(1001), event(name), Instant::now()).expect("there is room");
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn next(watch: &mut Watch) -> String {
    name(soon(watch.more()).await.events.first().expect("an event")).to_owned()
}

#[tokio::test]
async fn what_was_told_before_is_known_and_what_is_told_is_heard_here_and_there() {
    let log = Captured::start();
    let server = RedisServer::start().await;
    let left = Told::by(&server).await;
    let mut own = left.events.watch(Agents::All, None);
    left.tells("a");
    assert_eq!(next(&mut own).await, "a");
    let right = Told::by(&server).await;
    assert_eq!(right.events.newest(), left.events.newest(), "it has read what came before");
    let mut read = right.events.watch(Agents::All, Some(left.events.newest() - 1));
    assert_eq!(next(&mut read).await, "a");
    let mut others = right.events.watch(Agents::All, Some(0));
    assert!(soon(others.more()).await.missed.is_some(), "what may have been before that");
    let mut others = right.events.watch(Agents::All, None);
    left.tells("b");
    assert_eq!(next(&mut others).await, "b");
    assert!(log.with("the store has lost its events").is_empty());
}

#[tokio::test]
async fn without_redis_events_are_told_here_alone() {
    let mut server = RedisServer::start().await;
    let left = Told::by(&server).await;
    let mut own = left.events.watch(Agents::All, None);
    server.kill().await;
    left.tells("a");
    assert_eq!(next(&mut own).await, "a");
}

/// Waits until this event is told. Returns its number.
async fn told(watch: &mut Watch, awaited: &str) -> u64 {
    loop {
        let events = soon(watch.more()).await.events;
        if let Some(event) = events.iter().find(|event| name(event) == awaited) {
            return event.sequence;
        }
    }
}

#[tokio::test]
async fn an_event_whose_message_is_lost_is_read_from_the_server_that_has_taken_it() {
    let (former, new) = (RedisServer::start().await, RedisServer::start().await);
    let (lead, to) = watch::channel(former.port());
    let (port, _leading) = leading(to).await;
    let left = Told::of(&Shared::new(&store_config(port, &[1]))).await;
    let mut own = left.events.watch(Agents::All, None);
    left.tells("a");
    told(&mut own, "a").await;
    // From now on commands go to another server, and messages come from the former one.
    lead.send_replace(new.port());
    let _: u64 = ask(&former, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    left.tells("b");
    told(&mut own, "b").await;
    soon(left.relay.told()).await;
    left.tells("c");
    let told = told(&mut own, "c").await;
    let last = "return redis.call('XREVRANGE', 'test:{acme}:events', '+', '-', 'COUNT', 1)[1][1]";
    let last: String = ask(&new, &["EVAL", last, "0"]).await;
    let (millisecond, nth) = last.split_once('-').expect("an id");
    let number = sequence(millisecond.parse().expect("a time"), nth.parse().expect("a number"));
    assert_eq!(told, number, "all replicas know it by the same number");
}

#[tokio::test]
async fn whoever_waits_until_events_are_told_waits_for_a_redis_that_is_away() {
    let server = RedisServer::start().await;
    let left = Told::by(&server).await;
    soon(left.relay.told()).await;
    left.tells("a");
    soon(left.relay.told()).await;
    let count = async || -> u64 { ask(&server, &["XLEN", "test:{acme}:events"]).await };
    assert_eq!(count().await, 1);
    server.freeze();
    left.tells("b");
    assert!(timeout(Duration::from_millis(300), left.relay.told()).await.is_err());
    server.thaw();
    soon(left.relay.told()).await;
    assert_eq!(count().await, 2);
}
