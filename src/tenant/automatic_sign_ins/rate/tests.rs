//! When sign-ins may begin, for a process alone and for one of several replicas.

use std::{collections::VecDeque, future::ready, sync::Mutex as StdMutex};

use super::*;
use crate::{
    id::AgentId,
    session::{StoreError, StoreFuture},
    tenant::{Attempt, Lock, Moments},
};

/// Replicas whose store gives the moments in `answers` first, and then as many as are asked for;
/// `None`: it does not answer.
#[derive(Debug, Default)]
struct Others {
    answers: StdMutex<VecDeque<Option<Moments>>>,
    /// How many moments were asked for, each time.
    asked: StdMutex<Vec<u32>>,
}

impl SharedSignIns for Others {
    fn lock_time(&self) -> Duration {
        Duration::ZERO
    }

    fn lock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, Lock> {
        Box::pin(ready(Err(StoreError::Unavailable("not asked for this".into()))))
    }

    fn unlock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn sign_in_moments(&self, count: u32, _: Duration) -> StoreFuture<'_, Moments> {
        self.asked.lock().unwrap().push(count);
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or(Some(Moments { count, wait: Duration::ZERO }));
        Box::pin(ready(answer.ok_or_else(|| StoreError::Unavailable("away".into()))))
    }

    fn replicas(&self) -> u32 {
        3
    }
}

/// A limit that is shared with others, and what these are asked.
fn shared(
    per_second: u32,
    answers: impl IntoIterator<Item = Option<Moments>>,
) -> (RateLimit, Arc<Others>) {
    let answers = StdMutex::new(answers.into_iter().collect());
    let others = Arc::new(Others { answers, asked: StdMutex::default() });
    (RateLimit::per_second(per_second, Some(others.clone())), others)
}

/// When each of so many moments comes, in milliseconds from now.
async fn moments(limit: &RateLimit, count: usize, waiting: usize) -> Vec<u128> {
    let (began, mut times) = (Instant::now(), Vec::new());
    for _ in 0..count {
        limit.moment(waiting).await;
        times.push(began.elapsed().as_millis());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn another_rate_holds_from_the_next_moment_on() {
    let limit = RateLimit::per_second(10, None);
    limit.moment(1).await;
    limit.set_per_second(2);
    limit.moment(1).await;
    let started = Instant::now();
    for _ in 0..4 {
        limit.moment(1).await;
    }
    assert_eq!(started.elapsed().as_millis(), 2000);
}

#[tokio::test(start_paused = true)]
async fn moments_come_evenly_and_none_is_saved_up() {
    let limit = RateLimit::per_second(10, None);
    for _ in 0..2 {
        let started = Instant::now();
        for _ in 0..11 {
            limit.moment(1).await;
        }
        assert_eq!(started.elapsed().as_millis(), 1000);
        sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stands_still_now_and_then_does_not_lower_the_rate() {
    let limit = RateLimit::per_second(50, None);
    let started = Instant::now();
    for _ in 0..10 {
        for _ in 0..10 {
            limit.moment(1).await;
        }
        tokio::time::advance(Duration::from_millis(90)).await;
    }
    let took = started.elapsed().as_millis();
    assert!((1980..=2090).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_late_does_not_lower_a_high_rate() {
    let limit = RateLimit::per_second(10_000, None);
    let started = Instant::now();
    for _ in 0..10_000 {
        limit.moment(1).await;
    }
    let took = started.elapsed().as_millis();
    assert!((990..=1010).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn replicas_take_a_tenth_of_a_seconds_moments_at_once_and_no_more_than_they_need() {
    let (limit, others) = shared(100, []);
    assert_eq!(moments(&limit, 12, 25).await, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 90, 100]);
    assert_eq!(*others.asked.lock().unwrap(), [10, 10]);
    let (limit, others) = shared(100, []);
    moments(&limit, 1, 3).await;
    moments(&limit, 3, 0).await;
    assert_eq!(*others.asked.lock().unwrap(), [3, 1]);
    let (limit, others) = shared(1, []);
    moments(&limit, 2, 25).await;
    assert_eq!(*others.asked.lock().unwrap(), [1, 1], "a slow rate has less than one in that time");
}

#[tokio::test(start_paused = true)]
async fn moments_that_were_not_used_in_time_are_dropped_and_the_others_are_used() {
    for (pause, left) in [(140, 6), (141, 5), (10_000, 0)] {
        let (limit, others) = shared(100, []);
        limit.moment(10).await;
        sleep(Duration::from_millis(pause)).await;
        assert_eq!(moments(&limit, left, 10).await, vec![0; left]);
        assert_eq!(others.asked.lock().unwrap().len(), 1, "after {pause} ms");
        assert_eq!(moments(&limit, 2, 10).await, [0, 10]);
        assert_eq!(others.asked.lock().unwrap().len(), 2, "after {pause} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn moments_come_when_the_store_says_and_it_is_asked_again_where_it_has_none() {
    let answer = |count, millis| Some(Moments { count, wait: Duration::from_millis(millis) });
    let (limit, _) = shared(10, [answer(1, 300)]);
    assert_eq!(moments(&limit, 1, 1).await, [300]);
    // A wait that makes no sense is cut short, and one that is shorter than an interval is not.
    for (wait, millis) in [(60_000, 1_000), (700, 700), (1, 100)] {
        let (limit, others) = shared(10, [answer(0, wait)]);
        assert_eq!(moments(&limit, 1, 1).await, [millis]);
        assert_eq!(others.asked.lock().unwrap().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_each_replica_uses_its_own_part_of_the_rate() {
    let (limit, others) = shared(10, [None, None, None, None]);
    moments(&limit, 1, 5).await;
    assert_eq!(moments(&limit, 3, 5).await, [300, 600, 900]);
    assert_eq!(*others.asked.lock().unwrap(), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_limit_of_none_a_second_counts_as_one() {
    for (per_second, millis) in [(0, 1_000), (1, 1_000), (50, 20)] {
        let limit = RateLimit::per_second(per_second, None);
        assert_eq!(limit.interval(), Duration::from_millis(millis));
        assert!(limit.shared().is_none());
    }
    assert!(shared(1, []).0.shared().is_some());
}

/// Somebody else may write into the store, always just ahead of the clock.
#[tokio::test(start_paused = true)]
async fn a_replica_that_gets_no_moments_for_long_takes_some_by_itself() {
    let none = Moments { count: 0, wait: Duration::from_millis(100) };
    let (limit, _) = shared(10, std::iter::repeat_n(Some(none), 100_000));
    let taken = moments(&limit, 4, 9).await;
    assert!(taken[0] >= 5_000, "others may need them as much: {taken:?}");
    assert!(taken[3] <= 30_000, "{taken:?}");
}

#[tokio::test]
async fn each_replica_expects_an_even_part_of_the_rate() {
    let (limit, _others) = shared(10, []);
    let Intervals { expected, shortest } = limit.intervals();
    assert_eq!((expected, shortest), (3 * limit.interval(), limit.interval()));
    let alone = RateLimit::per_second(10, None);
    let Intervals { expected, shortest } = alone.intervals();
    assert_eq!((expected, shortest), (alone.interval(), alone.interval()));
}
