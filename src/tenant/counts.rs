use std::ops::Sub;

use serde::Serialize;

use super::Tenant;
use crate::{
    gateway::RequestCounts,
    telemetry::metrics::{CallCounts, Times},
};

/// Totals of what one tenant has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Unary calls.
    pub calls: u64,
    /// How many of these failed because of the gateway or the bridge.
    pub calls_failed: u64,
    /// Requests to the gateway, including polls.
    pub requests: u64,
    /// How many of these were not answered.
    pub requests_unanswered: u64,
    /// How many of the requests were polls.
    pub polls: u64,
    /// How many of the requests were sign-ins.
    pub sign_ins: u64,
    /// Events received by polls.
    pub events: u64,
}

impl Tenant {
    /// The tenant's totals since the bridge started.
    pub fn counts(&self) -> Counts {
        let CallCounts { all: calls, failed: calls_failed, .. } = self.metrics.calls();
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

    /// How long the gateway has taken for the requests of calls since the bridge started. Polls and sign-ins are
    /// left out.
    pub fn gateway_times(&self) -> Times {
        self.gateway.times()
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
