//! The state of the bridge, for `/status.json` and the page at `/`.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{
    ReloadView,
    metrics::Exposition,
    rates::Rates,
    readiness::{Phase, Readiness},
};
use crate::{
    gateway::{AddressState, AddressView},
    rpc::Failure,
    session::{SessionState, StoreState, StoreView},
    telemetry::log::{LogControl, LogView},
    tenant::{Counts, HostUsage, Resource, SignInQueue, TakenOver, Tenant, Usage},
    time::{as_rfc3339, option_as_rfc3339},
    version,
};

/// The sources of the bridge's status.
#[derive(Debug)]
pub(super) struct StatusSource {
    pub(super) readiness: Arc<Readiness>,
    pub(super) exposition: Exposition,
    pub(super) rates: Rates,
    listeners: Vec<ListenerStatus>,
}

/// [`Status::format_version`]. Increase it when a field is removed or changes its meaning, but not
/// when one is added.
const FORMAT_VERSION: u32 = 1;

/// The status at one moment. Programs rely on the field names: they stay, and others may be added.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) format_version: u32,
    pub(super) version: &'static str,
    /// Empty if the build did not know it.
    pub(super) commit: &'static str,
    #[serde(serialize_with = "spelled")]
    pub(super) state: Phase,
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) time: SystemTime,
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) start_time: SystemTime,
    /// Unsafe settings in the configuration.
    pub(super) warnings: Vec<String>,
    /// How many seconds `last_minute` covers.
    pub(super) window_seconds: f64,
    pub(super) tenants: Vec<TenantStatus>,
    /// The latest calls that failed because of a gateway or the bridge, newest first.
    pub(super) failures: Vec<Failure>,
    pub(super) listeners: Vec<ListenerStatus>,
    pub(super) shares: Vec<ShareStatus>,
    pub(super) hosts: Vec<HostStatus>,
    pub(super) store: StoreStatus,
    pub(super) certificates: Vec<CertificateStatus>,
    /// Changes of the configuration while the bridge runs.
    pub(super) reloads: ReloadView,
    /// None if the process does not log.
    pub(super) log: Option<LogView>,
    pub(super) log_lines_lost: u64,
}

/// One tenant.
#[derive(Debug, Serialize)]
pub(super) struct TenantStatus {
    pub(super) tenant: String,
    /// In the order of the configuration, which is the order of preference.
    pub(super) gateways: Vec<GatewayStatus>,
    pub(super) last_minute: Counts,
    pub(super) since_start: Counts,
    /// Calls that have been admitted and have no place among the requests yet.
    pub(super) waiting: usize,
    pub(super) shares: Vec<ShareStatus>,
    pub(super) sessions: Vec<SessionStatus>,
    /// Agents who are polled without a lease, since the store cannot be asked.
    pub(super) polled_without_lease: usize,
    /// Agents who are not polled any more, since the store cannot be asked.
    pub(super) polls_stopped: usize,
    /// The queue of agents whom the bridge signs in by itself.
    pub(super) sign_ins: SignInStatus,
    /// Agents whom another client has taken from the bridge lately.
    pub(super) taken_over: Vec<TakenOverStatus>,
}

/// The queue of agents whom the bridge signs in by itself.
#[derive(Debug, Serialize)]
pub(super) struct SignInStatus {
    pub(super) waiting: usize,
    /// How long the first one has been waiting.
    pub(super) oldest_seconds: f64,
    pub(super) under_way: usize,
    /// The rate measured lately.
    pub(super) per_second: f64,
    pub(super) empty_in_seconds: f64,
}

/// An agent whom another client has taken from the bridge.
#[derive(Debug, Serialize)]
pub(super) struct TakenOverStatus {
    pub(super) agent: String,
    /// How often the bridge has tried to take the agent back.
    pub(super) attempts: u32,
    /// Whether the bridge has stopped trying, until a caller asks for the agent.
    pub(super) given_up: bool,
}

/// One address of a tenant's gateway.
#[derive(Debug, Serialize)]
pub(super) struct GatewayStatus {
    pub(super) host: String,
    /// Whether requests go to this address first.
    pub(super) in_use: bool,
    #[serde(serialize_with = "address_state")]
    pub(super) state: AddressState,
    #[serde(serialize_with = "option_as_rfc3339")]
    pub(super) last_answer: Option<SystemTime>,
    /// The last failure. The address may have answered since.
    pub(super) last_failure: Option<FailureStatus>,
    /// Whether it has not answered since then. The two times are by a clock that may be set.
    #[serde(skip)]
    pub(super) failed_last: bool,
}

/// A failure of an address.
#[derive(Debug, Serialize)]
pub(super) struct FailureStatus {
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) time: SystemTime,
    pub(super) error: String,
}

/// How much of a limit is used.
#[derive(Debug, Serialize)]
pub(super) struct ShareStatus {
    #[serde(serialize_with = "spelled")]
    pub(super) share: Resource,
    pub(super) taken: usize,
    pub(super) limit: usize,
}

/// How much of the limit of a gateway host is used.
#[derive(Debug, Serialize)]
pub(super) struct HostStatus {
    pub(super) host: String,
    /// The limit is the one of now.
    #[serde(flatten)]
    pub(super) share: ShareStatus,
    /// The most that the limit can be.
    pub(super) ceiling: usize,
    /// Requests that wait for a place.
    pub(super) waiting: usize,
    /// Requests that got no place since the start.
    pub(super) refused: u64,
}

/// How many sessions of a tenant are in a state.
#[derive(Debug, Serialize)]
pub(super) struct SessionStatus {
    #[serde(serialize_with = "spelled")]
    pub(super) state: SessionState,
    pub(super) now: usize,
    /// How often the state was entered since the start.
    pub(super) entered: u64,
}

/// The store of sessions.
#[derive(Debug, Serialize)]
pub(super) struct StoreStatus {
    /// `none`, or as in [`StoreView::kind`].
    pub(super) kind: &'static str,
    /// `None`: there is no store.
    #[serde(serialize_with = "store_state")]
    pub(super) state: Option<StoreState>,
    pub(super) error: Option<String>,
    /// Requests, or attempts to write the file, that have failed since the start.
    pub(super) failures: u64,
    /// The length of the file. None if the store is not a file.
    pub(super) file_bytes: Option<u64>,
}

/// An address for gRPC callers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ListenerStatus {
    pub(super) listener: String,
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
}

/// When a certificate of the configuration expires.
#[derive(Debug, Serialize)]
pub(super) struct CertificateStatus {
    /// The tenant whose gateway it is for, if any.
    pub(super) tenant: Option<String>,
    /// The listener that presents it, if any.
    pub(super) listener: Option<String>,
    /// `server`, `client`, `ca`, `store_ca`, `traces_client` or `traces_ca`.
    pub(super) certificate: &'static str,
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) not_after: SystemTime,
}

impl StatusSource {
    pub(super) fn new(
        readiness: Arc<Readiness>,
        exposition: Exposition,
        listeners: Vec<ListenerStatus>,
    ) -> Self {
        let rates = Rates::new(exposition.tenants.clone());
        Self { readiness, exposition, rates, listeners }
    }

    /// Reads the status from its sources.
    pub(super) fn status(&self) -> Status {
        let Self { readiness, exposition, rates, .. } = self;
        let (window, counts) = rates.last_minute();
        let tenant = |tenant: Arc<Tenant>| {
            let counts = counts.get(tenant.id()).copied().unwrap_or_default();
            TenantStatus::of(&tenant, counts)
        };
        let tenants = exposition.tenants.all().into_iter().map(tenant);
        let log = exposition.controls.log.as_ref();
        Status {
            format_version: FORMAT_VERSION,
            version: version::NUMBER,
            commit: version::COMMIT,
            state: readiness.phase(),
            time: SystemTime::now(),
            start_time: exposition.metrics().process.started(),
            warnings: readiness.warnings().lines().map(str::to_owned).collect(),
            window_seconds: (window.as_secs_f64() * 1e3).round() / 1e3,
            tenants: tenants.collect(),
            failures: exposition.observed.failures.last(),
            listeners: self.listeners.clone(),
            shares: exposition.server_usage().into_iter().map(ShareStatus::from).collect(),
            hosts: exposition.hosts.usage().into_iter().map(HostStatus::from).collect(),
            store: self.store(),
            certificates: self.certificates(),
            reloads: exposition.reloads.view(),
            log: log.map(LogControl::view),
            log_lines_lost: log.map_or(0, LogControl::lines_lost),
        }
    }

    fn store(&self) -> StoreStatus {
        self.exposition.stores.view().map_or(StoreStatus::NONE, StoreStatus::from)
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        let expiries = self.exposition.certificates.all().into_iter();
        let status = expiries.map(|expiry| CertificateStatus {
            tenant: expiry.tenant.as_ref().map(ToString::to_string),
            listener: expiry.listener.as_ref().map(ToString::to_string),
            certificate: expiry.certificate,
            not_after: expiry.not_after,
        });
        status.collect()
    }
}

impl StoreStatus {
    const NONE: Self =
        Self { kind: "none", state: None, error: None, failures: 0, file_bytes: None };
}

impl From<StoreView> for StoreStatus {
    fn from(StoreView { kind, state, failures, file_bytes, .. }: StoreView) -> Self {
        let error = state.error();
        Self { kind, state: Some(state), error, failures, file_bytes }
    }
}

impl TenantStatus {
    fn of(tenant: &Arc<Tenant>, last_minute: Counts) -> Self {
        let (usage, leases) = (tenant.usage(), tenant.lease_counts());
        let sessions = tenant.session_states().into_iter().map(|count| SessionStatus {
            state: count.state,
            now: count.now,
            entered: count.entered,
        });
        Self {
            tenant: tenant.id().to_string(),
            gateways: tenant.addresses().into_iter().map(GatewayStatus::from).collect(),
            last_minute,
            since_start: tenant.counts(),
            waiting: usage.waiting_calls(),
            polled_without_lease: leases.overdue,
            polls_stopped: leases.dropped,
            sessions: sessions.collect(),
            sign_ins: SignInStatus::from(tenant.sign_in_queue()),
            taken_over: tenant.taken_over().into_iter().map(TakenOverStatus::from).collect(),
            shares: usage.all().map(ShareStatus::from).into(),
        }
    }
}

impl From<SignInQueue> for SignInStatus {
    fn from(queue: SignInQueue) -> Self {
        let seconds = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        Self {
            waiting: queue.waiting,
            oldest_seconds: seconds(queue.oldest),
            under_way: queue.under_way,
            per_second: (queue.per_second * 1e3).round() / 1e3,
            empty_in_seconds: seconds(queue.empty_in),
        }
    }
}

impl From<TakenOver> for TakenOverStatus {
    fn from(TakenOver { agent, attempts, given_up }: TakenOver) -> Self {
        Self { agent: agent.to_string(), attempts, given_up }
    }
}

impl From<HostUsage> for HostStatus {
    fn from(HostUsage { host, places, ceiling, waiting, refused }: HostUsage) -> Self {
        Self { host, share: places.into(), ceiling, waiting, refused }
    }
}

impl From<Usage> for ShareStatus {
    fn from(Usage { resource, limit, taken }: Usage) -> Self {
        Self { share: resource, taken, limit }
    }
}

impl From<AddressView> for GatewayStatus {
    fn from(view: AddressView) -> Self {
        let failure = view.failed;
        Self {
            host: view.host,
            in_use: view.in_use,
            state: view.state,
            last_answer: view.answered,
            last_failure: failure.map(|f| FailureStatus { time: f.at, error: f.cause }),
            failed_last: view.failed_last,
        }
    }
}

/// Writes a value as its `Display` spells it.
fn spelled<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn address_state<S: Serializer>(state: &AddressState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_str())
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn store_state<S: Serializer>(state: &Option<StoreState>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_ref().map_or("none", StoreState::as_str))
}

#[cfg(test)]
mod tests;
