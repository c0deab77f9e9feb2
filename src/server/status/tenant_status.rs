//! The state of one tenant.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{
    ShareStatus, spelled,
    verdict::{Judgement, Reach},
};
use crate::{
    gateway::{AddressState, AddressView},
    rpc::FailureGroup,
    server::history::{BAR, Bar, Lately},
    session::SessionState,
    telemetry::metrics::Times,
    tenant::{Counts, SignInQueue, TakenOver, Tenant},
    time::{as_rfc3339, option_as_rfc3339},
};

/// One tenant.
#[derive(Debug, Serialize)]
pub(in crate::server) struct TenantStatus {
    pub(in crate::server) tenant: String,
    /// How the tenant is, and why.
    #[serde(flatten)]
    pub(in crate::server) judgement: Judgement,
    /// Whether its gateway answers.
    #[serde(serialize_with = "spelled")]
    pub(in crate::server) gateway: Reach,
    /// In the order of the configuration, which is the order of preference.
    pub(in crate::server) gateways: Vec<GatewayStatus>,
    pub(in crate::server) last_minute: Counts,
    /// How long the gateway took in the last minute for the requests of calls.
    pub(in crate::server) gateway_times: TimesStatus,
    pub(in crate::server) last_ten_minutes: HistoryStatus,
    pub(in crate::server) since_start: Counts,
    /// Calls that have been admitted and have no place among the requests yet.
    pub(in crate::server) waiting: usize,
    pub(in crate::server) shares: Vec<ShareStatus>,
    pub(in crate::server) sessions: Vec<SessionStatus>,
    /// Agents who are polled without a lease, since the store cannot be asked.
    pub(in crate::server) polled_without_lease: usize,
    /// Agents who are not polled any more, since the store cannot be asked.
    pub(in crate::server) polls_stopped: usize,
    /// The queue of agents whom the bridge signs in by itself.
    pub(in crate::server) sign_ins: SignInStatus,
    /// Agents whom another client has taken from the bridge lately.
    pub(in crate::server) taken_over: Vec<TakenOverStatus>,
}

/// How long requests took, in seconds. `None`: there were none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(in crate::server) struct TimesStatus {
    /// Half of them took no longer.
    pub(in crate::server) p50_seconds: Option<f64>,
    /// 99 of 100 took no longer. 30 stands for whatever is longer.
    pub(in crate::server) p99_seconds: Option<f64>,
}

/// The calls of the last ten minutes, oldest first. The lists are empty if there were none.
#[derive(Debug, Serialize)]
pub(in crate::server) struct HistoryStatus {
    /// The time that each number is for.
    pub(in crate::server) seconds_each: u64,
    pub(in crate::server) calls: Vec<u32>,
    pub(in crate::server) calls_refused: Vec<u32>,
    pub(in crate::server) calls_failed: Vec<u32>,
}

/// The queue of agents whom the bridge signs in by itself.
#[derive(Debug, Serialize)]
pub(in crate::server) struct SignInStatus {
    pub(in crate::server) waiting: usize,
    /// How long the first one has been waiting.
    pub(in crate::server) oldest_seconds: f64,
    pub(in crate::server) under_way: usize,
    /// The rate measured lately.
    pub(in crate::server) per_second: f64,
    pub(in crate::server) empty_in_seconds: f64,
}

/// An agent whom another client has taken from the bridge.
#[derive(Debug, Serialize)]
pub(in crate::server) struct TakenOverStatus {
    pub(in crate::server) agent: String,
    /// How often the bridge has tried to take the agent back.
    pub(in crate::server) attempts: u32,
    /// Whether the bridge has stopped trying, until a caller asks for the agent.
    pub(in crate::server) given_up: bool,
}

/// One address of a tenant's gateway.
#[derive(Debug, Serialize)]
pub(in crate::server) struct GatewayStatus {
    pub(in crate::server) host: String,
    /// Whether requests go to this address first.
    pub(in crate::server) in_use: bool,
    #[serde(serialize_with = "address_state")]
    pub(in crate::server) state: AddressState,
    #[serde(serialize_with = "option_as_rfc3339")]
    pub(in crate::server) last_answer: Option<SystemTime>,
    /// The last failure. The address may have answered since.
    pub(in crate::server) last_failure: Option<FailureStatus>,
    /// Whether it has not answered since then. The two times are by a clock that may be set.
    #[serde(skip)]
    pub(in crate::server) failed_last: bool,
    /// Whether that was within the last minute.
    #[serde(skip)]
    pub(in crate::server) is_failing: bool,
}

/// A failure of an address.
#[derive(Debug, Serialize)]
pub(in crate::server) struct FailureStatus {
    #[serde(serialize_with = "as_rfc3339")]
    pub(in crate::server) time: SystemTime,
    pub(in crate::server) error: String,
}

/// How many sessions of a tenant are in a state.
#[derive(Debug, Serialize)]
pub(in crate::server) struct SessionStatus {
    #[serde(serialize_with = "spelled")]
    pub(in crate::server) state: SessionState,
    pub(in crate::server) now: usize,
    /// How often the state was entered since the start.
    pub(in crate::server) entered: u64,
}

impl TenantStatus {
    /// The tenant's state now. `failures` are those of the tenant, the newest first.
    pub(super) fn of(tenant: &Arc<Tenant>, lately: &Lately, failures: &[&FailureGroup]) -> Self {
        let (usage, leases) = (tenant.usage(), tenant.lease_counts());
        let sessions = tenant.session_states().into_iter().map(|count| SessionStatus {
            state: count.state,
            now: count.now,
            entered: count.entered,
        });
        let gateways: Vec<_> = tenant.addresses().into_iter().map(GatewayStatus::from).collect();
        let mut status = Self {
            tenant: tenant.id().to_string(),
            judgement: Judgement::default(),
            gateway: Reach::of(&gateways),
            gateways,
            last_minute: lately.counts,
            gateway_times: TimesStatus::from(lately.times),
            last_ten_minutes: HistoryStatus::of(&lately.bars),
            since_start: tenant.counts(),
            waiting: usage.waiting_calls(),
            polled_without_lease: leases.overdue,
            polls_stopped: leases.dropped,
            sessions: sessions.collect(),
            sign_ins: SignInStatus::from(tenant.sign_in_queue()),
            taken_over: tenant.taken_over().into_iter().map(TakenOverStatus::from).collect(),
            shares: usage.all().map(ShareStatus::from).into(),
        };
        status.judgement = Judgement::of(&status, failures);
        status
    }

    /// How many sessions are in this state now.
    pub(in crate::server) fn in_state(&self, state: SessionState) -> usize {
        let found = self.sessions.iter().find(|session| session.state == state);
        found.map_or(0, |session| session.now)
    }
}

impl From<Times> for TimesStatus {
    fn from(times: Times) -> Self {
        let seconds = |permille| times.quantile(permille).map(rounded);
        Self { p50_seconds: seconds(500), p99_seconds: seconds(990) }
    }
}

impl HistoryStatus {
    fn of(bars: &[Bar]) -> Self {
        let is_empty = bars.iter().all(|bar| bar.calls == 0);
        let bars = if is_empty { &[] } else { bars };
        Self {
            seconds_each: BAR.as_secs(),
            calls: bars.iter().map(|bar| bar.calls).collect(),
            calls_refused: bars.iter().map(|bar| bar.refused).collect(),
            calls_failed: bars.iter().map(|bar| bar.failed).collect(),
        }
    }
}

impl From<SignInQueue> for SignInStatus {
    fn from(queue: SignInQueue) -> Self {
        Self {
            waiting: queue.waiting,
            oldest_seconds: rounded(queue.oldest),
            under_way: queue.under_way,
            per_second: (queue.per_second * 1e3).round() / 1e3,
            empty_in_seconds: rounded(queue.empty_in),
        }
    }
}

impl From<TakenOver> for TakenOverStatus {
    fn from(TakenOver { agent, attempts, given_up }: TakenOver) -> Self {
        Self { agent: agent.to_string(), attempts, given_up }
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
            is_failing: view.is_failing,
        }
    }
}

/// A time in seconds, to the tenth of a millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 1e4
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn address_state<S: Serializer>(state: &AddressState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_str())
}
