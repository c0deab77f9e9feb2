use std::sync::LazyLock;

use super::*;

/// When the tenants began.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn id(name: &str) -> TenantId {
    TenantId::parse(name).expect("a name")
}

/// A reading of so many calls, of which some have failed.
fn reading(calls: u64, calls_failed: u64) -> Reading {
    let counts = Counts { calls, calls_failed, ..Counts::default() };
    Reading { began: *BEGAN, counts, times: Times::default() }
}

/// What is kept after readings of one tenant at [`INTERVAL`]s.
fn kept(readings: impl IntoIterator<Item = Reading>) -> Kept {
    let mut kept = Kept::default();
    let mut at = Instant::now();
    for reading in readings {
        kept.add(at, vec![(id("acme"), reading)]);
        at += INTERVAL;
    }
    kept
}

#[test]
fn the_last_minute_is_what_has_come_since_the_oldest_reading_of_it() {
    for (readings, expected) in [
        // The bridge has just started.
        (1, 99),
        (4, 99),
        (7, 99),
        // The first one is older than a minute.
        (8, 98),
        (20, 86),
    ] {
        let kept = kept((1..=readings).map(|n| reading(n, 0)));
        let lately = kept.lately(&id("acme"), reading(100, 0));
        assert_eq!(lately.counts.calls, expected, "{readings}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_counters_are_read_every_ten_seconds_on_a_thread_that_serves_nobody() {
    let history = Arc::new(History::new(Tenants::new([])));
    let following = tokio::spawn(history.clone().follow());
    while history.kept().taken.len() < 3 {
        tokio::time::sleep(INTERVAL).await;
    }
    assert!(history.window() >= INTERVAL * 2, "{:?}", history.window());
    following.abort();
}

#[test]
fn a_bar_is_twenty_seconds_and_there_are_as_many_as_ten_minutes_have() {
    assert_eq!(BAR, INTERVAL * u32::try_from(READINGS_PER_BAR).expect("few"));
    assert_eq!(BAR * u32::try_from(BARS).expect("few"), Duration::from_secs(600));
    let bars = |readings: u64| {
        let kept = kept((0..readings).map(|n| reading(n * 5, n)));
        kept.lately(&id("acme"), reading(0, 0)).bars
    };
    let bar = Bar { calls: 10, refused: 0, failed: 2 };
    for (readings, expected) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (61, 30), (200, 30)] {
        assert_eq!(bars(readings), vec![bar; expected], "{readings}");
    }
}

#[test]
fn a_tenant_that_comes_later_began_with_nothing_and_one_that_went_is_forgotten() {
    let mut kept = kept([reading(5, 0), reading(6, 0)]);
    let (acme, late) = (id("acme"), id("late"));
    let now = Instant::now() + INTERVAL * 2;
    kept.add(now, vec![(acme.clone(), reading(7, 0)), (late.clone(), reading(3, 1))]);
    assert_eq!(kept.lately(&acme, reading(8, 0)).counts.calls, 3);
    assert_eq!(kept.lately(&late, reading(4, 1)).counts.calls, 4);
    assert_eq!(kept.lately(&late, reading(4, 1)).bars, [Bar { calls: 3, refused: 0, failed: 1 }]);
    assert_eq!(kept.lately(&id("newest"), reading(1, 0)).counts.calls, 1);
    kept.add(now + INTERVAL, vec![(late, reading(4, 1))]);
    assert_eq!(kept.pasts.keys().collect::<Vec<_>>(), [&id("late")]);
}

/// Its counters begin anew, so nothing of what was read before may be taken off.
#[test]
fn a_tenant_that_has_come_back_begins_with_nothing_however_soon_it_has() {
    let acme = id("acme");
    let mut kept = kept((0..7).map(|n| reading(n * 100, n * 100)));
    let again = |calls| Reading { began: *BEGAN + INTERVAL, ..reading(calls, 0) };
    let lately = kept.lately(&acme, again(2));
    assert_eq!((lately.counts, lately.bars), (again(2).counts, Vec::new()), "not read yet");

    let now = Instant::now() + INTERVAL * 7;
    kept.add(now, vec![(acme.clone(), again(3))]);
    kept.add(now + INTERVAL, vec![(acme.clone(), again(5))]);
    let lately = kept.lately(&acme, again(6));
    let bar = Bar { calls: 5, refused: 0, failed: 0 };
    assert_eq!((lately.counts, lately.bars), (again(6).counts, vec![bar]));
}

/// With ten thousand tenants it is 25 MB.
#[test]
fn what_is_kept_of_a_tenant_is_little_and_does_not_grow() {
    let kept = kept((0..1_000).map(|n| reading(n, 0)));
    let past = &kept.pasts[&id("acme")];
    let bytes = size_of::<Past>()
        + past.readings.capacity() * size_of::<Reading>()
        + past.bars.capacity() * size_of::<Bar>();
    assert!(bytes < 2_500, "{bytes} bytes");
}
