//! The bridge's configuration, checked before any port is opened.
//!
//! [`load`] turns a TOML file, the environment and flags into a [`Config`], or reports all mistakes at
//! once ([`ConfigErrors`]). The types here hold only checked values: certificates are parsed, files
//! have been read, limits are not zero.

mod admin;
mod audit;
mod callers;
mod credentials;
mod division;
#[cfg(test)]
mod documentation_tests;
mod error;
mod files;
mod fingerprint;
mod former;
mod gateway;
mod issuers;
mod listeners;
mod load;
mod log;
mod otel;
mod reader;
mod retcodes;
mod scalar;
mod server;
mod setting;
mod sources;
mod store;
mod tenant;
mod traces;
mod trust;
mod unknown_keys;
mod value;
mod variables;

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

pub use self::{
    admin::{Admin, Book, HostName},
    audit::Audit,
    callers::Callers,
    credentials::{Credential, Credentials},
    division::Division,
    error::{ConfigError, ConfigErrors, Place},
    files::Identity,
    fingerprint::Fingerprint,
    gateway::HostLimit,
    issuers::{Issuer, KeysPlace},
    listeners::{Http2, Listener, ListenerName, ListenerTls},
    load::load,
    log::{Log, LogFormat},
    retcodes::{Override, Overrides},
    server::{Connections, Drain, LeftSessions, Server, ServerLimits},
    setting::{Effect, Setting},
    sources::Sources,
    store::{
        FileStore, Redis, RedisNode, RedisStore, RedisTimeouts, RedisTls, Sentinel, Store,
        Topology, WhenAway,
    },
    tenant::{
        AuthMode, Breaker, Edition, Events, Keep, Limits, PollFor, RequestIds, Tenant, Timeouts,
    },
    traces::Traces,
    trust::{ClientTls, Trust},
};
pub(crate) use self::{
    files::{is_read_once, read as read_file},
    reader::section_of,
    scalar::is_this_machine,
    sources::LISTEN_KEY,
};
use crate::id::TenantId;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where gRPC callers connect; at least one. `[listeners.<name>]`.
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// Whose tokens callers may show, by name. `[issuers.<name>]`.
    pub issuers: BTreeMap<String, Issuer>,
    /// Who may do what. `[callers.<name>]`.
    pub callers: Callers,
    /// The admin port, for health, readiness, metrics and the status page. `[admin]`.
    pub admin: Admin,
    /// Where calls that may change something are noted. `[audit]`.
    pub audit: Audit,
    /// The settings that all listeners share. `[server]`.
    pub server: Server,
    /// What is logged, and how. `[log]`.
    pub log: Log,
    /// Concurrent requests to one gateway host, over all tenants. `[gateway]`.
    pub host_limit: HostLimit,
    /// Every tenant that is served; at least one. `[tenants.<id>]`.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Where sessions outlive the process; `None`: they end with it. `[store]`.
    pub store: Option<Store>,
    /// Where traces of calls are sent; `None`: no traces are made. `[traces]`.
    pub traces: Option<Traces>,
    /// Retcodes for which the operator chose another code and reason. `[retcodes."NNN-NNN"]`.
    pub retcodes: Overrides,
    /// What it was made of.
    pub fingerprint: Fingerprint,
    /// See [`Config::warnings`].
    warnings: Vec<String>,
}

impl Config {
    /// Settings that are allowed but probably unintended or unsafe: one sentence each, which names the
    /// key and a better value.
    pub fn warnings(&self) -> Vec<String> {
        let (calls, requests) = (self.server.limits.calls.get(), self.host_limit.requests);
        let of_tenants = self.warnings_of_tenants(calls, requests, self.server.default_deadline);
        [of_tenants, self.warnings_of_settings()].concat()
    }

    /// Those that are about one setting each.
    pub fn warnings_of_settings(&self) -> Vec<String> {
        listeners::plaintext_warnings(&self.listeners)
            .chain(listeners::anonymous_warnings(&self.listeners))
            .chain(tenant::keep::warning(&self.tenants))
            .chain(self.warnings.clone())
            .collect()
    }

    /// Those about tenants that need more than there is for all: so many `calls`, `host_requests` to each gateway host, and the
    /// `default_deadline`, if one is given.
    pub fn warnings_of_tenants(
        &self,
        calls: usize,
        host_requests: NonZeroUsize,
        default_deadline: Option<Duration>,
    ) -> Vec<String> {
        let division = Division::new(calls, self.calls_by_tenant());
        let of_calls = division::warning(&division, &self.tenants);
        let of_requests = gateway::warning(host_requests, &self.tenants);
        let of_deadline =
            default_deadline.and_then(|given| server::deadline_warning(given, &self.tenants));
        [of_calls, of_requests, of_deadline].into_iter().flatten().collect()
    }

    /// How `server.limits.calls` is divided among the tenants.
    pub fn division(&self) -> Division {
        Division::new(self.server.limits.calls.get(), self.calls_by_tenant())
    }

    /// How many calls each tenant may have at once, if the server's places suffice.
    pub fn calls_by_tenant(&self) -> impl Iterator<Item = (TenantId, usize)> {
        self.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.limits.calls.get()))
    }
}
