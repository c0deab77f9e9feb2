//! `[server]`.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use super::{
    Tenant,
    error::Problem,
    reader::{Section, section_of},
    scalar::{self, HOUR, MILLISECOND, MINUTE, SECOND},
};
use crate::id::TenantId;

/// The settings that all listeners share.
#[derive(Debug)]
pub struct Server {
    /// How often the configuration and its files are read again; `None`: only at SIGHUP.
    /// `server.reload_interval`.
    pub reload_interval: Option<Duration>,
    /// Runtime threads; `None`: one per core. `server.worker_threads`.
    pub worker_threads: Option<NonZeroUsize>,
    /// Whether the system may write core dumps, and other processes of the same user may read the memory.
    /// `server.core_dumps`.
    pub core_dumps: bool,
    /// Whether listeners without a `reflection` of their own serve it. `server.reflection`.
    pub reflection: bool,
    /// The deadline of a call whose caller set none; `None`: [`Server::derived_deadline`]. `server.default_deadline`.
    pub default_deadline: Option<Duration>,
    /// The default of that, which leaves time to sign an agent of any tenant in first.
    pub derived_deadline: Duration,
    /// Limits for all callers together. `[server.limits]`.
    pub limits: ServerLimits,
    /// How many connections there may be, and how long they last. `[server.connections]`.
    pub connections: Connections,
    /// How the bridge stops. `[server.drain]`.
    pub drain: Drain,
}

/// Limits for all callers together.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Concurrent calls, waiting ones included. `server.limits.calls`.
    pub calls: NonZeroUsize,
    /// The largest request message, in bytes. `server.limits.message_size`.
    pub message_size: usize,
}

/// How many connections there may be, and how long they last.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Connections that are served. `server.connections.max`.
    pub max: NonZeroUsize,
    /// How many of them one peer address may have. `server.connections.per_peer`.
    pub per_peer: NonZeroUsize,
    /// Handshakes in progress; they do not count as connections yet. `server.connections.handshakes`.
    pub handshakes: NonZeroUsize,
    /// How long a handshake may take: TLS, the HTTP/2 preface and the client's first settings.
    pub handshake_timeout: Duration,
    /// The age, plus or minus a tenth, at which a connection is asked to end (GOAWAY).
    pub max_age: Duration,
    /// How long after that it still accepts new calls. Calls that have begun are always finished.
    pub max_age_grace: Duration,
    /// Requests that a connection may bring a second. `server.connections.requests_per_second`.
    pub requests_per_second: NonZeroUsize,
    /// Streams that its peer may reset a second. `server.connections.resets_per_second`.
    pub resets_per_second: NonZeroUsize,
}

/// How the bridge stops.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The time from "not ready" to GOAWAY, in which balancers and callers learn that this replica
    /// stops. `server.drain.delay`.
    pub delay: Duration,
    /// The time from GOAWAY until calls in progress are cut. `server.drain.timeout`.
    pub timeout: Duration,
    /// What happens to the sessions that the bridge keeps. `server.drain.sessions`.
    pub sessions: LeftSessions,
}

/// What happens to kept sessions when the bridge stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftSessions {
    /// They are left for the next process. The gateway ends a session that nobody polls for two
    /// minutes (cec_07_1202).
    Leave,
    /// Their agents are signed out, within the drain's timeout.
    SignOut,
}

const MIB: usize = 1024 * 1024;

/// The lower bound of [`Server::derived_deadline`].
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The default of [`Server::reload_interval`].
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);

/// See [`Server::reflection`].
pub(super) fn reflection(section: &Section<'_>) -> bool {
    section.truth("reflection", true)
}

fn core_dumps(section: &Section<'_>) -> bool {
    let allowed = section.truth("core_dumps", false);
    if allowed {
        let warning = "server.core_dumps is true: a core dump has all passwords, Guids and keys, and so has \
                       the memory, which other programs of the same user can read; set it to false after you \
                       have looked for a fault";
        section.notes().warn(warning.to_owned());
    }
    allowed
}

fn reload_interval(section: &Section<'_>) -> Option<Duration> {
    let given = section.read("reload_interval", |node| match scalar::text(node) {
        Ok("off") => Ok(None),
        _ => scalar::duration(node, &(SECOND..=24 * HOUR)).map(Some),
    });
    given.unwrap_or(Some(RELOAD_INTERVAL))
}

/// Reads `[server]`. Some defaults depend on the tenants, and on whether there is a store.
pub(super) fn server(
    section: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    has_store: bool,
) -> Server {
    let worker_threads = section.count("worker_threads", 1, 1024);
    Server {
        worker_threads: section.has("worker_threads").then_some(worker_threads),
        core_dumps: core_dumps(section),
        reflection: reflection(section),
        reload_interval: reload_interval(section),
        default_deadline: section.optional_duration("default_deadline", MILLISECOND..=HOUR),
        derived_deadline: derived_deadline(tenants),
        limits: limits(&section.section("limits"), tenants.len()),
        connections: connections(&section.section("connections")),
        drain: drain(&section.section("drain"), has_store),
    }
}

fn derived_deadline(tenants: &BTreeMap<TenantId, Tenant>) -> Duration {
    let longest = tenants.values().map(first_call).max();
    longest.unwrap_or_default().max(DEFAULT_DEADLINE)
}

/// A warning if a `given` default deadline leaves too little time to sign an agent in.
pub(super) fn deadline_warning(
    given: Duration,
    tenants: &BTreeMap<TenantId, Tenant>,
) -> Option<String> {
    let (id, tenant) = tenants.iter().find(|(_, tenant)| given < sign_in(tenant))?;
    let shown = |time: Duration| humantime::format_duration(time).to_string();
    Some(format!(
        "server.default_deadline is {}, and a sign-in for {} may take {} \
         (timeouts.connect + timeouts.sign_in): a call without a deadline may end before its \
         agent is signed in; give at least {}, or leave default_deadline out",
        shown(given),
        section_of(id),
        shown(sign_in(tenant)),
        shown(first_call(tenant)),
    ))
}

/// The longest that a sign-in may take, with the time to connect.
fn sign_in(Tenant { timeouts, .. }: &Tenant) -> Duration {
    timeouts.connect + timeouts.sign_in
}

/// The longest that a call may take whose agent has to be signed in first. Each of its requests may
/// need a new connection, since another call may have taken the one of the sign-in. A second sign-in
/// attempt, with force or at a standby site, is not counted: for most callers it would only make the
/// deadline longer.
fn first_call(tenant: &Tenant) -> Duration {
    let requests = if tenant.reset_skills_after_sign_in { 2 } else { 1 };
    sign_in(tenant) + (tenant.timeouts.connect + tenant.timeouts.request) * requests
}

/// Reads the limits of a bridge with this many tenants. Each tenant needs a place of its own: without
/// one its calls would be refused for as long as other tenants take all places.
fn limits(section: &Section<'_>, tenants: usize) -> ServerLimits {
    let limits = ServerLimits {
        calls: section.count("calls", 10_000, 1_000_000),
        message_size: section.whole("message_size", 16_384, 1024..=4 * MIB),
    };
    let places = limits.calls.get();
    if places < tenants {
        section.contradiction(
            &["calls"],
            Problem::new(
                format!(
                    "{places} places are fewer than the {tenants} tenants, which need one each"
                ),
                format!("give at least {tenants}"),
            ),
        );
    }
    limits
}

fn connections(section: &Section<'_>) -> Connections {
    Connections {
        max: section.count("max", 2000, 1_000_000),
        per_peer: section.count("per_peer", 1000, 1_000_000),
        handshakes: section.count("handshakes", 256, 1_000_000),
        handshake_timeout: section.duration("handshake_timeout", 5 * SECOND, MILLISECOND..=MINUTE),
        max_age: section.duration("max_age", 20 * MINUTE, SECOND..=24 * HOUR),
        max_age_grace: section.duration("max_age_grace", 30 * SECOND, MILLISECOND..=HOUR),
        requests_per_second: section.count("requests_per_second", 20_000, 1_000_000),
        resets_per_second: section.count("resets_per_second", 1000, 1_000_000),
    }
}

fn drain(section: &Section<'_>, has_store: bool) -> Drain {
    // Without a store no process will know the sessions. A session that is left then only prevents
    // its agent from signing in until the gateway ends it.
    let sessions = if has_store { LeftSessions::Leave } else { LeftSessions::SignOut };
    Drain {
        delay: section.duration("delay", 4 * SECOND, Duration::ZERO..=10 * MINUTE),
        timeout: section.duration("timeout", 20 * SECOND, MILLISECOND..=HOUR),
        sessions: section
            .choice(
                "sessions",
                &[("leave", LeftSessions::Leave), ("sign-out", LeftSessions::SignOut)],
            )
            .unwrap_or(sessions),
    }
}
