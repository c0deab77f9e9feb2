use std::{
    num::NonZeroUsize,
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::*;
use crate::{
    config,
    event::{Fetched, News, SessionChange, What},
    id::DEFAULT_AGENT_IDS,
    session::SessionState,
};

const BEGIN: u64 = 1_000;

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
}

fn events(kept: usize) -> Arc<Events> {
    let kept = NonZeroUsize::new(kept).unwrap();
    let kept_bytes = NonZeroUsize::new(1 << 20).unwrap();
    let limits = config::Events { kept, kept_bytes, watches: kept };
    Arc::new(Events::beginning(BEGIN, false, limits))
}

fn shared(kept: usize) -> Arc<Events> {
    let kept = NonZeroUsize::new(kept).unwrap();
    let kept_bytes = NonZeroUsize::new(1 << 20).unwrap();
    let limits = config::Events { kept, kept_bytes, watches: kept };
    Arc::new(Events::beginning(BEGIN, true, limits))
}

fn publish(events: &Events, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        let change = SessionChange { state: SessionState::Kept, cause: "".into() };
        events.publish(agent(id), What::Session(change), Instant::now());
    }
}

fn store_event(sequence: u64) -> Event {
    let change = SessionChange { state: SessionState::Kept, cause: "".into() };
    let (received_at, what) = (std::time::SystemTime::now(), What::Session(change));
    Event { sequence, received_at, agent: agent(101), what, fetched: Fetched::Unknown }
}

fn publish_here(events: &Events, id: u32) {
    let change = SessionChange { state: SessionState::Kept, cause: "".into() };
    events.publish_here(agent(id), What::Session(change), Instant::now());
}

fn sequences(batch: &Batch) -> Vec<u64> {
    batch.events.iter().map(|event| event.sequence).collect()
}

#[tokio::test]
async fn a_watch_reads_what_comes_after_it_in_order() {
    let events = events(8);
    publish(&events, [101]);
    let mut watch = events.watch(Agents::All, None);
    publish(&events, [102, 103]);
    assert_eq!(sequences(&watch.more().await), [1_001, 1_002]);

    let mut one = events.watch(Agents::These([agent(103)].into()), Some(BEGIN - 1));
    assert_eq!(sequences(&one.more().await), [1_002]);
    assert_eq!(one.position(), 1_002);
}

#[tokio::test]
async fn a_watch_waits_for_events_of_its_agents() {
    let events = events(8);
    let mut watch = events.watch(Agents::These([agent(102)].into()), None);
    let reading = tokio::spawn(async move { sequences(&watch.more().await) });
    publish(&events, [101]);
    tokio::task::yield_now().await;
    assert!(!reading.is_finished());
    publish(&events, [102]);
    assert_eq!(reading.await.unwrap(), [1_001]);
}

/// How often a task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Lets it wait, and counts how often it is woken.
fn waiting(reading: Pin<&mut impl Future>) -> Arc<Wakes> {
    let wakes = Arc::new(Wakes::default());
    let polled = reading.poll(&mut Context::from_waker(&Waker::from(wakes.clone())));
    assert!(polled.is_pending());
    wakes
}

#[tokio::test]
async fn an_event_wakes_only_the_watches_that_want_it() {
    let events = events(4);
    let mut watches = [102, 103].map(|id| events.watch(Agents::These([agent(id)].into()), None));
    let [first, second] = &mut watches;
    let mut first = pin!(first.more());
    let mut second = pin!(second.more());
    let woken = [waiting(first.as_mut()), waiting(second.as_mut())];
    let woken = || woken.each_ref().map(|wakes| wakes.0.load(Relaxed));
    publish(&events, [101; 20]);
    assert_eq!(woken(), [0, 0]);
    publish(&events, [102, 102]);
    assert_eq!(woken(), [1, 0]);
    let batch = first.await;
    assert_eq!((batch.missed, sequences(&batch)), (None, vec![BEGIN + 20, BEGIN + 21]));
    events.tell_gap(BEGIN + 30);
    assert_eq!(woken(), [1, 1], "a gap may be in any agent's events");
    assert_eq!(second.await.missed, Some(Missed { count: None, last: BEGIN + 30 }));
}

#[tokio::test]
async fn a_watch_of_a_quiet_agent_misses_nothing_where_others_fill_the_log() {
    let events = events(4);
    let mut watch = events.watch(Agents::These([agent(102)].into()), None);
    publish(&events, [101; 4]);
    assert!(watch.take().is_none());
    publish(&events, [101; 20]);
    assert!(watch.take().is_none());
    assert_eq!(watch.position(), events.newest(), "it may go on from there at another replica");
    publish(&events, [[101; 9].as_slice(), &[102], &[101; 3]].concat());
    let batch = watch.take().unwrap();
    assert_eq!((batch.missed, sequences(&batch)), (None, vec![BEGIN + 33]));

    // Its own event was dropped, with five others.
    publish(&events, [[101; 9].as_slice(), &[102], &[101; 9]].concat());
    let batch = watch.take().unwrap();
    assert_eq!(batch.missed, Some(Missed { count: Some(6), last: BEGIN + 51 }));
    assert!(batch.events.is_empty());
}

#[tokio::test]
async fn a_watch_that_ends_leaves_nothing_behind_and_the_others_go_on() {
    let events = events(4);
    for agents in [Agents::All, Agents::These([agent(102), agent(103)].into())] {
        let [watch, mut other] = [(); 2].map(|()| events.watch(agents.clone(), None));
        let unread = watch.unread.clone();
        drop(watch);
        assert_eq!(Arc::strong_count(&unread), 1);
        publish(&events, [102]);
        assert_eq!(sequences(&other.more().await), [events.newest()]);
        events.tell_gap(events.newest() + 1);
        assert_eq!(other.more().await.missed.map(|missed| missed.last), Some(events.newest()));
    }
}

#[tokio::test]
async fn a_slow_watch_is_told_how_many_events_it_has_missed() {
    let events = events(4);
    let mut watch = events.watch(Agents::All, None);
    publish(&events, 101..111);
    let batch = watch.more().await;
    assert_eq!(batch.missed, Some(Missed { count: Some(6), last: 1_005 }));
    assert_eq!(sequences(&batch), [1_006, 1_007, 1_008, 1_009]);
    publish(&events, [101]);
    assert_eq!(watch.more().await.missed, None);
}

#[tokio::test]
async fn numbers_of_another_process_are_a_gap_of_unknown_size() {
    let events = events(4);
    publish(&events, [101]);
    for strange in [0, 7, BEGIN - 2, BEGIN + 5, u64::MAX] {
        let batch = events.watch(Agents::All, Some(strange)).more().await;
        assert_eq!(batch.missed, Some(Missed { count: None, last: BEGIN - 1 }), "{strange}");
        assert_eq!(sequences(&batch), [BEGIN]);
    }
    let batch = events.watch(Agents::All, Some(BEGIN - 1)).more().await;
    assert_eq!(batch.missed, None, "there was nothing before the first event");
}

#[tokio::test]
async fn events_numbered_by_a_store_are_read_in_order_and_once() {
    let events = events(4);
    let mut watch = events.watch(Agents::All, None);
    for sequence in [2_000, 2_007, 2_007, 3_000, 2_000] {
        events.append(store_event(sequence));
    }
    assert_eq!(sequences(&watch.more().await), [2_000, 2_007, 3_000]);
    let batch = events.watch(Agents::All, Some(2_000)).more().await;
    assert_eq!((batch.missed, sequences(&batch)), (None, vec![2_007, 3_000]));

    for sequence in 3_001..3_010 {
        events.append(store_event(sequence));
    }
    let batch = events.watch(Agents::All, Some(2_007)).more().await;
    assert_eq!(batch.missed, Some(Missed { count: None, last: 3_005 }));
}

#[tokio::test]
async fn events_of_a_store_that_restarts_its_numbers_are_read_once_and_after_the_others() {
    let events = events(3);
    let mut watch = events.watch(Agents::All, None);
    let told = |sequence| events.append_all(News::Told(vec![store_event(sequence)]));
    assert_eq!([3_000, 2_000, 2_001, 2_000].map(told), [0, 1, 1, 0]);
    let numbers = sequences(&watch.more().await);
    assert!(numbers[0] == 3_000 && numbers.is_sorted() && numbers.len() == 3, "{numbers:?}");
    let next = events.newest() + 4;
    assert_eq!(told(next), 0);
    assert_eq!(sequences(&watch.more().await), [next]);
    // The log now begins with the second one; older events may have been in it.
    assert_eq!(events.append_all(News::Missed(vec![store_event(2_500)])), 0);
    assert_eq!(told(2_500), 1);
    assert!(sequences(&watch.more().await)[0] > next);
}

#[tokio::test]
async fn a_number_that_only_another_log_has_given_is_a_gap_and_nothing_is_told_again() {
    let [left, right] = [shared(9), shared(9)];
    for events in [&left, &right] {
        events.append(store_event(2_000));
        publish_here(events, 101);
        events.append(store_event(1 << 20));
    }
    let own =
        |events: &Events| events.log().from(2_001).next().map(|event| event.sequence).unwrap();
    let batch = |events: &Arc<Events>, after| events.watch(Agents::All, Some(after)).take();
    let told = batch(&left, own(&left)).unwrap();
    assert_eq!((told.missed, sequences(&told)), (None, vec![1 << 20]));
    let unknown = own(&right) + 1;
    let told = batch(&right, unknown).unwrap();
    assert_eq!(told.missed, Some(Missed { count: None, last: unknown }));
    assert_eq!(sequences(&told), [1 << 20]);

    // The gap is told once, also if there is another one right behind it.
    let unknown = right.newest() + 5;
    right.tell_gap(unknown + 5);
    let mut watch = right.watch(Agents::All, Some(unknown));
    let missed = watch.take().and_then(|batch| batch.missed);
    assert_eq!(missed, Some(Missed { count: None, last: unknown + 5 }));
    assert!(watch.take().is_none());
    // What comes after a number that is not known yet is not lost.
    let mut watch = right.watch(Agents::All, Some(right.newest() + 9));
    assert_eq!(watch.take().and_then(|batch| batch.missed.map(|it| it.last)), Some(unknown + 5));
    publish_here(&right, 102);
    assert_eq!(watch.take().map(|batch| batch.events.len()), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_waits_a_short_time_for_a_number_that_another_replica_knows() {
    let events = shared(9);
    events.append(store_event(2_000));
    let waiting = tokio::spawn({
        let events = events.clone();
        async move { events.catch_up_to(2_005).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    events.append(store_event(2_005));
    waiting.await.unwrap();
    let begun = Instant::now();
    events.catch_up_to(u64::MAX).await;
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < Duration::from_secs(3));
    let begun = Instant::now();
    self::events(9).catch_up_to(u64::MAX).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody else knows more");
}

#[tokio::test]
async fn what_a_store_says_late_of_the_time_before_the_beginning_is_not_told() {
    let events = shared(9);
    let mut watch = events.watch(Agents::All, None);
    events.begin_now();
    let began = events.newest();
    let old = [BEGIN + 7, BEGIN + 9].map(store_event);
    let news = News::Cut {
        gone: BEGIN + 6,
        events: old.into_iter().chain([store_event(began + (1 << 20))]).collect(),
    };
    assert_eq!(events.append_all(news), 0);
    let batch = watch.take().unwrap();
    assert!(batch.missed.is_some());
    assert_eq!(sequences(&batch), [began + (1 << 20)]);
}

#[tokio::test]
async fn a_gap_is_told_between_the_events_before_and_after_it() {
    let events = events(9);
    let mut watches =
        [Agents::All, Agents::These([agent(102)].into())].map(|agents| events.watch(agents, None));
    publish(&events, [101, 102]);
    events.tell_gap(BEGIN + 9);
    publish(&events, [102]);
    for (watch, before) in watches.iter_mut().zip([vec![BEGIN, BEGIN + 1], vec![BEGIN + 1]]) {
        let batches = [watch.more().await, watch.more().await];
        assert_eq!(batches.each_ref().map(sequences), [before, vec![BEGIN + 10]]);
        let missed = batches.map(|batch| batch.missed.map(|missed| missed.last));
        assert_eq!(missed, [None, Some(BEGIN + 9)]);
    }
    for _ in 0..200 {
        events.tell_gap(events.newest() + 2);
    }
    let missed = watches[0].more().await.missed;
    assert!(missed.is_some_and(|missed| missed.last > BEGIN + 200), "{missed:?}");
}

#[tokio::test]
async fn a_gap_is_told_to_a_watch_that_has_read_everything() {
    let events = events(9);
    publish(&events, [101]);
    let mut watch = events.watch(Agents::All, None);
    for gone in [BEGIN + 5, BEGIN + 5, BEGIN] {
        events.tell_gap(gone);
        let missed = watch.more().await.missed.map(|missed| missed.last);
        assert_eq!(missed, Some(events.newest()), "{gone}");
        let mut again = events.watch(Agents::All, missed);
        assert!(again.take().is_none(), "it is told once");
    }
}

#[tokio::test]
async fn many_events_come_in_batches_and_few_bytes_are_kept() {
    let kept = NonZeroUsize::new(10_000).unwrap();
    let limits =
        config::Events { kept, kept_bytes: NonZeroUsize::new(4_096).unwrap(), watches: kept };
    let events = Arc::new(Events::beginning(BEGIN, false, limits));
    publish(&events, 101..1_101);
    assert!(events.log().len() < 100);

    let events = self::events(1_000);
    let mut watch = events.watch(Agents::All, None);
    publish(&events, 101..301);
    assert_eq!(watch.more().await.events.len(), BATCH_MAX);
}
