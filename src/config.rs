//! Everything the bridge is told from outside, checked before any port is opened.
//!
//! [`load`] turns a TOML file, the environment and flags into a [`Config`], or names every mistake
//! at once ([`ConfigErrors`]). The types here hold checked values only: a certificate is parsed, a
//! path has been read, a limit is not zero.

mod credentials;
mod division;
mod error;
mod files;
mod gateway;
mod http2;
mod load;
mod log;
mod reader;
mod retcodes;
mod scalar;
mod server;
mod store;
mod strays;
mod tenant;
mod traces;
mod trust;
mod value;

use std::{collections::BTreeMap, num::NonZeroUsize};

pub use self::{
    credentials::{Credential, Credentials},
    division::Division,
    error::{ConfigError, ConfigErrors, Place},
    http2::Http2,
    load::{Sources, load},
    log::{Log, LogFormat},
    server::{Connections, Drain, LeftSessions, Server},
    store::{
        FileStore, Redis, RedisNode, RedisStore, RedisTimeouts, RedisTls, Sentinel, Store,
        Topology, WhenAway,
    },
    tenant::{AuthMode, Events, Keep, Limits, Tenant, Timeouts},
    traces::Traces,
    trust::{ClientTls, Identity, Trust},
};
use crate::{id::TenantId, retcode::Overrides};

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The gRPC side. `[server]`.
    pub server: Server,
    /// What is logged, and how. `[log]`.
    pub log: Log,
    /// Calls in flight to one gateway host, over all tenants. `gateway.host_in_flight`.
    pub host_in_flight: NonZeroUsize,
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
        let exposed = self.server.tls.is_none() && !self.server.listen.ip().is_loopback();
        let plaintext = exposed.then(|| {
            format!(
                "server.listen is {} without [server.tls]: callers' requests, Guids and passwords \
                 in them go over the network in plain text; give server.tls.certificate and \
                 server.tls.key, or listen on 127.0.0.1",
                self.server.listen
            )
        });
        let shares = [self.calls_warning(), self.requests_warning()];
        plaintext
            .into_iter()
            .chain(shares.into_iter().flatten())
            .chain(self.warnings.clone())
            .collect()
    }

    /// How the server's places for calls are divided among the tenants.
    pub fn division(&self) -> Division {
        let wanted =
            self.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.limits.calls.get()));
        Division::new(self.server.calls_max.get(), wanted)
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
            "server.calls_max is {places}, and limits.calls of all tenants together {all}: each tenant \
             has an even part of the server's places, which for {id} are {most} calls at once and not \
             {limit}; raise server.calls_max to {all}, or lower limits.calls"
        ))
    }

    /// Where a tenant alone cannot have as many requests as it may.
    fn requests_warning(&self) -> Option<String> {
        let host = self.host_in_flight;
        let (id, tenant) =
            self.tenants.iter().find(|(_, tenant)| tenant.limits.in_flight > host)?;
        Some(format!(
            "tenants.{id}.limits.in_flight is {}, and gateway.host_in_flight only {host}, which holds for \
             each gateway host: raise it, or lower limits.in_flight",
            tenant.limits.in_flight
        ))
    }
}
