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
use crate::{id::TenantId, retcode::Overrides};

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
        let shares = [self.calls_warning(), self.requests_warning()];
        self.plaintext_warnings()
            .chain(shares.into_iter().flatten())
            .chain(self.warnings.clone())
            .collect()
    }

    /// Which listeners have callers' secrets go over the network as they are.
    fn plaintext_warnings(&self) -> impl Iterator<Item = String> {
        let exposed = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.tls.is_none() && !listener.address.ip().is_loopback());
        exposed.map(|(name, listener)| {
            format!(
                "listeners.{name}.address is {} without [listeners.{name}.tls]: callers' requests, \
                 Guids and passwords in them go over the network in plain text; give \
                 certificate_file and key_file in [listeners.{name}.tls], or listen on 127.0.0.1",
                listener.address
            )
        })
    }

    /// How the server's places for calls are divided among the tenants.
    pub fn division(&self) -> Division {
        let wanted =
            self.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.limits.calls.get()));
        Division::new(self.server.limits.calls.get(), wanted)
    }

    /// Where tenants cannot have as many calls as they may.
    fn calls_warning(&self) -> Option<String> {
        let division = self.division();
        let (id, tenant) = self
            .tenants
            .iter()
            .find(|(id, tenant)| division.most(id) < tenant.limits.calls.get())?;
        let (places, most, limit) = (division.places, division.most(id), tenant.limits.calls);
        let all: usize = self.tenants.values().map(|tenant| tenant.limits.calls.get()).sum();
        Some(format!(
            "server.limits.calls is {places}, and limits.calls of all tenants together {all}: each tenant \
             has an even part of the server's places, which for {id} are {most} calls at once and not \
             {limit}; raise server.limits.calls to {all}, or lower limits.calls"
        ))
    }

    /// Where a tenant alone cannot have as many requests as it may.
    fn requests_warning(&self) -> Option<String> {
        let host = self.host_requests;
        let (id, tenant) = self.tenants.iter().find(|(_, tenant)| tenant.limits.requests > host)?;
        Some(format!(
            "{}.limits.requests is {}, and gateway.host_requests only {host}, which holds for each \
             gateway host: raise it, or lower limits.requests",
            section_of(id),
            tenant.limits.requests
        ))
    }
}
