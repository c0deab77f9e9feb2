//! `[tenants.<id>]`.

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};

use http::Uri;
use rustls::pki_types::ServerName;

use super::{
    AuthMode, Events, Keep, Limits, Tenant, Timeouts, credentials,
    error::{Wrong, quote},
    reader::Section,
    scalar,
    server::{HOUR, MILLISECOND, MINUTE, SECOND},
    trust,
};
use crate::id::{DEFAULT_AGENT_IDS, TenantId};

/// The gateway's port where none is given (`cec_07_1202`).
const DEFAULT_PORT: u16 = 8043;
/// The path that the gateway's interfaces lie under (API.md, section 1).
const DEFAULT_PATH: &str = "/agentgateway/resource";
/// No gateway is known to use longer ids than nine digits.
const AGENT_ID_MAX: u32 = 999_999_999;
/// A gateway and its standby sites.
const BASE_URLS_MAX: usize = 16;

const BASE_URL_REMEDY: &str = "give https://<host>[:<port>][/<path>] without user name, query or \
                               fragment, such as \"https://gateway.example:8043\"";

pub(super) fn tenants(section: &Section<'_>) -> BTreeMap<TenantId, Tenant> {
    let mut tenants = BTreeMap::new();
    let mut any = false;
    for (name, section) in section.named() {
        any = true;
        let tenant = tenant(&section, name);
        match TenantId::parse(name) {
            Ok(id) => drop(tenants.insert(id, tenant)),
            Err(error) => section.error(Wrong::new(
                format!("{} is no id of a tenant", quote(name)),
                format!("it {error}"),
            )),
        }
    }
    if !any {
        section.none_named(Wrong::new(
            "no tenant is configured",
            "add one, for example\n      [tenants.acme]\n      \
             base_urls = [\"https://gateway.example:8043\"]\n    \
             or, in the environment,\n      \
             CCGW__TENANTS__ACME__BASE_URLS=https://gateway.example:8043",
        ));
    }
    tenants
}

fn tenant(section: &Section<'_>, name: &str) -> Tenant {
    let modes =
        [("dynamic", AuthMode::Dynamic), ("static", AuthMode::Static), ("none", AuthMode::None)];
    let auth_mode = section.choice("auth_mode", &modes).unwrap_or(AuthMode::Dynamic);
    let registered_ttl = match auth_mode {
        AuthMode::Dynamic => 2 * MINUTE,
        AuthMode::Static | AuthMode::None => 12 * HOUR,
    };
    let agent_ids = section.read("agent_ids", |node| agent_ids(scalar::text(node)?));
    let agent_ids = agent_ids.unwrap_or(DEFAULT_AGENT_IDS);
    let base_urls = base_urls(section);
    warn_of_plaintext(section, &base_urls, name);
    Tenant {
        base_urls,
        tls: trust::gateway_tls(&section.section("tls"), name),
        auth_mode,
        registered_ttl: section.duration("registered_ttl", registered_ttl, SECOND..=24 * HOUR),
        timeouts: timeouts(&section.section("timeouts")),
        limits: limits(&section.section("limits")),
        keep: keep(&section.section("keep")),
        events: events(&section.section("events")),
        reset_skills_after_sign_in: section.truth("reset_skills_after_sign_in", false),
        credentials: credentials::read(section, &agent_ids).map(Arc::new),
        agent_ids,
    }
}

fn warn_of_plaintext(section: &Section<'_>, base_urls: &[Uri], name: &str) {
    for url in base_urls.iter().filter(|url| url.scheme_str() == Some("http")) {
        section.notes().warn(format!(
            "tenant {name}: {}.base_urls has {url}: Guids and passwords go over the network in \
             plain text; give an https:// address unless a proxy on this machine adds TLS",
            section.key()
        ));
    }
}

fn base_urls(section: &Section<'_>) -> Vec<Uri> {
    let urls = section.list("base_urls", BASE_URLS_MAX, base_url);
    section.missing("base_urls", BASE_URL_REMEDY);
    let urls = urls.unwrap_or_default();
    let mut seen = HashSet::new();
    if let Some(twice) = urls.iter().find(|url| !seen.insert(*url)) {
        let problem = format!("names {twice} twice");
        let wrong = Wrong::new(problem, "give each address once");
        section.contradiction(&["base_urls"], wrong);
    }
    urls
}

fn base_url(text: &str) -> Result<Uri, Wrong> {
    // What comes before an '@' may be a password, so it is not repeated.
    if text.contains('@') {
        let problem = "has an address with a user name or password";
        return Err(Wrong::new(problem, BASE_URL_REMEDY));
    }
    usable(text).ok_or_else(|| {
        let problem = format!("{} is no address of a gateway", quote(text));
        Wrong::new(problem, BASE_URL_REMEDY)
    })
}

fn usable(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"))?;
    let authority = uri.authority()?;
    let host = authority.host().to_ascii_lowercase();
    ServerName::try_from(host.trim_matches(['[', ']'])).ok()?;
    let port = match authority.as_str().get(host.len()..) {
        Some("") => DEFAULT_PORT,
        _ => authority.port_u16().filter(|port| *port > 0)?,
    };
    if uri.query().is_some() || text.contains('#') {
        return None;
    }
    let path = match uri.path().trim_end_matches('/') {
        "" => DEFAULT_PATH,
        path => path,
    };
    format!("{scheme}://{host}:{port}{path}").parse().ok()
}

fn agent_ids(text: &str) -> Result<RangeInclusive<u32>, Wrong> {
    let ends = text.split_once('-').and_then(|(from, to)| {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        Some(number(from)?..=number(to)?)
    });
    let good = |range: &RangeInclusive<u32>| {
        *range.start() >= 1 && range.start() <= range.end() && *range.end() <= AGENT_ID_MAX
    };
    ends.filter(good).ok_or_else(|| {
        Wrong::new(
            format!("{} is no range of agent ids", quote(text)),
            format!(
                "give \"<lowest>-<highest>\" within 1 and {AGENT_ID_MAX}, such as \"101-59999\""
            ),
        )
    })
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    Timeouts {
        connect: section.duration("connect", 2 * SECOND, MILLISECOND..=MINUTE),
        request: section.duration("request", 8 * SECOND, MILLISECOND..=10 * MINUTE),
        sign_in: section.duration("sign_in", 15 * SECOND, MILLISECOND..=10 * MINUTE),
        poll: section.duration("poll", 15 * SECOND, MILLISECOND..=10 * MINUTE),
        idle: section.duration("idle", 30 * SECOND, MILLISECOND..=HOUR),
    }
}

fn keep(section: &Section<'_>) -> Keep {
    let keep = Keep {
        enabled: section.truth("enabled", true),
        pause_min: section.duration("pause_min", 200 * MILLISECOND, MILLISECOND..=MINUTE),
        pause_max: section.duration("pause_max", 500 * MILLISECOND, MILLISECOND..=MINUTE),
        guid_interval: section.duration("guid_interval", 45 * SECOND, MILLISECOND..=HOUR),
        refusals: section.whole("refusals", 3, 1..=100),
        silence: section.duration("silence", MINUTE, MILLISECOND..=HOUR),
        recovery: section.duration("recovery", 10 * MINUTE, SECOND..=24 * HOUR),
        sign_ins_per_second: section.whole("sign_ins_per_second", 50, 1..=10_000),
        take_backs: section.whole("take_backs", 6, 1..=100),
        take_back_pause: section.duration("take_back_pause", 5 * SECOND, MILLISECOND..=HOUR),
        rejected_for: section.duration("rejected_for", MINUTE, SECOND..=24 * HOUR),
    };
    if keep.pause_min > keep.pause_max {
        section.contradiction(
            &["pause_min", "pause_max"],
            Wrong::new("pause_min is above pause_max", "give the shorter pause as pause_min"),
        );
    }
    keep
}

fn events(section: &Section<'_>) -> Events {
    Events {
        kept: section.count("kept", 4096, 1_000_000),
        kept_bytes: section.count("kept_bytes", 8 * 1024 * 1024, 1024 * 1024 * 1024),
        watches: section.count("watches", 64, 10_000),
    }
}

fn limits(section: &Section<'_>) -> Limits {
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
