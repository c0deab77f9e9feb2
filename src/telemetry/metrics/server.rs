//! Metrics of the bridge as a whole.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::set;

/// Metrics of the bridge as a whole. All of them are set when somebody asks for metrics.
#[derive(Debug)]
pub struct Server {
    places: Family<ShareLabels, Gauge>,
    places_taken: Family<ShareLabels, Gauge>,
    host_places: Family<HostLabels, Gauge>,
    host_places_taken: Family<HostLabels, Gauge>,
    host_ceilings: Family<HostLabels, Gauge>,
    host_waiting: Family<HostLabels, Gauge>,
    host_refused: Family<HostLabels, Counter>,
    addresses: Family<AddressLabels, Gauge>,
    address_trips: Family<AddressTripLabels, Counter>,
    certificates: Family<CertificateLabels, Gauge<f64, AtomicU64>>,
    turned_away: Family<CauseLabels, Counter>,
    lines_lost: Counter,
    audit_lines_lost: Counter,
    reloads: Counter,
    reload_failures: Counter,
    store_failures: Counter,
    store_file: Gauge,
    store_states: Family<StateLabels, Gauge>,
    store_disbelieved: Family<ReasonLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareLabels {
    share: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    tenant: String,
    host: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressTripLabels {
    tenant: String,
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    tenant: String,
    listener: String,
    certificate: &'static str,
}

impl Server {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let server = Self {
            places: Family::default(),
            places_taken: Family::default(),
            host_places: Family::default(),
            host_places_taken: Family::default(),
            host_ceilings: Family::default(),
            host_waiting: Family::default(),
            host_refused: Family::default(),
            addresses: Family::default(),
            address_trips: Family::default(),
            certificates: Family::default(),
            turned_away: Family::default(),
            lines_lost: Counter::default(),
            audit_lines_lost: Counter::default(),
            reloads: Counter::default(),
            reload_failures: Counter::default(),
            store_failures: Counter::default(),
            store_file: Gauge::default(),
            store_states: Family::default(),
            store_disbelieved: Family::default(),
        };
        let Self { places, places_taken, host_places, host_places_taken, .. } = &server;
        let Self { certificates, lines_lost, store_failures, store_file, .. } = &server;
        let Self { store_states, reloads, reload_failures, audit_lines_lost, .. } = &server;
        let help = "Lines of the audit log that could not be written";
        registry.register("ccgw_audit_lines_lost", help, audit_lines_lost.clone());
        let help = "Changes of the configuration that were put into force without a restart";
        registry.register("ccgw_reloads", help, reloads.clone());
        let help = "Changes of the configuration that were refused";
        registry.register("ccgw_reload_failures", help, reload_failures.clone());
        let help = "Places that all callers share";
        registry.register("ccgw_server_places_limit", help, places.clone());
        let help = "Of these, the places that are taken";
        registry.register("ccgw_server_places_in_use", help, places_taken.clone());
        let help =
            "Places that there are now among the requests to a gateway host, for all tenants on it";
        registry.register("ccgw_host_places_limit", help, host_places.clone());
        let help = "Of these, the places that are taken";
        registry.register("ccgw_host_places_in_use", help, host_places_taken.clone());
        let help = "The most places that there can be among the requests to a gateway host";
        registry.register("ccgw_host_places_ceiling", help, server.host_ceilings.clone());
        let help = "Requests that wait for a place among those to a gateway host";
        registry.register("ccgw_host_requests_waiting", help, server.host_waiting.clone());
        let help = "Requests that got no place among those to a gateway host";
        registry.register("ccgw_host_requests_refused", help, server.host_refused.clone());
        let help = "Whether this address of a tenant's gateway is in this state";
        registry.register("ccgw_gateway_address_state", help, server.addresses.clone());
        let help = "How often this address of a tenant's gateway has tripped";
        registry.register("ccgw_gateway_address_trips", help, server.address_trips.clone());
        let help = "When certificates of the configuration expire, in seconds since 1970";
        let name = "ccgw_certificate_not_after_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, certificates.clone());
        let help = "Connections of callers that were closed or rejected because of a limit";
        registry.register("ccgw_connections_turned_away", help, server.turned_away.clone());
        let help = "Lines of the log that were lost: nobody read them in time, or they could not be written";
        registry.register("ccgw_log_lines_lost", help, lines_lost.clone());
        let help = "Requests to the store, or attempts to write its file, that failed";
        registry.register("ccgw_store_failures", help, store_failures.clone());
        let help = "Length of the file that sessions are stored in; 0 if there is none";
        registry.register_with_unit("ccgw_store_file", help, Unit::Bytes, store_file.clone());
        let help = "Whether the store that replicas share is in this state";
        registry.register("ccgw_store_state", help, store_states.clone());
        let help = "What was found in the store that replicas share and was not believed";
        registry.register("ccgw_store_disbelieved", help, server.store_disbelieved.clone());
        server
    }

    /// Sets how many places of a share are taken, and how many there are.
    pub fn set_places(&self, share: &'static str, taken: usize, limit: usize) {
        let labels = ShareLabels { share };
        set(&self.places.get_or_create(&labels), limit);
        set(&self.places_taken.get_or_create(&labels), taken);
    }

    /// Sets how many places of a gateway host are taken, and how many there are.
    pub fn set_host_places(&self, host: &str, taken: usize, limit: usize) {
        let labels = HostLabels { host: host.to_owned() };
        set(&self.host_places.get_or_create(&labels), limit);
        set(&self.host_places_taken.get_or_create(&labels), taken);
    }

    /// Sets the most places that a gateway host can have, and how many requests wait for one or got none.
    pub fn set_host_queue(&self, host: &str, ceiling: usize, waiting: usize, refused: u64) {
        let labels = HostLabels { host: host.to_owned() };
        set(&self.host_ceilings.get_or_create(&labels), ceiling);
        set(&self.host_waiting.get_or_create(&labels), waiting);
        self.host_refused.get_or_create(&labels).inner().store(refused, Ordering::Relaxed);
    }

    /// Sets the state of an address of a tenant's gateway to one of `states`, and how often it has tripped.
    pub fn set_address(
        &self,
        [tenant, host]: [&str; 2],
        (states, now): (&[&'static str], &'static str),
        trips: u64,
    ) {
        let [tenant, host] = [tenant, host].map(str::to_owned);
        for &state in states {
            let labels = AddressLabels { tenant: tenant.clone(), host: host.clone(), state };
            set(&self.addresses.get_or_create(&labels), (state == now).into());
        }
        let counted = self.address_trips.get_or_create(&AddressTripLabels { tenant, host });
        counted.inner().store(trips, Ordering::Relaxed);
    }

    /// Forgets what [`Self::set_host_places`], [`Self::set_host_queue`], [`Self::set_address`] and
    /// [`Self::set_certificate`] have set, since some of it may be gone. What there is has to be set again.
    pub fn forget_hosts_and_certificates(&self) {
        self.addresses.clear();
        self.address_trips.clear();
        self.host_places.clear();
        self.host_places_taken.clear();
        self.host_ceilings.clear();
        self.host_waiting.clear();
        self.host_refused.clear();
        self.certificates.clear();
    }

    /// Sets how many connections were turned away for this cause since the start.
    pub fn set_turned_away(&self, cause: &'static str, connections: u64) {
        let turned_away = self.turned_away.get_or_create(&CauseLabels { cause });
        turned_away.inner().store(connections, Ordering::Relaxed);
    }

    /// Sets when a certificate expires. It belongs to the tenant or the listener, and the other
    /// name is empty. Both are empty if it belongs to neither.
    pub fn set_certificate(
        &self,
        [tenant, listener]: [&str; 2],
        certificate: &'static str,
        end: SystemTime,
    ) {
        let (tenant, listener) = (tenant.to_owned(), listener.to_owned());
        let labels = CertificateLabels { tenant, listener, certificate };
        let seconds = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.certificates.get_or_create(&labels).set(seconds);
    }

    /// Sets how many log lines were lost since the start.
    pub fn set_lines_lost(&self, lines: u64) {
        self.lines_lost.inner().store(lines, Ordering::Relaxed);
    }

    /// Sets the store's state to one of `states`.
    pub fn set_store_state(&self, states: &[&'static str], now: &'static str) {
        for &state in states {
            set(&self.store_states.get_or_create(&StateLabels { state }), (state == now).into());
        }
    }

    /// Sets how many lines of the audit log were lost since the start.
    pub fn set_audit_lines_lost(&self, lines: u64) {
        self.audit_lines_lost.inner().store(lines, Ordering::Relaxed);
    }

    /// Sets how many changes of the configuration were put into force, and how many were refused.
    pub fn set_reloads(&self, applied: u64, failed: u64) {
        self.reloads.inner().store(applied, Ordering::Relaxed);
        self.reload_failures.inner().store(failed, Ordering::Relaxed);
    }

    /// Sets how many requests to the store have failed since the start.
    pub fn set_store_failures(&self, failures: u64) {
        self.store_failures.inner().store(failures, Ordering::Relaxed);
    }

    /// Sets how often something in the store was not believed for this reason.
    pub fn set_store_disbelieved(&self, reason: &'static str, count: u64) {
        let counter = self.store_disbelieved.get_or_create(&ReasonLabels { reason });
        counter.inner().store(count, Ordering::Relaxed);
    }

    /// Sets the length of the file with the sessions.
    pub fn set_store_file(&self, bytes: u64) {
        self.store_file.set(bytes.try_into().unwrap_or(i64::MAX));
    }
}
