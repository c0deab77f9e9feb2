//! The health of one address of a gateway.
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Exchanged, Reply};

/// When an address of a gateway last answered, and how it last failed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// In milliseconds since 1970. 0 if it has not answered yet.
    answered: AtomicU64,
    failed: Mutex<Option<Failed>>,
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
}

const CAUSE_MAX: usize = 200;

impl Health {
    /// Notes an answer. One that does not come from a gateway counts as a failure.
    pub(super) fn answered(&self, reply: &Reply) {
        match reply.amounts_to() {
            Exchanged::BadReply => self.failed("its answer is not readable"),
            Exchanged::HttpStatus => {
                self.failed(&format!("it answered with HTTP {}", reply.status));
            }
            _ => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = now.as_millis().try_into().unwrap_or(u64::MAX);
                self.answered.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Notes that there was no connection or no answer.
    pub(super) fn failed(&self, cause: &str) {
        let cause = cause.chars().filter(|c| !c.is_control()).take(CAUSE_MAX).collect();
        let failed = Failed { at: SystemTime::now(), cause };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }

    /// The state for people.
    pub(super) fn view(&self, host: String, in_use: bool) -> AddressView {
        let answered = self.answered.load(Ordering::Relaxed);
        let answered = (answered > 0).then(|| UNIX_EPOCH + Duration::from_millis(answered));
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        AddressView { host, in_use, answered, failed }
    }
}
