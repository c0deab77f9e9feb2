use std::{
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

/// What a tenant has done, in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls with one answer.
    pub calls: u64,
    /// Of these, the ones that failed through the fault of the gateway or of the bridge.
    pub calls_failed: u64,
    /// Requests to the gateway, polls too.
    pub requests: u64,
    /// Of these, the ones that were not answered.
    pub requests_unanswered: u64,
    /// Of the requests, the polls.
    pub polls: u64,
    /// Of the requests, the sign-ins.
    pub sign_ins: u64,
    /// Events that polls have brought.
    pub events: u64,
}

/// Requests to a tenant's gateway, summed up.
#[derive(Debug, Default)]
pub(super) struct Requests {
    all: AtomicU64,
    unanswered: AtomicU64,
    polls: AtomicU64,
    sign_ins: AtomicU64,
}

impl Requests {
    pub(super) fn note(&self, interface: &str, result: &str) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.all);
        if matches!(result, "unreachable" | "no_answer" | "given_up") {
            add(&self.unanswered);
        }
        match interface {
            "getAgentEvent" => drop(add(&self.polls)),
            "login" | "forceLogin" => drop(add(&self.sign_ins)),
            _ => {}
        }
    }

    pub(super) fn add_to(&self, counts: Counts) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.all),
            requests_unanswered: read(&self.unanswered),
            polls: read(&self.polls),
            sign_ins: read(&self.sign_ins),
            ..counts
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(before.calls),
            calls_failed: self.calls_failed.saturating_sub(before.calls_failed),
            requests: self.requests.saturating_sub(before.requests),
            requests_unanswered: self
                .requests_unanswered
                .saturating_sub(before.requests_unanswered),
            polls: self.polls.saturating_sub(before.polls),
            sign_ins: self.sign_ins.saturating_sub(before.sign_ins),
            events: self.events.saturating_sub(before.events),
        }
    }
}
