use std::ops::Sub;

use serde::Serialize;
use tokio::time::Instant;

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
    /// How many of these failed because of the gateway or the bridge, or because a limit was used up.
    pub calls_failed: u64,
    /// How many of those that failed did so because their caller had used up its own part of a limit.
    pub calls_over_own_share: u64,
    /// How many calls were refused, because of what they asked for or because of the agent's state.
    pub calls_refused: u64,
    /// How many calls ended because their callers left.
    pub calls_cancelled: u64,
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
    /// When the tenant began. One that was removed and comes back begins anew.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The tenant's totals since it began.
    pub fn counts(&self) -> Counts {
        let CallCounts { all, refused, cancelled, failed, over_own_share } = self.metrics.calls();
        let RequestCounts { requests, unanswered, polls, sign_ins } = self.gateway.counts();
        Counts {
            calls: all,
            calls_failed: failed,
            calls_over_own_share: over_own_share,
            calls_refused: refused,
            calls_cancelled: cancelled,
            requests,
            requests_unanswered: unanswered,
            polls,
            sign_ins,
            events: self.metrics.events(),
        }
    }

    /// How long the gateway has taken for the requests of calls since the tenant began. Polls and sign-ins are left out.
    pub fn gateway_times(&self) -> Times {
        self.gateway.times()
    }
}

impl Counts {
    /// The calls whose callers have not left.
    pub fn answered(&self) -> u64 {
        self.calls.saturating_sub(self.calls_cancelled)
    }

    /// The calls that failed, but for those whose caller asks too much: they are nobody else's trouble.
    pub fn failed(&self) -> u64 {
        self.calls_failed.saturating_sub(self.calls_over_own_share)
    }

    /// The calls that were refused, also because their caller asks too much.
    pub fn refused(&self) -> u64 {
        self.calls_refused + self.calls_over_own_share
    }

    /// The calls that have done what they were made for.
    pub fn succeeded(&self) -> u64 {
        self.answered().saturating_sub(self.calls_failed + self.calls_refused)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let less = |of: fn(&Self) -> u64| of(&self).saturating_sub(of(&before));
        Self {
            calls: less(|it| it.calls),
            calls_failed: less(|it| it.calls_failed),
            calls_over_own_share: less(|it| it.calls_over_own_share),
            calls_refused: less(|it| it.calls_refused),
            calls_cancelled: less(|it| it.calls_cancelled),
            requests: less(|it| it.requests),
            requests_unanswered: less(|it| it.requests_unanswered),
            polls: less(|it| it.polls),
            sign_ins: less(|it| it.sign_ins),
            events: less(|it| it.events),
        }
    }
}
