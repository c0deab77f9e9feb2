//! Waiting for what happens elsewhere. No limit here is a measurement: they end tests that hang.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// For what a process does.
const PROCESS: Duration = Duration::from_secs(30);
/// For what a bridge in the test's own process does.
const OWN_PROCESS: Duration = Duration::from_secs(10);
/// Looking all the time would take a core from what is waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// What the future brings; fails if it does not within thirty seconds.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let waited = timeout(PROCESS, future).await;
    waited.unwrap_or_else(|_| panic!("not within {PROCESS:?}: {what}"))
}

/// Waits until something has happened; fails if it does not within ten seconds.
pub async fn until(what: &str, happened: impl FnMut() -> bool) {
    until_within(OWN_PROCESS, what, happened).await;
}

/// The same with another limit.
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
