//! Everything the bridge is told from outside, checked before any port is opened.
//!
//! [`load`] turns a TOML file, the environment and flags into a [`Config`], or names every mistake
//! at once ([`ConfigErrors`]). The types here hold checked values only: a certificate is parsed, a
//! path has been read, a limit is not zero.

mod admin;
mod credentials;
mod division;
mod error;
mod files;
mod former;
mod gateway;
mod listeners;
mod load;
mod log;
mod otel;
mod reader;
#[cfg(test)]
mod reference;
mod retcodes;
mod scalar;
mod server;
mod sources;
mod store;
mod tenant;
mod traces;
mod trust;
mod unknown_keys;
mod value;
mod variables;

use std::{collections::BTreeMap, num::NonZeroUsize};

pub use self::{
    admin::Admin,
    credentials::{Credential, Credentials},
    division::Division,
    error::{ConfigError, ConfigErrors, Place},
    files::Identity,
    listeners::{Http2, Listener, ListenerName},
    load::load,
    log::{Log, LogFormat},
    retcodes::{Override, Overrides},
    server::{Connections, Drain, LeftSessions, Server, ServerLimits},
    sources::Sources,
    store::{
        FileStore, Redis, RedisNode, RedisStore, RedisTimeouts, RedisTls, Sentinel, Store,
        Topology, WhenAway,
    },
    tenant::{AuthMode, Edition, Events, Keep, Limits, Tenant, Timeouts},
    traces::Traces,
    trust::{ClientTls, Trust},
};
pub(crate) use self::{reader::section_of, sources::LISTEN_KEY};
use crate::id::TenantId;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where gRPC callers connect; at least one. `[listeners.<name>]`.
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// Where the bridge is looked after. `[admin]`.
    pub admin: Admin,
    /// What all listeners have in common. `[server]`.
    pub server: Server,
    /// What is logged, and how. `[log]`.
    pub log: Log,
    /// Requests at once to one gateway host, over all tenants. `gateway.host_requests`.
    pub host_requests: NonZeroUsize,
    /// Every tenant that is served; at least one. `[tenants.<id>]`.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Where sessions outlive the process; `None`: nowhere. `[store]`.
    pub store: Option<Store>,
    /// Where traces of calls go; `None`: none are made. `[traces]`.
    pub traces: Option<Traces>,
    /// The operator's own reading of some retcodes. `[retcodes."NNN-NNN"]`.
    pub retcodes: Overrides,
    /// See [`Config::warnings`].
    warnings: Vec<String>,
}

impl Config {
    /// What is allowed, but hardly what a careful operator wants: one sentence each, with the key
    /// and what would be right.
    pub fn warnings(&self) -> Vec<String> {
        let shares = [
            division::warning(&self.division(), &self.tenants),
            gateway::warning(self.host_requests, &self.tenants),
        ];
        listeners::plaintext_warnings(&self.listeners)
            .chain(shares.into_iter().flatten())
            .chain(self.warnings.clone())
            .collect()
    }

    /// How the server's places for calls are divided among the tenants.
    pub fn division(&self) -> Division {
        let wanted =
            self.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.limits.calls.get()));
        Division::new(self.server.limits.calls.get(), wanted)
    }
}
