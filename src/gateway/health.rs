//! The health of one address of a gateway.
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{Exchanged, Reply, probe::says_unknown};

/// When an address of a gateway last answered, and how it last failed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// In milliseconds since 1970. 0 if it has not answered yet.
    answered: AtomicU64,
    /// With the time by a clock that nobody sets.
    failed: Mutex<Option<(Instant, Failed)>>,
    /// Whether it has not answered since it last failed.
    is_failing: AtomicBool,
}

/// A failure of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When it happened.
    pub at: SystemTime,
    /// The cause, cut to the length of a line.
    pub cause: String,
}

/// The state of one address of a gateway, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// Host and port.
    pub host: String,
    /// Whether requests go to this address first.
    pub in_use: bool,
    /// When the address last answered.
    pub answered: Option<SystemTime>,
    /// The last failure. The address may have answered since.
    pub failed: Option<Failed>,
    /// Whether it has not answered since then.
    pub failed_last: bool,
    /// Whether it failed within the last minute and has not answered since.
    pub is_failing: bool,
    /// Whether it is asked.
    pub state: AddressState,
    /// How often it has tripped.
    pub trips: u64,
}

/// Whether an address of a gateway is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// It is.
    Good,
    /// Too many requests have failed, and it is only probed.
    Tripped,
    /// It answers again, and is asked where no good one is left.
    Probing,
}

impl AddressState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Good, Self::Tripped, Self::Probing];

    /// The spelling in metrics, status and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Tripped => "tripped",
            Self::Probing => "probing",
        }
    }
}

const CAUSE_MAX: usize = 200;
/// How long a failure counts where nothing is asked after it. Longer than the pauses between polls of a
/// gateway that does not answer.
const LATELY: Duration = Duration::from_secs(60);

impl Health {
    /// Notes an answer. One that does not come from a gateway counts as a failure. Where the gateway was asked for
    /// what it does not have (`is_unknown_there`), it has to say so.
    pub(super) fn answered(&self, reply: &Reply, is_unknown_there: bool) {
        match reply.amounts_to() {
            Exchanged::BadReply => self.failed("its answer is not readable"),
            Exchanged::HttpStatus if !(is_unknown_there && says_unknown(reply.status)) => {
                self.failed(&format!("it answered with HTTP {}", reply.status));
            }
            _ => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = now.as_millis().try_into().unwrap_or(u64::MAX);
                self.answered.store(now, Ordering::Relaxed);
                self.is_failing.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Notes that there was no connection or no answer.
    pub(super) fn failed(&self, cause: &str) {
        let cause = cause.chars().filter(|c| !c.is_control()).take(CAUSE_MAX).collect();
        let failed = Failed { at: SystemTime::now(), cause };
        let failed = Some((Instant::now(), failed));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// The cause of the last failure; empty if there was none.
    pub(super) fn last_cause(&self) -> String {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(|(_, failed)| failed.cause.clone()).unwrap_or_default()
    }

    /// The state for people.
    pub(super) fn view(
        &self,
        host: String,
        in_use: bool,
        (state, trips): (AddressState, u64),
    ) -> AddressView {
        let answered = self.answered.load(Ordering::Relaxed);
        let answered = (answered > 0).then(|| UNIX_EPOCH + Duration::from_millis(answered));
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_recent = failed.as_ref().is_some_and(|(at, _)| at.elapsed() < LATELY);
        let failed_last = self.is_failing.load(Ordering::Relaxed);
        let is_failing = is_recent && failed_last;
        let failed = failed.map(|(_, failed)| failed);
        AddressView { host, in_use, answered, failed, failed_last, is_failing, state, trips }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(health: &Health) -> AddressView {
        health.view("gateway".into(), true, (AddressState::Good, 0))
    }

    fn is_failing(health: &Health) -> bool {
        view(health).is_failing
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_of_a_gateway_ends_a_failure_and_that_of_anything_else_is_one() {
        let unreadable = Some("its answer is not readable");
        let (done, refused) = (r#"{"retcode":"0"}"#, r#"{"retcode":"100-006"}"#);
        // Whether the gateway was asked for what it does not have, and how the address has failed.
        for (status, body, is_unknown_there, failure) in [
            (200, done, false, None),
            (200, refused, false, None),
            (503, refused, false, None),
            (502, done, false, unreadable),
            (200, "<html>", false, unreadable),
            (200, "<html>", true, unreadable),
            (404, "", false, Some("it answered with HTTP 404 Not Found")),
            (404, "", true, None),
            (405, "", true, None),
            (502, "", true, Some("it answered with HTTP 502 Bad Gateway")),
        ] {
            let reply = Reply::of(status, &[], body.as_bytes());
            let health = Health::default();
            health.failed("connection refused");
            health.answered(&reply, is_unknown_there);
            let (view, case) = (view(&health), format!("{status} {body} {is_unknown_there}"));
            assert_eq!(view.failed_last, failure.is_some(), "{case}");
            assert_eq!(view.is_failing, failure.is_some(), "{case}");
            assert_eq!(health.last_cause(), failure.unwrap_or("connection refused"), "{case}");
            let is_dated = view.answered.is_some_and(|time| time > UNIX_EPOCH);
            assert_eq!(is_dated, failure.is_none(), "{case}");
        }
    }

    #[test]
    fn what_has_not_happened_to_an_address_has_no_time_and_no_cause() {
        let health = Health::default();
        let AddressView { answered, failed, failed_last, .. } = view(&health);
        assert_eq!((answered, failed, failed_last), (None, None, false));
        assert_eq!(health.last_cause(), "");
    }

    #[test]
    fn the_cause_of_a_failure_is_a_part_of_a_line() {
        let health = Health::default();
        health.failed("no\r\n route\u{1b}[2K to \u{7f}host");
        assert_eq!(health.last_cause(), "no route[2K to host");
        health.failed(&"é".repeat(CAUSE_MAX + 1));
        assert_eq!(health.last_cause(), "é".repeat(CAUSE_MAX));
    }

    #[test]
    fn states_are_spelled_as_alerts_and_the_page_have_them() {
        assert_eq!(AddressState::ALL.map(AddressState::as_str), ["good", "tripped", "probing"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_counts_for_a_minute_or_until_an_answer() {
        let health = Health::default();
        assert!(!is_failing(&health), "nothing has been asked");
        health.failed("connection refused");
        assert!(is_failing(&health));
        tokio::time::advance(LATELY * 9 / 10).await;
        assert!(is_failing(&health));
        health.failed("connection refused");
        tokio::time::advance(LATELY / 5).await;
        assert!(is_failing(&health), "it has failed again");
        tokio::time::advance(LATELY * 4 / 5).await;
        assert!(!is_failing(&health), "nobody knows any more");
        assert!(view(&health).failed_last, "as far as anybody knows");
    }
}
