//! `/metrics`: what is counted all the time, and what is looked up when somebody asks.

use std::{fmt, sync::Arc};

use super::{certificates::Certificates, entrance::Entrance, intake::Intake, streams::Streams};
use crate::{
    config::{self, Division},
    rpc::Observed,
    session::{StoreState, Stores},
    telemetry::{log::LogControl, metrics::Metrics},
    tenant::{Hosts, LeaseCounts, ServerCalls, Tenants, Usage},
};

/// The metrics of a bridge, and where to look for what they tell.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) observed: Arc<Observed>,
    pub(super) tenants: Tenants,
    pub(super) shares: ServerShares,
    pub(super) hosts: Hosts,
    pub(super) certificates: Certificates,
    pub(super) stores: Stores,
    pub(super) log: Option<LogControl>,
}

/// The shares that all callers have in common.
#[derive(Debug)]
pub(super) struct ServerShares {
    pub(super) calls: ServerCalls,
    pub(super) entrance: Arc<Entrance>,
    pub(super) intake: Arc<Intake>,
    pub(super) streams: Arc<Streams>,
}

impl Exposition {
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        for tenant in self.tenants.all() {
            for count in tenant.session_states() {
                tenant.metrics().set_sessions(count.state, count.now);
            }
            let (queue, sign_ins) = (tenant.sign_in_queue(), &tenant.metrics().sign_ins);
            sign_ins.set_queue(queue.waiting, queue.oldest);
            sign_ins.set_given_up(tenant.taken_over().iter().filter(|one| one.given_up).count());
            let LeaseCounts { overdue, dropped } = tenant.lease_counts();
            tenant.metrics().set_without_lease(overdue, dropped);
            for usage in tenant.usage().all() {
                let resource = usage.resource.as_str();
                tenant.metrics().set_places(resource, usage.taken, usage.limit);
            }
        }
        self.look();
        self.metrics().text()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.observed.metrics
    }

    /// How much is taken of what all callers share.
    pub(super) fn server_usage(&self) -> [Usage; 8] {
        let ServerShares { calls, entrance, intake, streams } = &self.shares;
        let [connections, handshakes, lingering, unread] = entrance.usage();
        let [health, reflection] = streams.usage();
        [
            calls.usage(),
            intake.usage(),
            connections,
            handshakes,
            lingering,
            unread,
            health,
            reflection,
        ]
    }

    fn look(&self) {
        let server = &self.metrics().server;
        for usage in self.server_usage() {
            server.set_places(usage.resource.as_str(), usage.taken, usage.limit);
        }
        for (cause, connections) in self.shares.entrance.turned_away() {
            server.set_turned_away(cause.as_str(), connections);
        }
        for (host, usage) in self.hosts.usage() {
            server.set_host_places(&host, usage.taken, usage.limit);
        }
        for expiry in self.certificates.all() {
            let tenant = expiry.tenant.as_ref().map_or("", |tenant| tenant.as_str());
            let listener = expiry.listener.as_ref().map_or("", |listener| listener.as_str());
            server.set_certificate([tenant, listener], expiry.certificate, expiry.not_after);
        }
        if let Some(log) = &self.log {
            server.set_lines_lost(log.lines_lost());
        }
        let store = self.stores.view();
        if let Some(store) = &store {
            server.set_store_failures(store.failures);
        }
        if let Some(bytes) = store.as_ref().and_then(|store| store.file_bytes) {
            server.set_store_file(bytes);
        }
        // The states are those of a store that replicas share.
        let shared = store.filter(|store| store.file_bytes.is_none());
        let state = shared.map_or("none", |store| store.state.as_str());
        server.set_store_state(&StoreState::NAMES, state);
    }
}

impl ServerShares {
    pub(super) fn new(server: &config::Server, division: Division) -> Self {
        let entrance = Arc::new(Entrance::new(&server.connections));
        let intake = Arc::new(Intake::new(server));
        let streams = Arc::new(Streams::new(&server.connections));
        Self { calls: ServerCalls::new(division), entrance, intake, streams }
    }
}
