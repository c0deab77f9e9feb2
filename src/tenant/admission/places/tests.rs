use futures_util::FutureExt as _;
use tokio::{
    task::{JoinSet, yield_now},
    time::{advance, sleep},
};

use super::*;

fn places(limit: usize) -> Arc<Places> {
    Places::new(Share::TenantRequests, NonZeroUsize::new(limit).unwrap())
}

const WAIT: Duration = Duration::from_millis(100);

fn patience(caller: u64) -> Patience {
    Patience { caller: CallerId::of_test(caller), wait: WAIT, start_by: None }
}

/// Takes as many places as there are.
fn fill(places: &Arc<Places>) -> Vec<Place> {
    std::iter::from_fn(|| places.take_now()).collect()
}

/// Begins to wait for places, one after the other, and returns who got one in which order.
async fn waiting(places: &Arc<Places>, callers: &[u64]) -> JoinSet<Option<(usize, Place)>> {
    let mut waiting = JoinSet::new();
    for (number, &caller) in callers.iter().enumerate() {
        let places = places.clone();
        waiting
            .spawn(async move { Some((number, places.take(patience(caller), None).await.ok()?)) });
        yield_now().await;
    }
    waiting
}

/// Gives a place back again and again. Returns in which order the others got it.
async fn served(
    mut place: Option<Place>,
    waiting: &mut JoinSet<Option<(usize, Place)>>,
) -> Vec<usize> {
    let mut served = Vec::new();
    while let Some(given) = place.take() {
        drop(given);
        if let Some(next) = waiting.join_next().await {
            let next = next.unwrap();
            served.extend(next.as_ref().map(|(number, _)| *number));
            place = next.map(|(_, place)| place);
        }
    }
    served
}

#[tokio::test(start_paused = true)]
async fn callers_take_turns_and_one_with_many_keeps_nobody_waiting() {
    let places = places(1);
    let place = places.take_now();
    let mut waiting = waiting(&places, &[1, 1, 1, 1, 2, 3, 2]).await;
    assert_eq!(places.waiting(), 7);
    assert_eq!(served(place, &mut waiting).await, [0, 4, 5, 1, 6, 2, 3]);
    assert_eq!((places.waiting(), places.usage().taken), (0, 0));
}

/// Makes forty calls one after the other, and counts those that get a place.
async fn call_forty_times(places: Arc<Places>, patience: Patience) -> u32 {
    let mut served = 0;
    for _ in 0..40 {
        if let Ok(place) = places.take(patience, None).await {
            served += 1;
            sleep(WAIT / 20).await;
            drop(place);
        }
        sleep(WAIT).await;
    }
    served
}

async fn take(places: Arc<Places>, patience: Patience) -> Option<Place> {
    places.take(patience, None).await.ok()
}

/// The others have so much waiting that their turns come only after 200 ms, which is longer than a call waits in an
/// overload.
#[tokio::test(start_paused = true)]
async fn a_caller_with_one_call_at_a_time_gets_its_turn_among_many_with_very_many() {
    let patience = |caller| Patience { wait: WAIT * 10, ..patience(caller) };
    for number in [0, 40, 99] {
        let (places, mut others) = (places(1), JoinSet::new());
        let mut place = places.take_now();
        let own = tokio::spawn(call_forty_times(places.clone(), patience(number)));
        while !own.is_finished() {
            for other in (1..80).step_by(2) {
                let waiting = places.queue().waiting.line(CallerId::of_test(other));
                others.extend((waiting..3).map(|_| take(places.clone(), patience(other))));
            }
            yield_now().await;
            advance(WAIT / 20).await;
            drop(place.take());
            yield_now().await;
            while let Some(Ok(ended)) = others.try_join_next() {
                place = place.or(ended);
            }
        }
        let served = own.await.expect("no panic");
        assert!(served >= 30, "{number}: {served} of 40");
    }
}

#[tokio::test(start_paused = true)]
async fn in_an_overload_the_newest_of_a_caller_comes_first() {
    let places = places(1);
    let place = places.take_now();
    let mut waiting = waiting(&places, &[1, 1, 1, 2, 2]).await;
    advance(OVERLOADED).await;
    assert_eq!(served(place, &mut waiting).await, [4, 2, 3, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_it_may_or_than_is_of_use() {
    let places = places(1);
    let _taken = places.take_now().unwrap();
    let now = Instant::now();
    assert!(places.take(patience(1), None).await.is_err());
    assert!((WAIT..WAIT * 2).contains(&now.elapsed()));

    let now = Instant::now();
    let until = Patience { start_by: Some(now + WAIT / 2), ..patience(1) };
    let leaves = places.take(until, Some(WAIT)).now_or_never();
    assert!(
        matches!(leaves, Some(Err(Obstacle::Overloaded { .. }))),
        "half of a request fits in, and no wait"
    );
    assert!(places.take(until, Some(WAIT / 2)).now_or_never().is_none(), "it may suffice");
    assert!(places.take(until, None).now_or_never().is_none(), "nothing is known");
    let _nine = waiting(&places, &[1; 9]).await;
    let until = Patience { start_by: Some(now + WAIT), ..patience(1) };
    let leaves = places.take(until, Some(WAIT / 2)).now_or_never();
    assert!(leaves.is_some_and(|left| left.is_err()), "nine of it come first");
    let other = Patience { caller: CallerId::of_test(2), ..until };
    assert!(places.take(other, Some(WAIT / 2)).now_or_never().is_none(), "it has its own turn");
}

#[tokio::test(start_paused = true)]
async fn whom_others_are_preferred_to_leaves_early_and_a_standstill_is_waited_for() {
    let places = places(1);
    let mut place = places.take_now();
    let mut waiting = waiting(&places, &[1]).await;
    let first = waiting.join_next().await.expect("one").expect("no panic");
    assert!(first.is_none(), "nothing has moved, and the time is over");

    let began = Instant::now();
    let places_of_one = places.clone();
    let one = tokio::spawn(async move {
        let patience = Patience { wait: WAIT * 10, ..patience(1) };
        places_of_one.take(patience, None).await.map(drop)
    });
    yield_now().await;
    advance(WAIT * 3 / 2).await;
    assert!(!one.is_finished(), "nothing moves");
    // From now on newer ones come, and get the place.
    while !one.is_finished() {
        let newest = places.take(patience(1), None);
        let (newest, ()) = tokio::join!(newest, async { drop(place.take()) });
        place = newest.ok();
        assert!(place.is_some());
        advance(WAIT / 10).await;
        yield_now().await;
    }
    assert!(one.await.expect("no panic").is_err());
    let waited = began.elapsed();
    assert!((WAIT * 6..WAIT * 9).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lowered_holds_once_the_surplus_places_are_given_back() {
    let places = places(5);
    let mut taken = fill(&places);
    assert_eq!(taken.len(), 5);
    places.resize(2);
    for left in [4, 3, 2] {
        taken.pop();
        assert!(places.take_now().is_none(), "with {left} taken");
    }
    taken.pop();
    assert_eq!(fill(&places).len(), 1);
    assert_eq!((places.usage().limit, places.usage().taken), (2, 1));
    let mut waiting = waiting(&places, &[1, 1, 1]).await;
    taken.extend(places.take_now());
    assert_eq!(taken.len(), 1, "those who wait come first");
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    places.resize(4);
    taken.extend(fill(&places));
    assert_eq!((taken.len(), places.usage().taken), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_is_for_those_who_wait() {
    let places = places(1);
    let _taken = places.take_now().unwrap();
    let mut waiting = waiting(&places, &[1, 2, 3]).await;
    places.resize(3);
    let got = [waiting.join_next().await, waiting.join_next().await];
    assert!(got.iter().all(|got| matches!(got, Some(Ok(Some(_))))));
    assert_eq!((places.waiting(), places.usage().taken), (1, 3));
}

/// Takes places again and again, and gives some up at once, which is when one may just be on its way.
async fn take_turns(places: Arc<Places>, taken: Arc<AtomicUsize>, caller: u64) {
    for turn in 0..200 {
        let wait = Duration::from_micros(if turn % 3 == 0 { 1 } else { 60_000_000 });
        let taking = places.take(Patience { wait, ..patience(caller) }, None);
        let Ok(place) = taking.await else { continue };
        assert!(taken.fetch_add(1, Ordering::SeqCst) < 3);
        yield_now().await;
        taken.fetch_sub(1, Ordering::SeqCst);
        drop(place);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_and_none_is_given_twice() {
    let (places, taken) = (places(3), Arc::default());
    let turns = |caller: u64| take_turns(places.clone(), Arc::clone(&taken), caller % 4);
    let callers: JoinSet<()> = (0..16_u64).map(turns).collect();
    callers.join_all().await;
    assert_eq!((places.waiting(), places.usage().taken), (0, 0));
    assert_eq!(fill(&places).len(), 3);
}
