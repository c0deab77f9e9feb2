//! `[tenants.<id>]`.

mod base_urls;
mod breaker;
mod edition;
mod events;
pub(super) mod keep;
mod limits;
mod request_ids;
mod timeouts;

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc, time::Duration};

use http::Uri;

use self::base_urls::{base_urls, warn_of_plaintext};
pub use self::{
    breaker::Breaker,
    edition::Edition,
    events::Events,
    keep::{Keep, PollFor},
    limits::Limits,
    request_ids::RequestIds,
    timeouts::Timeouts,
};
use super::{
    ClientTls, Credentials, credentials,
    error::{Problem, quote},
    reader::Section,
    scalar::{self, HOUR, MINUTE, SECOND},
    trust,
    variables::has_separator,
};
use crate::id::{AGENT_IDS_ANY, TenantId};

/// One tenant and its gateway.
#[derive(Debug)]
pub struct Tenant {
    /// The gateway's addresses, in order of preference; at least one. Each has a scheme, an
    /// authority and the path prefix of the interfaces, without a final slash. `base_urls`.
    pub base_urls: Vec<Uri>,
    /// How the gateway's certificate is checked, and the bridge's own client certificate. `tls`.
    pub tls: ClientTls,
    /// How the gateway treats Guids (AUTHMODE). `auth_mode`.
    pub auth_mode: AuthMode,
    /// The edition of the gateway's interface. `edition`.
    pub edition: Edition,
    /// The agent ids that the gateway accepts; by default those of its edition. `agent_ids`.
    pub agent_ids: RangeInclusive<u32>,
    /// How long a registered Guid is valid, unless it is registered again. `registered_ttl`.
    pub registered_ttl: Duration,
    /// When an address of the gateway is not asked for a while. `breaker`.
    pub breaker: Breaker,
    /// Time limits for the tenant's gateway. `timeouts`.
    pub timeouts: Timeouts,
    /// Limits for the tenant. `limits`.
    pub limits: Limits,
    /// How long outcomes are remembered by the ids of their requests. `request_ids`.
    pub request_ids: RequestIds,
    /// How the sessions that the bridge made are kept alive. `keep`.
    pub keep: Keep,
    /// How many events are kept for callers who ask for missed events. `events`.
    pub events: Events,
    /// Whether the bridge resets an agent's skill queues after each sign-in. On some gateways agents
    /// get no calls otherwise (cec_07_1209). `reset_skills_after_sign_in`.
    pub reset_skills_after_sign_in: bool,
    /// Whether the bridge asks what an agent is doing when the answer to a change was lost. `read_back`.
    pub read_back: bool,
    /// The names of the sections of `[callers]` that are about this tenant too. `callers`.
    pub callers: Vec<String>,
    /// Credentials with which the bridge signs agents in by itself. `credentials_file`.
    pub credentials: Option<Arc<Credentials>>,
}

impl Tenant {
    /// This configuration, but with what does not change while the bridge runs: whether sessions are kept,
    /// how many there may be, and how many events and watches.
    #[must_use]
    pub fn with_lasting_of(mut self, before: &Self) -> Self {
        self.keep.enabled = before.keep.enabled;
        self.limits.sessions = before.limits.sessions;
        self.events = before.events.clone();
        self
    }
}

/// How a gateway treats Guids; its setting AUTHMODE (`cec_07_0005`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// AUTHMODE 1: one Guid for the whole session.
    Static,
    /// AUTHMODE 2, the gateway's default: a new Guid every minute.
    Dynamic,
    /// No Guids: the gateway, or a proxy before it, recognizes its clients in another way, such as by
    /// their certificates (client).
    None,
}

pub(super) const CALLERS_MAX: usize = 256;

/// `is_shared`: replicas share the sessions.
pub(super) fn tenants(section: &Section<'_>, is_shared: bool) -> BTreeMap<TenantId, Tenant> {
    let mut tenants = BTreeMap::new();
    let mut any = false;
    for (name, section) in section.named() {
        any = true;
        let tenant = tenant(&section, name, is_shared);
        match TenantId::parse(name) {
            Ok(_) if has_separator(name) => section.error(Problem::new(
                format!("{} is not a valid tenant id", quote(name)),
                "it must not contain \"__\" or end with \"_\", since \"__\" stands for a dot in the \
                 names of environment variables",
            )),
            Ok(id) => drop(tenants.insert(id, tenant)),
            Err(error) => section.error(Problem::new(
                format!("{} is not a valid tenant id", quote(name)),
                format!("it {error}"),
            )),
        }
    }
    if !any {
        section.none_named(Problem::new(
            "no tenant is configured",
            "add one, for example\n      [tenants.acme]\n      \
             base_urls = [\"https://gateway.example:8043\"]\n    \
             or, in the environment,\n      \
             CCGW__TENANTS__ACME__BASE_URLS=https://gateway.example:8043",
        ));
    }
    tenants
}

fn tenant(section: &Section<'_>, name: &str, is_shared: bool) -> Tenant {
    let modes =
        [("dynamic", AuthMode::Dynamic), ("static", AuthMode::Static), ("none", AuthMode::None)];
    let auth_mode = section.choice("auth_mode", &modes).unwrap_or(AuthMode::Dynamic);
    let registered_ttl = match auth_mode {
        AuthMode::Dynamic => 2 * MINUTE,
        AuthMode::Static | AuthMode::None => 12 * HOUR,
    };
    let agent_ids = section.read("agent_ids", |node| agent_ids(scalar::text(node)?));
    let edition = edition::edition(section);
    let agent_ids = agent_ids.unwrap_or_else(|| edition.agent_ids());
    let base_urls = base_urls(section);
    warn_of_plaintext(section, &base_urls, name);
    Tenant {
        base_urls,
        tls: trust::gateway_tls(&section.section("tls"), name),
        edition,
        auth_mode,
        registered_ttl: section.duration("registered_ttl", registered_ttl, SECOND..=24 * HOUR),
        breaker: breaker::breaker(&section.section("breaker")),
        timeouts: timeouts::timeouts(&section.section("timeouts")),
        limits: limits::limits(&section.section("limits")),
        request_ids: request_ids::request_ids(&section.section("request_ids")),
        keep: keep::keep(&section.section("keep"), is_shared),
        events: events::events(&section.section("events")),
        reset_skills_after_sign_in: section.truth("reset_skills_after_sign_in", false),
        read_back: section.truth("read_back", true),
        callers: section
            .list("callers", CALLERS_MAX, |name| Ok(name.to_owned()))
            .unwrap_or_default(),
        credentials: credentials::read(section, &agent_ids).map(Arc::new),
        agent_ids,
    }
}

fn agent_ids(text: &str) -> Result<RangeInclusive<u32>, Problem> {
    let ends = text.split_once('-').and_then(|(from, to)| {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        Some(number(from)?..=number(to)?)
    });
    let (least, most) = AGENT_IDS_ANY.into_inner();
    let good = |range: &RangeInclusive<u32>| {
        *range.start() >= least && range.start() <= range.end() && *range.end() <= most
    };
    ends.filter(good).ok_or_else(|| {
        Problem::new(
            format!("{} is not a range of agent ids", quote(text)),
            format!("give \"<lowest>-<highest>\" within {least} and {most}, such as \"101-59999\""),
        )
    })
}
