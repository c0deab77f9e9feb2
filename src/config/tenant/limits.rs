//! `[tenants.<id>.limits]` and `[tenants.<id>.events]`.

use std::{num::NonZeroUsize, time::Duration};

use crate::config::{
    error::Wrong,
    reader::Section,
    scalar::{MILLISECOND, MINUTE},
};

/// How many events are kept for callers who come back for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events kept. `events.kept`.
    pub kept: NonZeroUsize,
    /// Bytes that they may take; fewer events are kept where they are large. `events.kept_bytes`.
    pub kept_bytes: NonZeroUsize,
    /// Callers who watch events at once. `events.watches`.
    pub watches: NonZeroUsize,
}

/// Bounds on what a tenant may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once, waiting ones included. `limits.calls`.
    pub calls: NonZeroUsize,
    /// Requests to the gateway at once; polls are not counted. `limits.in_flight`.
    pub in_flight: NonZeroUsize,
    /// How long a call may wait to be one of those. `limits.queue_wait`.
    pub queue_wait: Duration,
    /// Calls that may wait for one agent. `limits.agent_queue`.
    pub agent_queue: NonZeroUsize,
    /// Sessions kept. `limits.sessions`.
    pub sessions: NonZeroUsize,
}

pub(super) fn events(section: &Section<'_>) -> Events {
    Events {
        kept: section.count("kept", 4096, 1_000_000),
        kept_bytes: section.count("kept_bytes", 8 * 1024 * 1024, 1024 * 1024 * 1024),
        watches: section.count("watches", 64, 10_000),
    }
}

pub(super) fn limits(section: &Section<'_>) -> Limits {
    let limits = Limits {
        calls: section.count("calls", 2048, 1_000_000),
        in_flight: section.count("in_flight", 64, 10_000),
        queue_wait: section.duration("queue_wait", 100 * MILLISECOND, MILLISECOND..=MINUTE),
        agent_queue: section.count("agent_queue", 512, 100_000),
        sessions: section.count("sessions", 10_000, 1_000_000),
    };
    if limits.in_flight > limits.calls {
        section.contradiction(
            &["in_flight", "calls"],
            Wrong::new(
                format!("in_flight {} is above calls {}", limits.in_flight, limits.calls),
                "give calls at least as much as in_flight: it counts the waiting ones too",
            ),
        );
    }
    limits
}
