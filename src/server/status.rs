//! The state of the bridge, for `/status.json` and the page at `/`.

mod agent;
mod tenant_status;
mod verdict;

use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, sync::Arc, time::SystemTime};

use serde::{Serialize, Serializer};

pub(super) use self::{
    agent::{AgentStatus, EventStatus, NotFound},
    tenant_status::{
        GatewayStatus, HistoryStatus, SessionStatus, SignInStatus, TakenOverStatus, TenantStatus,
    },
    verdict::{Reach, Verdict, worst_first},
};
use super::{
    ReloadView,
    history::History,
    metrics::Exposition,
    readiness::{Phase, Readiness},
};
use crate::{
    rpc::{Failure, FailureGroup},
    session::{StoreState, StoreView},
    telemetry::log::{LogControl, LogView},
    tenant::{HostUsage, Resource, Tenant, Usage},
    time::as_rfc3339,
    version,
};

/// The sources of the bridge's status.
#[derive(Debug)]
pub(super) struct StatusSource {
    pub(super) readiness: Arc<Readiness>,
    pub(super) exposition: Exposition,
    pub(super) history: Arc<History>,
    listeners: Vec<ListenerStatus>,
}

/// [`Status::format_version`]. Increase it when a field is removed or changes its meaning, but not
/// when one is added.
const FORMAT_VERSION: u32 = 1;

/// The most events that are shown at once.
const EVENTS: usize = 20;

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
    /// In the order of their ids. One, if only that was asked for.
    pub(super) tenants: Vec<TenantStatus>,
    /// How many tenants have a gateway that answers, does not, or was not asked yet.
    pub(super) gateways: GatewayCounts,
    /// The last events, newest first, if there is one tenant or only one was asked for.
    pub(super) events: Vec<EventStatus>,
    /// The latest calls that failed because of a gateway or the bridge, newest first.
    pub(super) failures: Vec<Failure>,
    /// The same and those that were refused, by what they have in common, since the start; the group with the newest
    /// call first.
    pub(super) failure_groups: Vec<FailureGroup>,
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

/// How many tenants have a gateway that answers, does not, or was not asked yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct GatewayCounts {
    pub(super) answering: usize,
    pub(super) silent: usize,
    pub(super) not_asked: usize,
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
        let history = Arc::new(History::new(exposition.tenants.clone()));
        Self { readiness, exposition, history, listeners }
    }

    /// Reads the status from its sources, of all tenants or of one; `None`: there is no such tenant.
    pub(super) fn status(&self, only: Option<&str>) -> Option<Status> {
        let Self { readiness, exposition, history, .. } = self;
        let tenants = match only {
            Some(id) => vec![self.tenant(id)?],
            None => exposition.tenants.all(),
        };
        let events = match &tenants[..] {
            [tenant] => tenant.last_events(EVENTS).iter().map(|it| EventStatus::of(it)).collect(),
            _ => Vec::new(),
        };
        let failures = &exposition.common.observed.failures;
        let is_shown = |failure: &Failure| only.is_none_or(|only| failure.tenant == only);
        let mut failure_groups = failures.groups();
        failure_groups.retain(|group| is_shown(&group.last));
        let tenants = self.tenants(&tenants, &failure_groups);
        let log = exposition.controls.log.as_ref();
        Some(Status {
            format_version: FORMAT_VERSION,
            version: version::NUMBER,
            commit: version::COMMIT,
            state: readiness.phase(),
            time: SystemTime::now(),
            start_time: exposition.metrics().process.started(),
            warnings: readiness.warnings().lines().map(str::to_owned).collect(),
            window_seconds: (history.window().as_secs_f64() * 1e3).round() / 1e3,
            gateways: GatewayCounts::of(&tenants),
            tenants,
            events,
            failures: failures.last().into_iter().filter(is_shown).collect(),
            failure_groups,
            listeners: self.listeners.clone(),
            shares: exposition.server_usage().into_iter().map(ShareStatus::from).collect(),
            hosts: exposition.common.hosts.usage().into_iter().map(HostStatus::from).collect(),
            store: self.store(),
            certificates: self.certificates(),
            reloads: exposition.reloads.view(),
            log: log.map(LogControl::view),
            log_lines_lost: log.map_or(0, LogControl::lines_lost),
        })
    }

    fn tenants(&self, tenants: &[Arc<Tenant>], failures: &[FailureGroup]) -> Vec<TenantStatus> {
        let mut by_tenant = BTreeMap::<&str, Vec<&FailureGroup>>::new();
        for group in failures {
            by_tenant.entry(&group.last.tenant).or_default().push(group);
        }
        let status = |tenant: &Arc<Tenant>| {
            let failures = by_tenant.get(tenant.id().as_str()).map_or(&[][..], |all| all);
            TenantStatus::of(tenant, &self.history.of(tenant), failures)
        };
        tenants.iter().map(status).collect()
    }

    fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        // An empty id would mean the only tenant.
        self.exposition.tenants.named(id).filter(|_| !id.is_empty())
    }

    fn store(&self) -> StoreStatus {
        self.exposition.common.stores.view().map_or(StoreStatus::NONE, StoreStatus::from)
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

impl GatewayCounts {
    fn of(tenants: &[TenantStatus]) -> Self {
        let count = |reach| tenants.iter().filter(|tenant| tenant.gateway == reach).count();
        Self {
            answering: count(Reach::Answers),
            silent: count(Reach::Silent),
            not_asked: count(Reach::NotAsked),
        }
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

/// Writes a value as its `Display` spells it.
fn spelled<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn store_state<S: Serializer>(state: &Option<StoreState>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_ref().map_or("none", StoreState::as_str))
}

#[cfg(test)]
pub(super) mod tests;
