//! `[server]`.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use super::{
    Identity,
    error::{Wrong, quote},
    http2::{self, Http2},
    reader::Section,
    scalar::{self, HOUR, MILLISECOND, MINUTE, SECOND},
};

/// The side that callers connect to.
#[derive(Debug)]
pub struct Server {
    /// Where gRPC callers connect. `server.listen`.
    pub listen: SocketAddr,
    /// Where health and readiness are asked for, over plain HTTP; `None`: nowhere.
    /// `server.admin_listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Runtime threads; `None`: one per core. `server.worker_threads`.
    pub worker_threads: Option<NonZeroUsize>,
    /// Whether reflection is served. `server.reflection`.
    pub reflection: bool,
    /// Calls in the bridge at once, waiting ones included. `server.calls_max`.
    pub calls_max: NonZeroUsize,
    /// The deadline of a call whose caller set none. `server.default_deadline`.
    pub default_deadline: Duration,
    /// The bridge's own certificate; `None`: plaintext. `[server.tls]`.
    pub tls: Option<Identity>,
    /// HTTP/2 limits. `[server.http2]`.
    pub http2: Http2,
    /// Connection limits and ages. `[server.connections]`.
    pub connections: Connections,
    /// How the bridge stops. `[server.drain]`.
    pub drain: Drain,
}

/// How many connections there may be, and for how long.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Connections that are served.
    pub max: NonZeroUsize,
    /// Those of one peer address among them.
    pub per_peer: NonZeroUsize,
    /// Handshakes under way, beside them.
    pub handshakes: NonZeroUsize,
    /// From accepting a connection to a place for it: TLS, HTTP/2's preface and the client's first
    /// settings.
    pub handshake_timeout: Duration,
    /// After this long, give or take a tenth, a connection is asked to end (GOAWAY).
    pub max_age: Duration,
    /// How long it takes new calls after that. Those that have begun are finished in any case.
    pub max_age_grace: Duration,
}

/// How the bridge stops.
#[derive(Clone, Debug)]
pub struct Drain {
    /// From "not ready" to GOAWAY: the time callers need to hear of it.
    pub spread: Duration,
    /// From GOAWAY to the hard end.
    pub limit: Duration,
    /// What becomes of the sessions that the bridge keeps.
    pub sessions: LeftSessions,
}

/// What becomes of kept sessions when the bridge stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftSessions {
    /// They are left as they are, for the next process; the gateway ends those that nobody polls
    /// within two minutes (cec_07_1202).
    Leave,
    /// Their agents are signed out, within the drain's limit.
    SignOut,
}

const DEFAULT_LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 50051);
const DEFAULT_ADMIN_LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 9090);

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
        http2: http2::http2(&section.section("http2")),
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
