//! `[tenants.<id>.limits]` and `[tenants.<id>.events]`.

use std::{num::NonZeroUsize, time::Duration};

use crate::config::{
    error::Problem,
    reader::Section,
    scalar::{MILLISECOND, MINUTE},
};

/// How many events are kept for callers who ask for missed events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The most events that are kept. `events.kept`.
    pub kept: NonZeroUsize,
    /// The most bytes that they may take; if events are large, fewer are kept.
    pub kept_bytes: NonZeroUsize,
    /// The most concurrent watches of events. `events.watches`.
    pub watches: NonZeroUsize,
}

/// Limits for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent calls, waiting ones included. `limits.calls`.
    pub calls: NonZeroUsize,
    /// Concurrent requests to the gateway; polls are not counted. `limits.requests`.
    pub requests: NonZeroUsize,
    /// How long a call may wait for one of these requests' places. `limits.queue_wait`.
    pub queue_wait: Duration,
    /// The most calls that may wait for one agent.
    pub agent_queue: NonZeroUsize,
    /// The most sessions that are kept. `limits.sessions`.
    pub sessions: NonZeroUsize,
}

/// The size of a tenant's event log, in bytes. About two thousand events fit, with contents of the
/// usual size.
const EVENT_BYTES: NonZeroUsize = NonZeroUsize::new(8 * 1024 * 1024).unwrap();
/// The queue of one agent. So many waiting calls for one agent come only from a broken caller, which
/// must not take all of `limits.calls` while the gateway hangs.
const AGENT_QUEUE: NonZeroUsize = NonZeroUsize::new(512).unwrap();

pub(super) fn events(section: &Section<'_>) -> Events {
    Events {
        kept: section.count("kept", 4096, 1_000_000),
        kept_bytes: EVENT_BYTES,
        watches: section.count("watches", 64, 10_000),
    }
}

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
