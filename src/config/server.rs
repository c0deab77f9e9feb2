//! `[server]` and `[log]`.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{
    Connections, Drain, Http2, LeftSessions, Log, LogFormat, Server,
    error::{Wrong, quote},
    reader::Section,
    scalar,
};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

/// A window in HTTP/2 (RFC 9113, section 6.9.1).
const WINDOW_MAX: u32 = i32::MAX as u32;
/// What every HTTP/2 peer starts with (RFC 9113, section 6.9.2).
const WINDOW_MIN: u32 = 65_535;
/// A frame in HTTP/2 (RFC 9113, section 4.2).
const FRAME_MIN: u32 = 16_384;
const FRAME_MAX: u32 = 16_777_215;

const DEFAULT_LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 50051);
const DEFAULT_ADMIN_LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 9090);

const MIB: usize = 1024 * 1024;

/// `[server]`, of a bridge whose sessions outlive it or not.
pub(super) fn server(section: &Section<'_>, has_store: bool) -> Server {
    let listen = section.read("listen", |node| address(scalar::text(node)?));
    let admin_listen = section.read("admin_listen", |node| match scalar::text(node)? {
        "off" => Ok(None),
        text => address(text).map(Some),
    });
    let worker_threads = section.count("worker_threads", 1, 1024);
    let server = Server {
        listen: listen.unwrap_or(DEFAULT_LISTEN.into()),
        admin_listen: admin_listen.unwrap_or(Some(DEFAULT_ADMIN_LISTEN.into())),
        worker_threads: section.has("worker_threads").then_some(worker_threads),
        reflection: section.truth("reflection", true),
        calls_max: section.count("calls_max", 10_000, 1_000_000),
        default_deadline: section.duration(
            "default_deadline",
            Duration::from_secs(10),
            MILLISECOND..=HOUR,
        ),
        tls: section.section("tls").identity("certificate", "key"),
        http2: http2(&section.section("http2")),
        connections: connections(&section.section("connections")),
        drain: drain(&section.section("drain"), has_store),
    };
    check_ports(section, &server);
    server
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            format!("{} is no address to listen on", quote(text)),
            "give an IP address and a port, such as \"0.0.0.0:50051\" or \"[::]:50051\"",
        )
    })
}

fn check_ports(section: &Section<'_>, server: &Server) {
    if server.admin_listen == Some(server.listen) && server.listen.port() != 0 {
        section.contradiction(
            &["admin_listen", "listen"],
            Wrong::new(
                format!("listen and admin_listen are both {}", server.listen),
                "give each its own port, or admin_listen = \"off\"",
            ),
        );
    }
}

/// A tenant without a place of its own would never be served while others take what there is.
pub(super) fn check_places(section: &Section<'_>, server: &Server, tenants: usize) {
    let places = server.calls_max.get();
    if places < tenants {
        section.contradiction(
            &["calls_max"],
            Wrong::new(
                format!("{places} places are fewer than the {tenants} tenants, who need one each"),
                format!("give at least {tenants}"),
            ),
        );
    }
}

fn http2(section: &Section<'_>) -> Http2 {
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

fn connections(section: &Section<'_>) -> Connections {
    Connections {
        max: section.count("max", 2000, 1_000_000),
        per_peer: section.count("per_peer", 1000, 1_000_000),
        handshakes: section.count("handshakes", 256, 1_000_000),
        handshake_timeout: section.duration("handshake_timeout", 5 * SECOND, MILLISECOND..=MINUTE),
        max_age: section.duration("max_age", 20 * MINUTE, SECOND..=24 * HOUR),
        max_age_grace: section.duration("max_age_grace", 30 * SECOND, MILLISECOND..=HOUR),
    }
}

fn drain(section: &Section<'_>, has_store: bool) -> Drain {
    // A session that nobody will know only keeps its agent from signing in again.
    let sessions = if has_store { LeftSessions::Leave } else { LeftSessions::SignOut };
    Drain {
        spread: section.duration("spread", 4 * SECOND, Duration::ZERO..=10 * MINUTE),
        limit: section.duration("limit", 20 * SECOND, MILLISECOND..=HOUR),
        sessions: section
            .choice(
                "sessions",
                &[("leave", LeftSessions::Leave), ("sign-out", LeftSessions::SignOut)],
            )
            .unwrap_or(sessions),
    }
}

pub(super) fn log(section: &Section<'_>) -> Log {
    let filter = section.read("filter", |node| {
        let text = scalar::text(node)?;
        // `EnvFilter` takes nothing for "errors only", which hardly anybody means.
        let good = !text.trim().is_empty() && EnvFilter::builder().parse(text).is_ok();
        good.then(|| text.to_owned()).ok_or_else(|| {
            Wrong::new(
                format!("{} is no log filter", quote(text)),
                "give directives such as \"info\" or \"ccgateway_bridge=debug,info\"",
            )
        })
    });
    let formats =
        [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
    Log {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        format: section.choice("format", &formats).unwrap_or(LogFormat::Auto),
    }
}

/// `gateway.host_in_flight`.
pub(super) fn host_in_flight(section: &Section<'_>) -> NonZeroUsize {
    section.count("host_in_flight", 128, 100_000)
}
