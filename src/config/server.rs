//! `[server]`.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use super::{
    Tenant,
    error::Problem,
    reader::{Section, section_of},
    scalar::{HOUR, MILLISECOND, MINUTE, SECOND},
};
use crate::id::TenantId;

/// What all listeners have in common.
#[derive(Debug)]
pub struct Server {
    /// Runtime threads; `None`: one per core. `server.worker_threads`.
    pub worker_threads: Option<NonZeroUsize>,
    /// Whether reflection is served. `server.reflection`.
    pub reflection: bool,
    /// The deadline of a call whose caller set none; above the tenants' `timeouts.sign_in` unless
    /// the operator says otherwise. `server.default_deadline`.
    pub default_deadline: Duration,
    /// Bounds on what all callers together may take. `[server.limits]`.
    pub limits: ServerLimits,
    /// Connection limits and ages. `[server.connections]`.
    pub connections: Connections,
    /// How the bridge stops. `[server.drain]`.
    pub drain: Drain,
}

/// Bounds on what all callers together may take.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Calls in the bridge at once, waiting ones included. `server.limits.calls`.
    pub calls: NonZeroUsize,
    /// Bytes of one request message. `server.limits.message_size`.
    pub message_size: usize,
}

/// How many connections there may be, and for how long.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Connections that are served. `server.connections.max`.
    pub max: NonZeroUsize,
    /// Those of one peer address among them. `server.connections.per_peer`.
    pub per_peer: NonZeroUsize,
    /// Handshakes under way, beside them. `server.connections.handshakes`.
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
    /// From "not ready" to GOAWAY: the time callers need to hear of it. `server.drain.delay`.
    pub delay: Duration,
    /// From GOAWAY to the hard end. `server.drain.timeout`.
    pub timeout: Duration,
    /// What becomes of the sessions that the bridge keeps. `server.drain.sessions`.
    pub sessions: LeftSessions,
}

/// What becomes of kept sessions when the bridge stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftSessions {
    /// They are left as they are, for the next process; the gateway ends those that nobody polls
    /// within two minutes (cec_07_1202).
    Leave,
    /// Their agents are signed out, within the drain's timeout.
    SignOut,
}

const MIB: usize = 1024 * 1024;

/// The shortest default for [`Server::default_deadline`].
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// `[server]`, of a bridge with these tenants, whose sessions outlive it or not.
pub(super) fn server(
    section: &Section<'_>,
    tenants: &BTreeMap<TenantId, Tenant>,
    has_store: bool,
) -> Server {
    let worker_threads = section.count("worker_threads", 1, 1024);
    Server {
        worker_threads: section.has("worker_threads").then_some(worker_threads),
        reflection: section.truth("reflection", true),
        default_deadline: default_deadline(section, tenants),
        limits: limits(&section.section("limits"), tenants.len()),
        connections: connections(&section.section("connections")),
        drain: drain(&section.section("drain"), has_store),
    }
}

/// Long enough, where it is not given, for a call whose agent has to be signed in first.
fn default_deadline(section: &Section<'_>, tenants: &BTreeMap<TenantId, Tenant>) -> Duration {
    let given = section.optional_duration("default_deadline", MILLISECOND..=HOUR);
    let Some(given) = given else {
        let longest = tenants.values().map(first_call).max();
        return longest.unwrap_or_default().max(DEFAULT_DEADLINE);
    };
    let is_short = |(_, tenant): &(&TenantId, &Tenant)| given < sign_in(tenant);
    if let Some((id, tenant)) = tenants.iter().find(is_short) {
        let shown = |time: Duration| humantime::format_duration(time).to_string();
        section.notes().warn(format!(
            "server.default_deadline is {}, and a sign-in for {} may take {} \
             (timeouts.connect + timeouts.sign_in): a call without a deadline may end before its \
             agent is signed in; give at least {}, or leave default_deadline out",
            shown(given),
            section_of(id),
            shown(sign_in(tenant)),
            shown(first_call(tenant)),
        ));
    }
    given
}

/// How long a sign-in may take, with the connection for it.
fn sign_in(Tenant { timeouts, .. }: &Tenant) -> Duration {
    timeouts.connect + timeouts.sign_in
}

/// How long a call may take whose agent has to be signed in first: each of its requests may need a
/// connection, since another call may have taken the one of the sign-in. A second attempt, by force or at
/// a standby site, is not counted: most callers would wait for it in vain.
fn first_call(tenant: &Tenant) -> Duration {
    let requests = if tenant.reset_skills_after_sign_in { 2 } else { 1 };
    sign_in(tenant) + (tenant.timeouts.connect + tenant.timeouts.request) * requests
}

/// For so many tenants. One without a place of its own would never be served while others take what
/// there is.
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
                format!("{places} places are fewer than the {tenants} tenants, who need one each"),
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
    }
}

fn drain(section: &Section<'_>, has_store: bool) -> Drain {
    // A session that nobody will know only keeps its agent from signing in again.
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
