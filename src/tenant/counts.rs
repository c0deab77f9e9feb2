use std::ops::Sub;

use serde::Serialize;

use super::Tenant;
use crate::gateway::RequestCounts;

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

impl Tenant {
    /// What the tenant has done so far.
    pub fn counts(&self) -> Counts {
        let (calls, calls_failed) = self.metrics.calls();
        let RequestCounts { requests, unanswered, polls, sign_ins } = self.gateway.counts();
        Counts {
            calls,
            calls_failed,
            requests,
            requests_unanswered: unanswered,
            polls,
            sign_ins,
            events: self.metrics.events(),
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
