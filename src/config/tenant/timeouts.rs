//! `[tenants.<id>.timeouts]`.

use std::time::Duration;

use crate::config::{
    reader::Section,
    scalar::{HOUR, MILLISECOND, MINUTE, SECOND},
};

/// Time limits for a tenant's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a new connection: name lookup, TCP and TLS together. `timeouts.connect`.
    pub connect: Duration,
    /// For a request, from sending it to the last byte of the answer. `timeouts.request`.
    pub request: Duration,
    /// The same for a sign-in. `timeouts.sign_in`.
    pub sign_in: Duration,
    /// How long a gateway may still be carrying out a request whose connection has failed. `timeouts.settle`.
    pub settle: Duration,
    /// For the answer to an event poll, which the gateway may hold back for up to ten seconds
    /// (cec_07_1274). `timeouts.poll`.
    pub poll: Duration,
    /// How long an idle connection is kept, up to five minutes; it should be below the gateway's own keep-alive time.
    /// `timeouts.idle`.
    pub idle: Duration,
}

pub(super) fn timeouts(section: &Section<'_>) -> Timeouts {
    Timeouts {
        connect: section.duration("connect", 2 * SECOND, MILLISECOND..=MINUTE),
        request: section.duration("request", 8 * SECOND, MILLISECOND..=10 * MINUTE),
        settle: section.duration("settle", 2 * SECOND, Duration::ZERO..=MINUTE),
        sign_in: section.duration("sign_in", 15 * SECOND, MILLISECOND..=10 * MINUTE),
        poll: section.duration("poll", 15 * SECOND, MILLISECOND..=10 * MINUTE),
        idle: section.duration("idle", 30 * SECOND, MILLISECOND..=HOUR),
    }
}
