//! `[tenants.<id>.limits]`.

use std::{num::NonZeroUsize, time::Duration};

use crate::config::{
    error::Problem,
    reader::Section,
    scalar::{MILLISECOND, MINUTE, SECOND},
};

/// Limits for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent calls, waiting ones included. `limits.calls`.
    pub calls: NonZeroUsize,
    /// Concurrent requests to the gateway; polls are not counted. `limits.requests`.
    pub requests: NonZeroUsize,
    /// How long a call may wait for one of these requests' places; a tenth of it while other calls get places.
    /// `limits.queue_wait`.
    pub queue_wait: Duration,
    /// The most calls that may wait for one agent.
    pub agent_queue: NonZeroUsize,
    /// The most sessions that are kept. `limits.sessions`.
    pub sessions: NonZeroUsize,
}

/// The queue of one agent. So many waiting calls for one agent come only from a broken caller, which
/// must not take all of `limits.calls` while the gateway hangs.
const AGENT_QUEUE: NonZeroUsize = NonZeroUsize::new(512).unwrap();

pub(super) fn limits(section: &Section<'_>) -> Limits {
    let limits = Limits {
        calls: section.count("calls", 2048, 1_000_000),
        requests: section.count("requests", 64, 10_000),
        queue_wait: section.duration("queue_wait", SECOND, MILLISECOND..=MINUTE),
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
