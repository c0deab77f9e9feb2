//! Keys of earlier versions. The error for such a key says what to do instead.

/// What became of a former key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was renamed to this, with `*` for a name that the operator chose.
    Renamed(&'static str),
    /// It was removed: nobody had a reason to set it, so the bridge chooses the value.
    Gone,
}

use Fate::{Gone, Renamed};

/// The former keys, dotted, with `*` for a name that the operator chose.
const FORMER: &[(&str, Fate)] = &[
    ("server.listen", Renamed("listeners.default.address")),
    ("server.admin_listen", Renamed("admin.address")),
    ("server.calls_max", Renamed("server.limits.calls")),
    ("server.tls.certificate", Renamed("listeners.default.tls.certificate_file")),
    ("server.tls.key", Renamed("listeners.default.tls.key_file")),
    (
        "server.http2.max_concurrent_streams",
        Renamed("listeners.default.http2.max_concurrent_streams"),
    ),
    ("server.http2.keepalive_interval", Renamed("listeners.default.http2.keepalive_interval")),
    ("server.http2.keepalive_timeout", Renamed("listeners.default.http2.keepalive_timeout")),
    ("server.http2.max_message_size", Renamed("server.limits.message_size")),
    ("server.http2.stream_window", Gone),
    ("server.http2.connection_window", Gone),
    ("server.http2.max_frame_size", Gone),
    ("server.http2.max_header_list_size", Gone),
    ("server.http2.max_send_buffer", Gone),
    ("server.http2.max_pending_accept_reset_streams", Gone),
    ("server.http2.max_local_error_reset_streams", Gone),
    ("server.drain.spread", Renamed("server.drain.delay")),
    ("server.drain.limit", Renamed("server.drain.timeout")),
    ("gateway.host_in_flight", Renamed("gateway.host_requests")),
    ("tenants.*.limits.in_flight", Renamed("tenants.*.limits.requests")),
    ("tenants.*.limits.agent_queue", Gone),
    ("tenants.*.keep.refusals", Gone),
    ("tenants.*.keep.silence", Gone),
    ("tenants.*.events.kept_bytes", Gone),
    ("tenants.*.tls.pinned_certificate", Renamed("tenants.*.tls.pinned_certificate_file")),
    ("tenants.*.tls.client_certificate", Renamed("tenants.*.tls.client_certificate_file")),
    ("tenants.*.tls.client_key", Renamed("tenants.*.tls.client_key_file")),
    ("store.encryption_keys", Renamed("store.encryption_key_files")),
    ("store.timeouts.heartbeat", Gone),
    ("traces.queue", Gone),
    ("traces.interval", Gone),
    ("traces.timeout", Gone),
    ("traces.tls.client_certificate", Renamed("traces.tls.client_certificate_file")),
    ("traces.tls.client_key", Renamed("traces.tls.client_key_file")),
];

/// What became of a key; `None` if no earlier version had it.
pub(super) fn fate(pattern: &str) -> Option<Fate> {
    FORMER.iter().find(|(key, _)| *key == pattern).map(|(_, fate)| *fate)
}

/// Whether an earlier version had keys in this section.
pub(super) fn was_section(pattern: &str) -> bool {
    let inside = |key: &str| key.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.'));
    FORMER.iter().any(|(key, _)| inside(key))
}

#[cfg(test)]
pub(super) fn all() -> &'static [(&'static str, Fate)] {
    FORMER
}
