//! Waits for something that happens elsewhere. The limits do not measure anything; they only end tests
//! that hang.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Longer than anything takes on a machine that is busy with other things, too.
const LIMIT: Duration = Duration::from_secs(60);
/// Looking without pauses would take a core from the work that is waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Waits for the future; panics if it takes longer than a minute.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let waited = timeout(LIMIT, future).await;
    waited.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// Waits until something is so that has to be asked for; panics if it takes longer than a minute.
pub async fn until_asked(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            sleep(FIRST_PAUSE).await;
        }
    };
    within(what, asking).await;
}

/// Waits until something has happened; panics if it takes longer than a minute.
pub async fn until(what: &str, happened: impl FnMut() -> bool) {
    until_within(LIMIT, what, happened).await;
}

/// Like [`until`], with another limit.
pub async fn until_within(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        let mut pause = FIRST_PAUSE;
        while !happened() {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    let waited = timeout(limit, waiting).await;
    waited.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
}
