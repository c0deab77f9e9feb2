//! `[server.http2]`.

use std::time::Duration;

use super::{
    error::Wrong,
    reader::Section,
    scalar::{HOUR, MINUTE, SECOND},
};

/// Limits of one HTTP/2 connection; each is set by name, none is left to a library's default.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Calls at once on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes a caller may send on one stream before it has to wait.
    pub stream_window: u32,
    /// Bytes a caller may send on one connection before it has to wait.
    pub connection_window: u32,
    /// Bytes of one frame.
    pub max_frame_size: u32,
    /// Bytes of a request's headers, decoded.
    pub max_header_list_size: u32,
    /// Streams reset by the caller that have not been dealt with yet; more end the connection.
    pub max_pending_accept_reset_streams: usize,
    /// Streams reset for the caller's errors; more end the connection.
    pub max_local_error_reset_streams: usize,
    /// Bytes of one response that may wait to be written.
    pub max_send_buffer: usize,
    /// Bytes of one request message.
    pub max_message_size: usize,
    /// How often a connection is pinged.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
}

/// A window in HTTP/2 (RFC 9113, section 6.9.1).
const WINDOW_MAX: u32 = i32::MAX as u32;
/// What every HTTP/2 peer starts with (RFC 9113, section 6.9.2).
const WINDOW_MIN: u32 = 65_535;
/// A frame in HTTP/2 (RFC 9113, section 4.2).
const FRAME_MIN: u32 = 16_384;
const FRAME_MAX: u32 = 16_777_215;

const MIB: usize = 1024 * 1024;

pub(super) fn http2(section: &Section<'_>) -> Http2 {
    let windows = WINDOW_MIN..=WINDOW_MAX;
    let http2 = Http2 {
        max_concurrent_streams: section.whole("max_concurrent_streams", 100, 1..=100_000),
        stream_window: section.whole("stream_window", 65_536, windows.clone()),
        connection_window: section.whole("connection_window", 131_072, windows),
        max_frame_size: section.whole("max_frame_size", FRAME_MIN, FRAME_MIN..=FRAME_MAX),
        max_header_list_size: section.whole("max_header_list_size", 16_384, 4096..=1_048_576),
        max_pending_accept_reset_streams: section.whole(
            "max_pending_accept_reset_streams",
            20,
            1..=100_000,
        ),
        max_local_error_reset_streams: section.whole(
            "max_local_error_reset_streams",
            1024,
            1..=100_000,
        ),
        max_send_buffer: section.whole("max_send_buffer", 65_536, 16_384..=64 * MIB),
        max_message_size: section.whole("max_message_size", 16_384, 1024..=4 * MIB),
        keepalive_interval: section.duration("keepalive_interval", 30 * SECOND, SECOND..=HOUR),
        keepalive_timeout: section.duration("keepalive_timeout", 10 * SECOND, SECOND..=10 * MINUTE),
    };
    if http2.connection_window < http2.stream_window {
        section.contradiction(
            &["connection_window", "stream_window"],
            Wrong::new(
                format!(
                    "connection_window {} is below stream_window {}",
                    http2.connection_window, http2.stream_window
                ),
                "give the connection at least the window of one of its streams",
            ),
        );
    }
    http2
}
