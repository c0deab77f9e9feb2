//! Counts the requests to one tenant's gateway.

use std::{
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Exchanged, INTERFACES, Interface, TimeoutClass};
use crate::{
    id::TenantId,
    retcode::Kind,
    telemetry::metrics::{self, Label, Numbered, Requests},
};

/// One tenant's part of the request metrics.
pub(super) type RequestMetrics = metrics::RequestMetrics<&'static Interface, Exchanged>;

/// Once an interface is used, it has a series for each of these results.
const RESULTS: [Exchanged; 6] = [
    Exchanged::Accepted,
    Exchanged::Unreachable,
    Exchanged::NoAnswer,
    Exchanged::BadReply,
    Exchanged::HttpStatus,
    Exchanged::GivenUp,
];
/// Further results that only sign-ins have.
const REJECTIONS: [Exchanged; 3] = [
    Exchanged::WithoutGuid,
    Exchanged::Refused(Kind::CredentialsRejected),
    Exchanged::Refused(Kind::AccountLocked),
];

/// The tenant's part of the request metrics.
pub(super) fn of(requests: &Requests, tenant: &TenantId) -> RequestMetrics {
    // Those of sign-ins are there from the start. An alert fires after a few rejected sign-ins, and these may be the
    // tenant's first requests. The other interfaces would have 78 series for each idle tenant.
    let signs_in = |interface: &&Interface| interface.timeout_class == TimeoutClass::SignIn;
    let from_the_start = INTERFACES.into_iter().filter(signs_in).flat_map(|interface| {
        RESULTS.into_iter().chain(REJECTIONS).map(move |result| (interface, result))
    });
    requests.of(tenant.as_str(), &RESULTS, from_the_start)
}

impl Label for &'static Interface {
    fn as_str(self) -> &'static str {
        self.log_name
    }
}

impl Numbered for &'static Interface {
    const COUNT: usize = INTERFACES.len();

    fn number(self) -> usize {
        // Every interface is in the list. A test checks that.
        INTERFACES.iter().position(|known| ptr::eq(*known, self)).unwrap_or(INTERFACES.len())
    }
}

impl Label for Exchanged {
    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

impl Numbered for Exchanged {
    const COUNT: usize = Self::COUNT;

    fn number(self) -> usize {
        self.number()
    }
}

/// Sums of the requests to a tenant's gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All requests, including polls.
    pub requests: u64,
    /// Those that were not answered.
    pub unanswered: u64,
    /// Those that were polls.
    pub polls: u64,
    /// Those that were sign-ins.
    pub sign_ins: u64,
}

/// The counters behind [`RequestCounts`].
#[derive(Debug, Default)]
pub(super) struct Sums {
    requests: AtomicU64,
    unanswered: AtomicU64,
    polls: AtomicU64,
    sign_ins: AtomicU64,
}

impl Sums {
    /// Counts a request with its result.
    pub(super) fn note(&self, interface: &Interface, result: Exchanged) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.requests);
        if result.is_unanswered() {
            add(&self.unanswered);
        }
        match interface.timeout_class {
            TimeoutClass::Poll => drop(add(&self.polls)),
            TimeoutClass::SignIn => drop(add(&self.sign_ins)),
            TimeoutClass::Request => {}
        }
    }

    pub(super) fn counts(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            requests: read(&self.requests),
            unanswered: read(&self.unanswered),
            polls: read(&self.polls),
            sign_ins: read(&self.sign_ins),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::metrics::{Format, Metrics};

    #[test]
    fn every_interface_and_every_result_has_a_number_of_its_own() {
        let interfaces: Vec<_> = INTERFACES.iter().map(|interface| interface.number()).collect();
        assert_eq!(interfaces, (0..<&Interface>::COUNT).collect::<Vec<_>>());
        let defined = include_str!("interface.rs").matches(": Interface =").count();
        assert_eq!(
            defined,
            INTERFACES.len(),
            "an interface that is not in the list is not counted"
        );

        let results = RESULTS.into_iter().chain([Exchanged::WithoutGuid]);
        let results = results.chain(Kind::ALL.map(Exchanged::Refused));
        let numbers: BTreeSet<_> = results.map(Numbered::number).collect();
        assert_eq!(numbers, (0..<Exchanged as Numbered>::COUNT).collect());
    }

    /// An alert sees no increase in a series that begins with 1.
    #[test]
    fn sign_ins_alone_have_their_series_before_anything_was_asked() {
        let metrics = Metrics::new(&[], &[]);
        let _tenant = of(&metrics.requests, &TenantId::parse("acme").expect("a name"));
        let text = metrics.text(Format::OpenMetrics).expect("metrics");
        for interface in INTERFACES {
            let has = |result: Exchanged| {
                let (name, result) = (interface.log_name, Exchanged::as_str(result));
                text.contains(&format!("interface=\"{name}\",result=\"{result}\"}} 0"))
            };
            let signs_in = interface.timeout_class == TimeoutClass::SignIn;
            let mut results = RESULTS.into_iter().chain(REJECTIONS);
            assert!(results.all(|result| has(result) == signs_in), "{}", interface.log_name);
            assert!(!has(Exchanged::Refused(Kind::StateRefused)), "whatever else there may be");
        }
    }
}
