//! `[tenants.<id>.limits]`.

use std::{num::NonZeroUsize, time::Duration};

use crate::config::{
    error::Problem,
    reader::Section,
    scalar::{MILLISECOND, MINUTE},
};

/// Bounds on what a tenant may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once, waiting ones included. `limits.calls`.
    pub calls: NonZeroUsize,
    /// Requests to the gateway at once; polls are not counted. `limits.requests`.
    pub requests: NonZeroUsize,
    /// How long a call may wait to be one of those. `limits.queue_wait`.
    pub queue_wait: Duration,
    /// Calls that may wait for one agent.
    pub agent_queue: NonZeroUsize,
    /// Sessions kept. `limits.sessions`.
    pub sessions: NonZeroUsize,
}

/// For one agent: whoever calls so often while a gateway stands still is a broken caller, and must
/// not take all of `limits.calls`.
const AGENT_QUEUE: NonZeroUsize = NonZeroUsize::new(512).unwrap();

pub(super) fn limits(section: &Section<'_>) -> Limits {
    let limits = Limits {
        calls: section.count("calls", 2048, 1_000_000),
        requests: section.count("requests", 64, 10_000),
        queue_wait: section.duration("queue_wait", 100 * MILLISECOND, MILLISECOND..=MINUTE),
        agent_queue: AGENT_QUEUE,
        sessions: section.count("sessions", 10_000, 1_000_000),
    };
    if limits.requests > limits.calls {
        section.contradiction(
            &["requests", "calls"],
            Problem::new(
                format!("requests {} is above calls {}", limits.requests, limits.calls),
                "give calls at least as much as requests: it counts the waiting ones too",
            ),
        );
    }
    limits
}
