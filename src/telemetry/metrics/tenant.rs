//! Metrics of tenants.
use std::{fmt::Debug, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Code, CodeClass, Counters, Label,
    family::Family,
    label::TenantLabels,
    late::{ByCode, Late, WithCode},
    own::Own,
    set, sign_ins,
    times::Histogram,
};

/// The metrics of all tenants.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// By the number of the gRPC code.
    codes: &'static [Code],
    queue_seconds: Family<TenantLabels, Histogram>,
    session_seconds: Family<TenantLabels, Histogram>,
    renewals: Family<TenantLabels, Counter>,
    unstored: Family<TenantLabels, Counter>,
    events: Family<TenantLabels, Counter>,
    foreign_events: Family<TenantLabels, Counter>,
    event_lag: Family<TenantLabels, Histogram>,
    confirmations: Family<ResultLabels, Counter>,
    read_backs: Family<ResultLabels, Counter>,
    abandoned: Family<OutcomeLabels, Counter>,
    repeats: Family<CauseLabels, Counter>,
    repeats_over_limit: Family<TenantLabels, Counter>,
    sign_ins: sign_ins::Families,
    calls: Family<CodeLabels, Counter>,
    overloaded: Family<ShareLabels, Counter>,
    over_own_share: Family<TenantLabels, Counter>,
    event_gaps: Family<TenantLabels, Counter>,
    sessions: Family<StateLabels, Gauge>,
    entered: Family<StateLabels, Counter>,
    places: Family<ShareLabels, Gauge>,
    places_taken: Family<ShareLabels, Gauge>,
    without_lease: Family<TenantLabels, Gauge>,
    polls_stopped: Family<TenantLabels, Gauge>,
}

/// The label values of a tenant's metrics. The module that counts supplies them.
pub trait Vocabulary: Debug + 'static {
    /// A limit that calls can reach.
    type Share: Label + PartialEq;
    /// The state of an agent's session.
    type SessionState: Label;
    /// The result of waiting for an event.
    type Confirmation: Label;
    /// The result of a sign-in that found the agent with another client.
    type TakeOver: Label + PartialEq;
    /// The result of asking the gateway what became of a change.
    type ReadBack: Label;
    /// Why a call sends one more request.
    type Repeat: Label;

    /// All limits. Each has a series from the start.
    const SHARES: &'static [Self::Share];
    /// All results of take-overs. Each has a series from the start.
    const TAKE_OVERS: &'static [Self::TakeOver];
}

/// Unary calls of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// All of them.
    pub all: u64,
    /// Those that were refused because of what they asked for, or because of the agent's state.
    pub refused: u64,
    /// Those whose callers have left.
    pub cancelled: u64,
    /// Those that failed because of a gateway or the bridge.
    pub failed: u64,
    /// How many of those that failed did so because their caller had used up its own part of a limit.
    pub over_own_share: u64,
}

/// One tenant's part.
#[derive(Debug)]
pub struct TenantMetrics<V: Vocabulary> {
    tenant: Arc<str>,
    families: Tenants,
    queue_seconds: Late<TenantLabels>,
    session_seconds: Late<TenantLabels>,
    renewals: Counter,
    unstored: Counter,
    events: Own,
    foreign_events: Counter,
    event_lag: Late<TenantLabels>,
    calls: ByCode<CodeLabels>,
    overloaded: Counters<V::Share>,
    over_own_share: Own,
    event_gaps: Counter,
    repeats_over_limit: Counter,
    /// Sign-ins that the bridge makes by itself.
    pub sign_ins: sign_ins::SignIns<V::TakeOver>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    tenant: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    tenant: Arc<str>,
    cause: &'static str,
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
struct ResultLabels {
    tenant: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    tenant: Arc<str>,
    outcome: &'static str,
}

impl WithCode for CodeLabels {
    fn with_code(&self, grpc_code: &'static str) -> Self {
        Self { grpc_code, ..self.clone() }
    }
}

impl Tenants {
    pub(super) fn new(codes: &'static [Code], registry: &mut Registry) -> Self {
        let histogram = Family::<TenantLabels, Histogram>::default;
        let families = Self {
            codes,
            queue_seconds: histogram(),
            session_seconds: histogram(),
            renewals: Family::default(),
            unstored: Family::default(),
            events: Family::default(),
            foreign_events: Family::default(),
            event_lag: histogram(),
            confirmations: Family::default(),
            read_backs: Family::default(),
            abandoned: Family::default(),
            repeats: Family::default(),
            repeats_over_limit: Family::default(),
            sign_ins: sign_ins::Families::default(),
            calls: Family::default(),
            overloaded: Family::default(),
            over_own_share: Family::default(),
            event_gaps: Family::default(),
            sessions: Family::default(),
            entered: Family::default(),
            places: Family::default(),
            places_taken: Family::default(),
            without_lease: Family::default(),
            polls_stopped: Family::default(),
        };
        let Self { queue_seconds, session_seconds, .. } = &families;
        let Self { renewals, events, event_lag, confirmations, .. } = &families;
        let Self { sessions, entered, places, places_taken, .. } = &families;
        let Self { calls, overloaded, event_gaps, .. } = &families;
        registry.register("ccgw_calls", "Unary calls, by tenant and code", calls.clone());
        let help = "Calls that were refused because a limit was used up";
        registry.register("ccgw_calls_over_limit", help, overloaded.clone());
        let help = "Unary calls that were refused because their caller had used up its own part of a limit";
        registry.register("ccgw_calls_over_own_share", help, families.over_own_share.clone());
        families.of_no_tenant();
        let help = "How often callers who watch events were told that some are missing";
        registry.register("ccgw_event_gaps", help, event_gaps.clone());
        registry.register_with_unit(
            "ccgw_queue_wait",
            "From the arrival of a call to its turn and its place among the requests",
            Unit::Seconds,
            queue_seconds.clone(),
        );
        registry.register_with_unit(
            "ccgw_session_wait",
            "How long calls waited for a session that had to be fetched or created",
            Unit::Seconds,
            session_seconds.clone(),
        );
        registry.register("ccgw_guid_renewals", "Guids renewed by the gateway", renewals.clone());
        let help = "Changes of sessions by the gateway that the session store did not take";
        registry.register("ccgw_session_changes_unstored", help, families.unstored.clone());
        registry.register("ccgw_events", "Events that polls have brought", events.clone());
        let help =
            "Events of agents who have no session here, which polls for all agents have brought";
        registry.register("ccgw_foreign_events", help, families.foreign_events.clone());
        registry.register_with_unit(
            "ccgw_event_lag",
            "From an event, by the gateway's clock, to its poll; only if the gateway sends the time",
            Unit::Seconds,
            event_lag.clone(),
        );
        registry.register("ccgw_confirmations", "Waits for an event", confirmations.clone());
        let help = "How often the gateway was asked what became of a change whose answer was lost";
        registry.register("ccgw_read_backs", help, families.read_backs.clone());
        let help = "Calls that ended after their callers had left, by what became of the agent";
        registry.register("ccgw_calls_abandoned", help, families.abandoned.clone());
        let help = "Requests of calls whose earlier ones came to nothing, by why they were sent";
        registry.register("ccgw_repeats", help, families.repeats.clone());
        let help = "Requests of calls whose earlier ones came to nothing, and that were too many to be sent";
        registry.register("ccgw_repeats_over_limit", help, families.repeats_over_limit.clone());
        families.sign_ins.register(registry);
        registry.register("ccgw_sessions", "Sessions that the bridge has made", sessions.clone());
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
        let help = "Agents who are not polled any more, since the store cannot be asked";
        registry.register("ccgw_agents_polling_stopped", help, polls_stopped.clone());
        families
    }

    /// Counts a unary call whose tenant is not known, and that was refused because its caller had used up its own
    /// part of a limit.
    pub fn over_own_share(&self) {
        self.of_no_tenant().inc();
    }

    fn of_no_tenant(&self) -> Counter {
        self.over_own_share.get_or_create(&TenantLabels { tenant: "".into() })
    }

    /// A configured tenant's part.
    pub fn of<V: Vocabulary>(&self, tenant: &str) -> TenantMetrics<V> {
        let tenant: Arc<str> = tenant.into();
        let labels = TenantLabels { tenant: tenant.clone() };
        let with_code = CodeLabels { tenant: tenant.clone(), grpc_code: "" };
        let overloaded = |share| {
            let labels = ShareLabels { tenant: tenant.clone(), share };
            self.overloaded.get_or_create(&labels)
        };
        TenantMetrics {
            calls: ByCode::new(&self.calls, with_code, self.codes),
            overloaded: Counters::new(V::SHARES, overloaded),
            over_own_share: Own::new(self.over_own_share.get_or_create(&labels)),
            event_gaps: self.event_gaps.get_or_create(&labels),
            repeats_over_limit: self.repeats_over_limit.get_or_create(&labels),
            queue_seconds: Late::new(&self.queue_seconds, labels.clone()),
            session_seconds: Late::new(&self.session_seconds, labels.clone()),
            renewals: self.renewals.get_or_create(&labels),
            unstored: self.unstored.get_or_create(&labels),
            events: Own::new(self.events.get_or_create(&labels)),
            foreign_events: self.foreign_events.get_or_create(&labels),
            event_lag: Late::new(&self.event_lag, labels.clone()),
            sign_ins: self.sign_ins.of(&tenant, V::TAKE_OVERS),
            families: self.clone(),
            tenant,
        }
    }
}

impl<V: Vocabulary> TenantMetrics<V> {
    /// Counts a unary call that was answered with this code.
    pub fn answered(&self, code: i32) {
        self.calls.inc(code);
    }

    /// The number of this tenant's unary calls so far, and what became of them. A tenant that was removed and comes back
    /// begins at zero, although its series go on.
    pub fn calls(&self) -> CallCounts {
        let over_own_share = self.over_own_share.get();
        let mut counts = CallCounts { over_own_share, ..<_>::default() };
        for (code, calls) in self.calls.counts() {
            counts.all += calls;
            match code.class {
                CodeClass::Success => {}
                CodeClass::Refusal => counts.refused += calls,
                CodeClass::Cancelled => counts.cancelled += calls,
                CodeClass::Failure => counts.failed += calls,
            }
        }
        counts
    }

    /// The number of events that this tenant's polls have brought so far.
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// Counts a call that was refused because a limit was used up.
    pub fn overloaded(&self, share: V::Share) {
        self.overloaded.inc(share);
    }

    /// Counts a unary call that was refused because its caller had used up its own part of a limit.
    pub fn over_own_share(&self) {
        self.over_own_share.inc();
    }

    /// Counts that a caller who watches events was told of missing ones.
    pub fn event_gap(&self) {
        self.event_gaps.inc();
    }

    /// Counts a call that has got its turn and its place, with the time that it waited.
    pub fn queued(&self, waited: Duration) {
        self.queue_seconds.observe(waited);
    }

    /// Counts a call that had to wait for a session, whether it got one or not.
    pub fn session_waited(&self, waited: Duration) {
        self.session_seconds.observe(waited);
    }

    /// Counts a Guid that the gateway has renewed.
    pub fn renewed(&self) {
        self.renewals.inc();
    }

    /// Counts a change of a session by the gateway that the session store did not take.
    pub fn unstored(&self) {
        self.unstored.inc();
    }

    /// Counts an event that a poll has brought, with its age by the gateway's clock.
    pub fn event(&self, lag: Option<Duration>) {
        self.events.inc();
        if let Some(lag) = lag {
            self.event_lag.observe(lag);
        }
    }

    /// Counts an event that a poll has brought, and that is of no agent who has a session here.
    pub fn foreign_event(&self) {
        self.foreign_events.inc();
    }

    /// The counters of how often sessions have entered each of these states.
    pub fn states_entered<const N: usize>(&self, states: [V::SessionState; N]) -> [Counter; N] {
        states.map(|state| {
            let labels = StateLabels { tenant: self.tenant.clone(), state: state.as_str() };
            self.families.entered.get_or_create(&labels)
        })
    }

    /// Sets how many sessions are in a state.
    pub fn set_sessions(&self, state: V::SessionState, count: usize) {
        let labels = StateLabels { tenant: self.tenant.clone(), state: state.as_str() };
        set(&self.families.sessions.get_or_create(&labels), count);
    }

    /// Sets how many places of a share are taken, and how many there are.
    pub fn set_places(&self, share: &'static str, taken: usize, limit: usize) {
        let labels = ShareLabels { tenant: self.tenant.clone(), share };
        set(&self.families.places.get_or_create(&labels), limit);
        set(&self.families.places_taken.get_or_create(&labels), taken);
    }

    /// Sets how many agents are polled without a lease and how many are not polled any more, both
    /// because the store cannot be asked.
    pub fn set_without_lease(&self, polled: usize, stopped: usize) {
        let labels = TenantLabels { tenant: self.tenant.clone() };
        set(&self.families.without_lease.get_or_create(&labels), polled);
        set(&self.families.polls_stopped.get_or_create(&labels), stopped);
    }

    /// Counts a wait for a confirmation that has ended.
    pub fn confirmation(&self, result: V::Confirmation) {
        let labels = ResultLabels { tenant: self.tenant.clone(), result: result.as_str() };
        self.families.confirmations.get_or_create(&labels).inc();
    }

    /// Counts a call that ended after its caller had left, with what is known about the agent.
    pub fn abandoned(&self, outcome: &'static str) {
        let labels = OutcomeLabels { tenant: self.tenant.clone(), outcome };
        self.families.abandoned.get_or_create(&labels).inc();
    }

    /// Counts that the gateway was asked what became of a change.
    pub fn read_back(&self, result: V::ReadBack) {
        let labels = ResultLabels { tenant: self.tenant.clone(), result: result.as_str() };
        self.families.read_backs.get_or_create(&labels).inc();
    }

    /// Counts a request that follows one that came to nothing, or one that was too many.
    pub fn repeat(&self, cause: V::Repeat, is_sent: bool) {
        if is_sent {
            let labels = CauseLabels { tenant: self.tenant.clone(), cause: cause.as_str() };
            self.families.repeats.get_or_create(&labels).inc();
        } else {
            self.repeats_over_limit.inc();
        }
    }
}
