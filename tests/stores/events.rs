//! Events that replicas send each other: when they were fetched, and a Redis that restarts its numbers.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ccgateway_bridge::{
    cluster::{RedisEvents, StreamRelay},
    config::{self, Redis, Topology},
    event::{
        Agents, Event, Events, GatewayEvent, Relay as _, SessionChange, Watch, What, sequence,
    },
    session::{SessionState, SharedStores as _},
};
use ccgateway_test_support::{RedisServer, until_asked, within};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    support::{Replica, agent, eventually, redis, tenant},
    topologies::ask,
};

/// A replica's events, and what tells them.
struct Told {
    events: Arc<Events>,
    relay: StreamRelay,
    work: JoinHandle<()>,
    /// Its link goes with it.
    replica: Replica,
}

impl Told {
    async fn by(server: &RedisServer) -> Self {
        Self::keeping(server, 100).await
    }

    async fn keeping(server: &RedisServer, kept: usize) -> Self {
        let replica = Replica::of(server);
        let kept = NonZeroUsize::new(kept).expect("not zero");
        let kept_bytes = NonZeroUsize::new(1 << 20).expect("not zero");
        let limits = config::Events { kept, kept_bytes, watches: kept };
        let events = Arc::new(Events::numbered_elsewhere(limits));
        let stream = replica.shared.events(&tenant(), kept.get());
        let (relay, work) = StreamRelay::new(stream, events.clone(), kept.get());
        let work = tokio::spawn(work);
        relay.ready().await;
        Self { events, relay, work, replica }
    }

    fn watch(&self) -> Watch {
        self.events.watch(Agents::All, None)
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

/// The next `count` events.
async fn next(watch: &mut Watch, count: usize) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    while events.len() < count {
        let more = timeout(Duration::from_secs(20), watch.more()).await;
        events.extend(more.expect("an event").events);
    }
    events
}

/// Waits until two replicas hear what either tells, and know the last of it by the same number.
async fn are_together(left: &Told, right: &Told) {
    let newest = || [left.events.newest(), right.events.newest()];
    let before = newest();
    for turn in 0..500 {
        for told in [left, right] {
            let (state, cause) = (SessionState::Kept, format!("{turn}").into());
            let change = What::Session(SessionChange { state, cause });
            told.relay.publish(agent(1002), change, Instant::now()).expect("there is room");
            sleep(Duration::from_millis(20)).await;
        }
        let [left, right] = newest();
        if left == right && left > before[0].max(before[1]) {
            return;
        }
    }
    panic!("they hear nothing of each other, or not the same: {:?}", newest());
}

#[tokio::test]
async fn an_event_that_waited_for_redis_counts_from_when_it_was_fetched() {
    let server = RedisServer::start().await;
    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let (mut own, mut other) = (left.watch(), right.watch());
    server.freeze();
    left.tells("on its way");
    left.tells("in the queue");
    sleep(Duration::from_millis(300)).await;
    // Here a caller asks for a change.
    let asked = left.events.moment();
    let asked_elsewhere = right.events.moment();
    server.thaw();
    for event in next(&mut own, 2).await {
        assert!(!asked.is_before(&event), "{event:?} is older than {asked:?}");
        assert!(event.sequence > asked.newest, "its number does not say so");
    }
    let heard = next(&mut other, 2).await;
    assert_eq!(name(&heard[1]), "in the queue");
    assert!(!asked_elsewhere.may_be_before(&heard[1]), "{heard:?}");

    let asked = (left.events.moment(), right.events.moment());
    left.tells("later");
    assert!(asked.0.is_before(&next(&mut own, 1).await[0]));
    let later = &next(&mut other, 1).await[0];
    assert!(asked.1.may_be_before(later) && !asked.1.is_before(later), "{later:?}");
}

/// After a fail-over: what the former master knew is lost, and its clock was ahead.
#[tokio::test]
async fn a_redis_that_has_lost_its_events_and_whose_clock_is_behind_loses_no_new_ones() {
    let server = RedisServer::start().await;
    // Redis uses the number that the bridge says comes next, if its own clock is behind that.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let now = u64::try_from(now.as_millis()).expect("a time");
    let former = Replica::of(&server).shared.events(&tenant(), 100);
    let known = sequence(now + 3_600_000, 0);
    former.add(agent(1001), event("before"), Instant::now(), known).await.expect("added");

    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let before = left.events.newest();
    let flush = ::redis::cmd("FLUSHALL");
    let _: () = flush.query_async(&mut server.connection().await).await.expect("flushed");
    let (mut left_watch, mut right_watch) = (left.watch(), right.watch());
    left.tells("first");
    right.tells("second");
    for watch in [&mut left_watch, &mut right_watch] {
        let mut names: Vec<_> = next(watch, 2).await.iter().map(|e| name(e).to_owned()).collect();
        names.sort();
        assert_eq!(names, ["first", "second"]);
    }
    assert!(left.events.newest() > before);

    // One that knows nothing of before numbers as Redis does.
    let _: () = flush.query_async(&mut server.connection().await).await.expect("flushed");
    let new = Told::by(&server).await;
    new.tells("third");
    for watch in [&mut left_watch, &mut right_watch] {
        assert_eq!(name(&next(watch, 1).await[0]), "third");
    }
}

/// The names of the next `count` events of the gateway.
async fn names(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        let events = next(watch, 1).await;
        names.extend(events.iter().map(|e| name(e).to_owned()).filter(|name| !name.is_empty()));
    }
    names
}

#[tokio::test]
async fn an_event_that_redis_takes_after_its_replica_has_given_up_is_told_everywhere_and_once() {
    let server = RedisServer::start().await;
    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let (mut own, mut other) = (left.watch(), right.watch());
    server.freeze();
    left.tells("late");
    assert_eq!(names(&mut own, 1).await, ["late"], "its own watchers do not wait for Redis");
    server.thaw();
    are_together(&left, &right).await;
    assert_eq!(names(&mut other, 1).await, ["late"]);
    left.tells("later");
    assert_eq!(names(&mut own, 1).await, ["later"]);
    assert_eq!(names(&mut other, 1).await, ["later"]);
    for replica in [&left, &right] {
        let counts = replica.replica.shared.view().disbelieved;
        assert!(counts.iter().all(|(_, count)| *count == 0), "{counts:?}");
    }
}

/// Whether a watch of the second of two replicas hears that it has missed something, if this happens while
/// messages do not reach that replica.
async fn misses(happens: impl AsyncFn(&RedisServer, &RedisEvents)) -> bool {
    let server = RedisServer::start().await;
    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let mut watch = right.watch();
    let stream = Replica::of(&server);
    let stream = stream.shared.events(&tenant(), 100);
    let _: () = ask(&server, &["ACL", "SETUSER", "default", "-subscribe"]).await;
    let _: u64 = ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    happens(&server, &stream).await;
    let _: () = ask(&server, &["ACL", "SETUSER", "default", "+subscribe"]).await;
    let told = async {
        loop {
            let known = watch.more().await;
            if known.missed.is_some() {
                return true;
            }
            if known.events.iter().any(|event| name(event) == "last") {
                return false;
            }
        }
    };
    let telling = async {
        are_together(&left, &right).await;
        left.tells("last");
        std::future::pending::<()>().await;
    };
    let told = async {
        tokio::select! { told = told => told, () = telling => false }
    };
    within("the last event", told).await
}

async fn add_junk(server: &RedisServer, count: usize) {
    let mut junk = ::redis::pipe();
    for _ in 0..count {
        junk.cmd("XADD").arg("test:{acme}:events").arg("*").arg("sealed").arg("junk").ignore();
    }
    let _: () = junk.query_async(&mut server.connection().await).await.expect("added");
}

#[tokio::test]
async fn who_watches_hears_that_events_are_missing_which_redis_no_longer_has_or_which_are_too_many()
{
    let missed = misses(async |_, stream| {
        stream.add(agent(1001), event("a"), Instant::now(), 0).await.expect("added");
    });
    assert!(!missed.await, "nothing is missing");
    let missed = misses(async |_, stream| {
        for _ in 0..500 {
            stream.add(agent(1001), event("a"), Instant::now(), 0).await.expect("added");
        }
    });
    assert!(missed.await, "Redis keeps some hundred of them");
    let missed = misses(async |server, stream| {
        stream.add(agent(1001), event("a"), Instant::now(), 0).await.expect("added");
        add_junk(server, 500).await;
        stream.add(agent(1001), event("b"), Instant::now(), 0).await.expect("added");
    });
    assert!(missed.await, "Redis has dropped one for what somebody else has added");
    let missed = misses(async |server, _| add_junk(server, 3000).await);
    assert!(missed.await, "there may be some behind so much of somebody else's");
}

#[tokio::test]
async fn who_watches_hears_that_events_are_missing_which_redis_has_lost() {
    let missed = misses(async |server, stream| {
        stream.add(agent(1001), event("a"), Instant::now(), 0).await.expect("added");
        let _: () = ask(server, &["FLUSHALL"]).await;
    });
    assert!(missed.await, "Redis has come back empty");
    let missed = misses(async |server, stream| {
        let _: () = ask(server, &["EVAL", LOSE_THE_LATEST, "0"]).await;
        stream.add(agent(1001), event("a"), Instant::now(), 0).await.expect("added");
    });
    assert!(missed.await, "it has come back without the latest ones");
}

/// As a fail-over to a replica does which had not got them yet.
const LOSE_THE_LATEST: &str = "
local latest = redis.call('XREVRANGE', 'test:{acme}:events', '+', '-', 'COUNT', 1)
redis.call('XDEL', 'test:{acme}:events', latest[1][1])
return 'OK'
";

async fn takes_writes(server: &RedisServer, does: bool) {
    let bytes = if does { "0" } else { "1" };
    let _: () = ask(server, &["CONFIG", "SET", "maxmemory", bytes]).await;
}

/// Waits until a watch is told that events are missing.
async fn gap(watch: &mut Watch) {
    let told = async { while watch.more().await.missed.is_none() {} };
    within("a gap", told).await;
}

#[tokio::test]
async fn events_that_one_replica_has_told_alone_are_a_gap_wherever_their_watchers_come_from() {
    let server = RedisServer::start().await;
    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let before = left.events.newest();
    let mut watches = [left.watch(), right.watch()];
    takes_writes(&server, false).await;
    left.tells("of the left one");
    right.tells("of the right one");
    assert_eq!(names(&mut watches[0], 1).await, ["of the left one"]);
    assert_eq!(names(&mut watches[1], 1).await, ["of the right one"]);
    // Both come after the same number, and either may be the higher one.
    let numbers = [&left, &right].map(|replica| replica.events.newest());
    let mut crossed = right.events.watch(Agents::All, Some(numbers[0]));
    let batch = within("what is known", crossed.more()).await;
    assert!(batch.missed.is_some(), "it has read {numbers:?} after {before}: {batch:?}");

    takes_writes(&server, true).await;
    for watch in &mut watches {
        gap(watch).await;
    }
    // Nothing else was told since, and whoever comes with a number from before has missed something too.
    for replica in [&left, &right] {
        gap(&mut replica.events.watch(Agents::All, Some(before))).await;
    }
    are_together(&left, &right).await;
    left.tells("later");
    let mut crossed = right.events.watch(Agents::All, Some(left.events.newest()));
    let is_whole = async {
        loop {
            let batch = crossed.more().await;
            if batch.missed.is_some() || batch.events.iter().any(|event| name(event) == "later") {
                return batch.missed.is_none();
            }
        }
    };
    assert!(within("an event", is_whole).await, "both have told the same since");
}

#[tokio::test]
async fn an_event_that_redis_refuses_is_not_told_before_one_that_is_on_its_way() {
    let server = RedisServer::start().await;
    let (left, right) = (Told::by(&server).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let mut own = left.watch();
    let _: () = ask(&server, &["ACL", "SETUSER", "default", "-subscribe"]).await;
    let _: u64 = ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let count = async || -> u64 { ask(&server, &["XLEN", "test:{acme}:events"]).await };
    let before = count().await;
    left.tells("taken");
    until_asked("it to be taken", async || count().await > before).await;
    takes_writes(&server, false).await;
    left.tells("refused");
    assert_eq!(names(&mut own, 2).await, ["taken", "refused"]);
    takes_writes(&server, true).await;
    let _: () = ask(&server, &["ACL", "SETUSER", "default", "+subscribe"]).await;
    are_together(&left, &right).await;
    left.tells("later");
    assert_eq!(names(&mut own, 1).await, ["later"], "it is told once");
}

/// A user who may add events and publish none of them.
async fn may_publish(server: &RedisServer, may: bool) {
    let channels = if may { "allchannels" } else { "resetchannels" };
    let words = ["ACL", "SETUSER", "mute", "on", ">mute", "~*", "+@all", channels];
    let _: () = ask(server, &words).await;
}

#[tokio::test]
async fn an_event_whose_message_was_lost_is_told_before_the_next_one() {
    let server = RedisServer::start().await;
    let right = Told::by(&server).await;
    may_publish(&server, true).await;
    let user = Redis {
        username: Some("mute".into()),
        password: Some("mute".into()),
        ..redis(Topology::Standalone, &[server.port()])
    };
    let stream = Replica::with(user, &[1]).shared.events(&tenant(), 100);
    let add = async |name| stream.add(agent(1001), event(name), Instant::now(), 0).await;
    add("first").await.expect("added");
    eventually("it to be heard", || right.events.newest() > 0).await;
    let mut watch = right.watch();
    may_publish(&server, false).await;
    add("unheard").await.expect_err("it is not published");
    may_publish(&server, true).await;
    add("heard").await.expect("added");
    let mut told = Vec::new();
    while told.len() < 2 {
        let batch = within("an event", watch.more()).await;
        assert_eq!(batch.missed, None);
        told.extend(batch.events.iter().map(|event| name(event).to_owned()));
    }
    assert_eq!(told, ["unheard", "heard"]);
}

#[tokio::test]
async fn a_replica_that_starts_without_redis_does_not_tell_what_came_before() {
    let server = RedisServer::start().await;
    let left = Told::by(&server).await;
    let mut own = left.watch();
    left.tells("old");
    assert_eq!(names(&mut own, 1).await, ["old"]);
    server.freeze();
    let right = Told::by(&server).await;
    let mut watch = right.watch();
    assert!(watch.position() > left.events.newest(), "numbers are of the present time");
    right.tells("alone");
    assert_eq!(names(&mut watch, 1).await, ["alone"]);
    server.thaw();
    are_together(&left, &right).await;
    left.tells("new");
    let told = names(&mut watch, 1).await;
    assert_eq!(told, ["new"]);
}

/// Whether each event has the number after that of the one before, or a gap is told between them.
async fn is_in_order(mut watch: Watch) -> bool {
    let mut last = None::<u32>;
    loop {
        let batch = watch.more().await;
        last = last.filter(|_| batch.missed.is_none());
        for event in &batch.events {
            let Ok(number) = name(event).parse() else {
                if name(event) == "last" {
                    return true;
                }
                continue;
            };
            if last.is_some_and(|last| last + 1 != number) {
                return false;
            }
            last = Some(number);
        }
    }
}

#[tokio::test]
async fn of_more_events_than_can_wait_for_redis_the_first_are_told_and_a_gap() {
    let server = RedisServer::start().await;
    let (left, right) = (Told::keeping(&server, 20_000).await, Told::by(&server).await);
    are_together(&left, &right).await;
    let watches = [&left, &right].map(Told::watch);
    server.freeze();
    for number in 0..6_000 {
        left.tells(&number.to_string());
    }
    server.thaw();
    let telling = async {
        are_together(&left, &right).await;
        left.tells("last");
        std::future::pending::<()>().await;
    };
    let [own, other] = watches.map(is_in_order);
    let told = async { tokio::join!(own, other) };
    let told = async {
        tokio::select! { told = told => told, () = telling => (false, false) }
    };
    assert_eq!(Box::pin(within("the last event", told)).await, (true, true));
}
