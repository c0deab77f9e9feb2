//! `/metrics`: some values are counted all the time, others are read when they are asked for.

use std::{fmt, sync::Arc};

use super::{
    CommonParts, Controls,
    certificates::Certificates,
    connection_limits::ConnectionLimits,
    reloads::{ReloadView, Reloads},
    request_reader::RequestReader,
    streams::Streams,
};
use crate::{
    config::{self, Division},
    gateway::{AddressState, AddressView},
    session::{Doubt, StoreState},
    telemetry::{
        audit::Audit,
        metrics::{Format, Metrics},
    },
    tenant::{HostUsage, LeaseCounts, ServerCalls, Tenants, Usage},
};

/// The metrics of a bridge, and the sources of the values that are read on demand.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) common: CommonParts,
    pub(super) tenants: Tenants,
    pub(super) shares: ServerShares,
    pub(super) certificates: Certificates,
    pub(super) reloads: Arc<Reloads>,
    pub(super) controls: Controls,
}

/// The limits that all callers share.
#[derive(Debug)]
pub(super) struct ServerShares {
    pub(super) calls: Arc<ServerCalls>,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    pub(super) request_reader: Arc<RequestReader>,
    pub(super) streams: Arc<Streams>,
}

impl Exposition {
    /// Everything in this format, with fresh values.
    pub(super) fn text(&self, format: Format) -> Result<String, fmt::Error> {
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
        self.refresh();
        self.metrics().text(format)
    }

    /// The counters and gauges.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.common.observed.metrics
    }

    /// How much of the limits is used that all callers share.
    pub(super) fn server_usage(&self) -> [Usage; 8] {
        let ServerShares { calls, connection_limits, request_reader, streams } = &self.shares;
        let [connections, handshakes, lingering, unread] = connection_limits.usage();
        let [health, reflection] = streams.usage();
        [
            calls.usage(),
            request_reader.usage(),
            connections,
            handshakes,
            lingering,
            unread,
            health,
            reflection,
        ]
    }

    fn refresh(&self) {
        let server = &self.metrics().server;
        for usage in self.server_usage() {
            server.set_places(usage.resource.as_str(), usage.taken, usage.limit);
        }
        for (cause, connections) in self.shares.connection_limits.turned_away() {
            server.set_turned_away(cause.as_str(), connections);
        }
        server.forget_hosts_and_certificates();
        for HostUsage { host, places, ceiling, waiting, refused } in self.common.hosts.usage() {
            server.set_host_places(&host, places.taken, places.limit);
            server.set_host_queue(&host, ceiling, waiting, refused);
        }
        let states = AddressState::ALL.map(AddressState::as_str);
        for tenant in self.tenants.all() {
            for AddressView { host, state, trips, .. } in tenant.addresses() {
                let names = [tenant.id().as_str(), &host];
                server.set_address(names, (&states, state.as_str()), trips);
            }
        }
        for expiry in self.certificates.all() {
            let tenant = expiry.tenant.as_ref().map_or("", |tenant| tenant.as_str());
            let listener = expiry.listener.as_ref().map_or("", |listener| listener.as_str());
            server.set_certificate([tenant, listener], expiry.certificate, expiry.not_after);
        }
        let ReloadView { applied, failed, .. } = self.reloads.view();
        server.set_reloads(applied, failed);
        let audit = self.common.observed.audit.as_ref();
        server.set_audit_lines_lost(audit.map_or(0, Audit::lines_lost));
        if let Some(log) = &self.controls.log {
            server.set_lines_lost(log.lines_lost());
        }
        let store = self.common.stores.view();
        if let Some(store) = &store {
            server.set_store_failures(store.failures);
        }
        if let Some(bytes) = store.as_ref().and_then(|store| store.file_bytes) {
            server.set_store_file(bytes);
        }
        let disbelieved = store.as_ref().map_or(&[][..], |store| &store.disbelieved);
        for doubt in Doubt::ALL {
            let found = disbelieved.iter().find(|(found, _)| *found == doubt);
            server.set_store_disbelieved(doubt.as_str(), found.map_or(0, |(_, count)| *count));
        }
        // These states belong to a store that replicas share. A file has none.
        let shared = store.filter(|store| store.file_bytes.is_none());
        let state = shared.map_or("none", |store| store.state.as_str());
        server.set_store_state(&StoreState::NAMES, state);
    }
}

impl ServerShares {
    pub(super) fn new(server: &config::Server, division: Division) -> Self {
        let connection_limits = Arc::new(ConnectionLimits::new(&server.connections));
        let request_reader = Arc::new(RequestReader::new(server));
        let streams = Arc::new(Streams::new(&server.connections));
        Self {
            calls: Arc::new(ServerCalls::new(division)),
            connection_limits,
            request_reader,
            streams,
        }
    }
}
