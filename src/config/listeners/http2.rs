//! `[listeners.<name>.http2]`.

use std::time::Duration;

use crate::config::{
    reader::Section,
    scalar::{HOUR, MINUTE, SECOND},
};

/// Limits of one HTTP/2 connection that an operator may set. The other limits are constants of the
/// server.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Concurrent calls on one connection. `http2.max_concurrent_streams`.
    pub max_concurrent_streams: u32,
    /// How often a connection is pinged. `http2.keepalive_interval`.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered. `http2.keepalive_timeout`.
    pub keepalive_timeout: Duration,
}

pub(super) fn http2(section: &Section<'_>) -> Http2 {
    Http2 {
        max_concurrent_streams: section.whole("max_concurrent_streams", 100, 1..=100_000),
        keepalive_interval: section.duration("keepalive_interval", 30 * SECOND, SECOND..=HOUR),
        keepalive_timeout: section.duration("keepalive_timeout", 10 * SECOND, SECOND..=10 * MINUTE),
    }
}
