//! Events that replicas send each other: when they were fetched, and a Redis that restarts its numbers.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ccgateway_bridge::{
    cluster::StreamRelay,
    config,
    event::{
        Agents, Event, Events, GatewayEvent, Relay as _, SessionChange, Watch, What, sequence,
    },
    session::SessionState,
};
use ccgateway_test_support::RedisServer;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::support::{Replica, agent, eventually, tenant};

/// A replica's events, and what tells them.
struct Told {
    events: Arc<Events>,
    relay: StreamRelay,
    work: JoinHandle<()>,
    /// Its link goes with it.
    _replica: Replica,
}

impl Told {
    async fn by(server: &RedisServer) -> Self {
        let replica = Replica::of(server);
        let kept = NonZeroUsize::new(100).expect("not zero");
        let kept_bytes = NonZeroUsize::new(1 << 20).expect("not zero");
        let limits = config::Events { kept, kept_bytes, watches: kept };
        let events = Arc::new(Events::numbered_elsewhere(limits));
        let stream = replica.shared.events(&tenant(), kept.get());
        let (relay, work) = StreamRelay::new(stream, events.clone(), kept.get());
        let work = tokio::spawn(work);
        relay.ready().await;
        Self { events, relay, work, _replica: replica }
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

/// Waits until a replica hears what the other one tells.
async fn are_together(left: &Told, right: &Told) {
    for (told, heard) in [(left, right), (right, left)] {
        let before = heard.events.newest();
        let mut turn = 0;
        while heard.events.newest() == before {
            let (state, cause) = (SessionState::Kept, format!("{turn}").into());
            let change = What::Session(SessionChange { state, cause });
            told.relay.publish(agent(1002), change, Instant::now()).expect("there is room");
            sleep(Duration::from_millis(20)).await;
            turn += 1;
        }
    }
    eventually("both to know the same", || left.events.newest() == right.events.newest()).await;
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
