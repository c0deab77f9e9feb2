use std::{array, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Counts, calls::CODES, seconds, sign_ins, window::Requests};
use crate::{
    call::Share,
    gateway::{INTERFACES, Pace},
    id::TenantId,
    retcode::Kind,
    session::SessionState,
};

/// The families that every tenant has a part of.
#[derive(Clone, Debug)]
pub struct Tenants {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<InterfaceLabels, Histogram>,
    queue_seconds: Family<TenantLabels, Histogram>,
    session_seconds: Family<TenantLabels, Histogram>,
    renewals: Family<TenantLabels, Counter>,
    unstored: Family<TenantLabels, Counter>,
    events: Family<TenantLabels, Counter>,
    event_lag: Family<TenantLabels, Histogram>,
    confirmations: Family<ConfirmationLabels, Counter>,
    sign_ins: sign_ins::Families,
    calls: Family<CodeLabels, Counter>,
    overloaded: Family<ShareLabels, Counter>,
    event_gaps: Family<TenantLabels, Counter>,
    connections: Family<TenantLabels, Gauge>,
    sessions: Family<StateLabels, Gauge>,
    entered: Family<StateLabels, Counter>,
    places: Family<ShareLabels, Gauge>,
    places_taken: Family<ShareLabels, Gauge>,
    without_lease: Family<TenantLabels, Gauge>,
    polls_stopped: Family<TenantLabels, Gauge>,
}

/// What requests come to beside the kinds of refusals.
const NO_REFUSALS: [&str; 6] =
    ["ok", "unreachable", "no_answer", "bad_reply", "http_status", "given_up"];

/// Codes of calls that failed through the fault of a gateway or of the bridge.
const FAILED: [&str; 5] =
    ["Unknown", "DeadlineExceeded", "ResourceExhausted", "Internal", "Unavailable"];

/// One tenant's part.
#[derive(Debug)]
pub struct TenantMetrics {
    tenant: Arc<str>,
    families: Tenants,
    queue_seconds: Histogram,
    session_seconds: Histogram,
    renewals: Counter,
    unstored: Counter,
    events: Counter,
    event_lag: Histogram,
    /// By the number of the code.
    calls: Vec<Counter>,
    requests: Requests,
    /// In the order of [`Share::ALL`].
    overloaded: Vec<Counter>,
    event_gaps: Counter,
    connections: Gauge,
    /// Sign-ins that the bridge makes by itself.
    pub sign_ins: sign_ins::SignIns,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TenantLabels {
    pub(super) tenant: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InterfaceLabels {
    tenant: Arc<str>,
    interface: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    tenant: Arc<str>,
    interface: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    tenant: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareLabels {
    tenant: Arc<str>,
    share: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    tenant: Arc<str>,
    grpc_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfirmationLabels {
    tenant: Arc<str>,
    result: &'static str,
}

impl Tenants {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let histogram = || Family::<TenantLabels, Histogram>::new_with_constructor(seconds);
        let families = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            queue_seconds: histogram(),
            session_seconds: histogram(),
            renewals: Family::default(),
            unstored: Family::default(),
            events: Family::default(),
            event_lag: histogram(),
            confirmations: Family::default(),
            sign_ins: sign_ins::Families::default(),
            calls: Family::default(),
            overloaded: Family::default(),
            event_gaps: Family::default(),
            connections: Family::default(),
            sessions: Family::default(),
            entered: Family::default(),
            places: Family::default(),
            places_taken: Family::default(),
            without_lease: Family::default(),
            polls_stopped: Family::default(),
        };
        let Self { requests, request_seconds, queue_seconds, session_seconds, .. } = &families;
        let Self { renewals, events, event_lag, confirmations, .. } = &families;
        let Self { sessions, entered, places, places_taken, .. } = &families;
        let Self { calls, overloaded, event_gaps, connections, .. } = &families;
        registry.register("ccgw_calls", "Calls with one answer, by tenant and code", calls.clone());
        let help = "Calls refused because a share was used up";
        registry.register("ccgw_calls_over_limit", help, overloaded.clone());
        let help = "How often callers who watch events were told that some are missing";
        registry.register("ccgw_event_gaps", help, event_gaps.clone());
        let help = "Connections to gateways that are open";
        registry.register("ccgw_gateway_connections", help, connections.clone());
        registry.register("ccgw_gateway_requests", "Requests to gateways", requests.clone());
        registry.register_with_unit(
            "ccgw_gateway_request_duration",
            "From the first byte towards a gateway to its whole answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        registry.register_with_unit(
            "ccgw_queue_wait",
            "From the arrival of a call to its turn and its place among the requests",
            Unit::Seconds,
            queue_seconds.clone(),
        );
        registry.register_with_unit(
            "ccgw_session_wait",
            "What a call waited for a session that was not at hand",
            Unit::Seconds,
            session_seconds.clone(),
        );
        registry.register("ccgw_guid_renewals", "Guids renewed by the gateway", renewals.clone());
        let help =
            "Changes of sessions that the gateway has made and the session store did not take";
        registry.register("ccgw_session_changes_unstored", help, families.unstored.clone());
        registry.register("ccgw_events", "Events that polls have brought", events.clone());
        registry.register_with_unit(
            "ccgw_event_lag",
            "From an event by the gateway's clock to its poll; only where it sends the time",
            Unit::Seconds,
            event_lag.clone(),
        );
        registry.register("ccgw_confirmations", "Waits for an event", confirmations.clone());
        families.sign_ins.register(registry);
        registry.register("ccgw_sessions", "Sessions of the bridge's own", sessions.clone());
        let help = "How often sessions have entered a state";
        registry.register("ccgw_session_states_entered", help, entered.clone());
        registry.register("ccgw_tenant_places_limit", "Places that a share has", places.clone());
        registry.register(
            "ccgw_tenant_places_in_use",
            "Places that are taken",
            places_taken.clone(),
        );
        let Self { without_lease, polls_stopped, .. } = &families;
        let help = "Agents who are polled without a lease, since the store cannot be asked";
        registry.register("ccgw_agents_polled_without_lease", help, without_lease.clone());
        let help = "Agents who are polled no more, since the store cannot be asked";
        registry.register("ccgw_agents_polling_stopped", help, polls_stopped.clone());
        families
    }

    /// The part of a tenant of the configuration.
    pub fn of(&self, tenant: &TenantId) -> TenantMetrics {
        let tenant: Arc<str> = tenant.as_str().into();
        let labels = TenantLabels { tenant: tenant.clone() };
        self.prepare_requests(&tenant);
        let code = |grpc_code: &&'static str| CodeLabels { tenant: tenant.clone(), grpc_code };
        let share = |share: &Share| ShareLabels { tenant: tenant.clone(), share: share.as_str() };
        let overloaded = Share::ALL.iter().map(share);
        TenantMetrics {
            requests: Requests::default(),
            calls: CODES.iter().map(|c| self.calls.get_or_create(&code(c)).clone()).collect(),
            overloaded: overloaded.map(|s| self.overloaded.get_or_create(&s).clone()).collect(),
            event_gaps: self.event_gaps.get_or_create(&labels).clone(),
            connections: self.connections.get_or_create(&labels).clone(),
            queue_seconds: self.queue_seconds.get_or_create(&labels).clone(),
            session_seconds: self.session_seconds.get_or_create(&labels).clone(),
            renewals: self.renewals.get_or_create(&labels).clone(),
            unstored: self.unstored.get_or_create(&labels).clone(),
            events: self.events.get_or_create(&labels).clone(),
            event_lag: self.event_lag.get_or_create(&labels).clone(),
            sign_ins: self.sign_ins.of(&tenant),
            families: self.clone(),
            tenant,
        }
    }

    /// What alerts take the increase of begins at 0: a series that begins at 1 has not increased.
    fn prepare_requests(&self, tenant: &Arc<str>) {
        let labels =
            |interface, result| RequestLabels { tenant: tenant.clone(), interface, result };
        for interface in INTERFACES {
            let sign_in = interface.pace == Pace::SignIn;
            let rejected = [Kind::CredentialsRejected, Kind::AccountLocked].map(Kind::as_str);
            let rejected = rejected.into_iter().filter(|_| sign_in);
            for result in NO_REFUSALS.into_iter().chain(rejected) {
                drop(self.requests.get_or_create(&labels(interface.log_name, result)));
            }
        }
    }
}

impl TenantMetrics {
    /// A request was answered, or not, so long after it was begun.
    pub fn request(&self, interface: &'static str, result: &'static str, took: Duration) {
        self.requests.note(interface, result);
        let tenant = self.tenant.clone();
        let labels = RequestLabels { tenant: tenant.clone(), interface, result };
        self.families.requests.get_or_create(&labels).inc();
        let labels = InterfaceLabels { tenant, interface };
        self.families.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A call that has one answer was given it, with this code.
    pub fn answered(&self, code: i32) {
        let calls = usize::try_from(code).ok().and_then(|code| self.calls.get(code));
        if let Some(calls) = calls {
            calls.inc();
        }
    }

    /// What the tenant has done so far.
    pub fn counts(&self) -> Counts {
        let of = |code: &&str| FAILED.contains(code);
        let calls = CODES.iter().zip(&self.calls);
        self.requests.add_to(Counts {
            calls: self.calls.iter().map(Counter::get).sum(),
            calls_failed: calls.filter(|(code, _)| of(code)).map(|(_, count)| count.get()).sum(),
            events: self.events.get(),
            ..Counts::default()
        })
    }

    /// A call was refused because a share is used up.
    pub fn overloaded(&self, share: Share) {
        let counters = Share::ALL.iter().zip(&self.overloaded);
        if let Some((_, counter)) = counters.into_iter().find(|(known, _)| **known == share) {
            counter.inc();
        }
    }

    /// A caller who watches events was told that some are missing.
    pub fn event_gap(&self) {
        self.event_gaps.inc();
    }

    /// The connections to the tenant's gateway that are open.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// A call has its turn and its place.
    pub fn queued(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// A call that found no session at hand has one, or has not.
    pub fn session_waited(&self, waited: Duration) {
        self.session_seconds.observe(waited.as_secs_f64());
    }

    /// The gateway renewed a Guid.
    pub fn renewed(&self) {
        self.renewals.inc();
    }

    /// The gateway changed a session, and the session store did not take that.
    pub fn unstored(&self) {
        self.unstored.inc();
    }

    /// A poll brought an event, which is so old by the gateway's clock.
    pub fn event(&self, lag: Option<Duration>) {
        self.events.inc();
        if let Some(lag) = lag {
            self.event_lag.observe(lag.as_secs_f64());
        }
    }

    /// How often sessions have entered each state, in the order of [`SessionState::ALL`].
    pub fn states_entered(&self) -> [Counter; SessionState::ALL.len()] {
        let mut states = SessionState::ALL.into_iter().map(SessionState::as_str);
        array::from_fn(|_| {
            let state = states.next().unwrap_or_default();
            let labels = StateLabels { tenant: self.tenant.clone(), state };
            self.families.entered.get_or_create(&labels).clone()
        })
    }

    /// So many sessions are in a state.
    pub fn set_sessions(&self, state: SessionState, count: usize) {
        let labels = StateLabels { tenant: self.tenant.clone(), state: state.as_str() };
        set(&self.families.sessions.get_or_create(&labels), count);
    }

    /// So many places of a share are taken.
    pub fn set_places(&self, share: &'static str, taken: usize, limit: usize) {
        let labels = ShareLabels { tenant: self.tenant.clone(), share };
        set(&self.families.places.get_or_create(&labels), limit);
        set(&self.families.places_taken.get_or_create(&labels), taken);
    }

    /// So many agents are polled without a lease, and so many no more, since the store cannot be
    /// asked.
    pub fn set_without_lease(&self, polled: usize, stopped: usize) {
        let labels = TenantLabels { tenant: self.tenant.clone() };
        set(&self.families.without_lease.get_or_create(&labels), polled);
        set(&self.families.polls_stopped.get_or_create(&labels), stopped);
    }

    /// The wait for a confirmation has ended.
    pub fn confirmation(&self, result: &'static str) {
        let labels = ConfirmationLabels { tenant: self.tenant.clone(), result };
        self.families.confirmations.get_or_create(&labels).inc();
    }
}

pub(super) fn set(gauge: &Gauge, value: usize) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}
