use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    agent::SessionTimes,
    tenant_status::{FailureStatus, TimesStatus},
    verdict::{Finding, Judgement},
    *,
};
use crate::{
    call::{Outcome, Share},
    event::{Event, Fetched, GatewayEvent, What},
    gateway::AddressState,
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    rpc::AgentFailure,
    session::SessionState,
    tenant::Counts,
};

/// Every field that programs may rely on, by path. `*` stands for each item of a list.
const FORMAT_1: &str = "
    format_version version commit state time start_time warnings.* window_seconds
    listeners.*.listener listeners.*.address listeners.*.tls
    gateways.answering gateways.silent gateways.not_asked
    tenants.*.verdict tenants.*.findings.*.what tenants.*.findings.*.page tenants.*.gateway
    tenants.*.gateway_times.p50_seconds tenants.*.gateway_times.p99_seconds
    tenants.*.last_ten_minutes.seconds_each tenants.*.last_ten_minutes.calls.*
    tenants.*.last_ten_minutes.calls_refused.* tenants.*.last_ten_minutes.calls_failed.*
    tenants.*.last_minute.calls_refused tenants.*.last_minute.calls_cancelled
    tenants.*.last_minute.calls_over_own_share
    tenants.*.since_start.calls_refused tenants.*.since_start.calls_cancelled
    tenants.*.since_start.calls_over_own_share
    events.*.time events.*.agent events.*.event events.*.cause
    failure_groups.*.time failure_groups.*.tenant failure_groups.*.method failure_groups.*.code
    failure_groups.*.reason failure_groups.*.outcome failure_groups.*.retcode failure_groups.*.error
    failure_groups.*.gateway_message failure_groups.*.refused failure_groups.*.count
    failure_groups.*.first_time
    tenants.*.tenant tenants.*.waiting tenants.*.polled_without_lease tenants.*.polls_stopped
    tenants.*.gateways.*.host tenants.*.gateways.*.in_use tenants.*.gateways.*.state
    tenants.*.gateways.*.last_answer
    tenants.*.gateways.*.last_failure.time tenants.*.gateways.*.last_failure.error
    tenants.*.last_minute.calls tenants.*.last_minute.calls_failed
    tenants.*.last_minute.requests tenants.*.last_minute.requests_unanswered
    tenants.*.last_minute.polls tenants.*.last_minute.sign_ins tenants.*.last_minute.events
    tenants.*.since_start.calls tenants.*.since_start.calls_failed
    tenants.*.since_start.requests tenants.*.since_start.requests_unanswered
    tenants.*.since_start.polls tenants.*.since_start.sign_ins tenants.*.since_start.events
    tenants.*.shares.*.share tenants.*.shares.*.taken tenants.*.shares.*.limit
    tenants.*.sessions.*.state tenants.*.sessions.*.now tenants.*.sessions.*.entered
    tenants.*.sign_ins.waiting tenants.*.sign_ins.oldest_seconds tenants.*.sign_ins.under_way
    tenants.*.sign_ins.per_second tenants.*.sign_ins.empty_in_seconds
    tenants.*.taken_over.*.agent tenants.*.taken_over.*.attempts tenants.*.taken_over.*.given_up
    failures.*.time failures.*.tenant failures.*.method failures.*.code failures.*.reason
    failures.*.outcome failures.*.retcode failures.*.error failures.*.gateway_message
    shares.*.share shares.*.taken shares.*.limit
    hosts.*.host hosts.*.share hosts.*.taken hosts.*.limit
    hosts.*.ceiling hosts.*.waiting hosts.*.refused
    store.kind store.state store.error store.failures store.file_bytes
    certificates.*.tenant certificates.*.listener certificates.*.certificate certificates.*.not_after
    reloads.applied reloads.applied_time reloads.failed reloads.failed_time reloads.error reloads.restart.*
    log.filter log.configured log.until log_lines_lost
";

/// Every field of `/agent.json`, in the same way.
const AGENT_1: &str = "
    tenant agent time state session_state is_polled_here has_credentials
    session.origin session.renewed_time session.expires_in_seconds
    taken_over.agent taken_over.attempts taken_over.given_up
    failed_calls.*.time failed_calls.*.method failed_calls.*.code failed_calls.*.reason
    failed_calls.*.outcome failed_calls.*.retcode
    events.*.time events.*.agent events.*.event events.*.cause
";

/// A time for all that has one.
pub(in crate::server) const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn share() -> ShareStatus {
    ShareStatus { share: Resource::Share(Share::TenantCalls), taken: 1, limit: 2 }
}

/// A tenant with one of everything.
pub(in crate::server) fn tenant() -> TenantStatus {
    let now = NOW;
    let verdict = Verdict::Failing;
    TenantStatus {
        tenant: "acme".into(),
        judgement: Judgement {
            verdict,
            findings: vec![Finding { verdict, what: "no".into(), page: "running/runbook" }],
        },
        gateway: Reach::Answers,
        gateway_times: TimesStatus { p50_seconds: Some(0.01), p99_seconds: Some(0.2) },
        last_ten_minutes: HistoryStatus {
            seconds_each: 20,
            calls: vec![3],
            calls_refused: vec![1],
            calls_failed: vec![1],
        },
        gateways: vec![GatewayStatus {
            host: "gateway".into(),
            in_use: true,
            state: AddressState::Good,
            last_answer: Some(now),
            last_failure: Some(FailureStatus { time: now, error: "refused".into() }),
            failed_last: true,
            is_failing: true,
        }],
        last_minute: Counts::default(),
        since_start: Counts::default(),
        waiting: 0,
        shares: vec![share()],
        sessions: vec![SessionStatus { state: SessionState::Kept, now: 1, entered: 1 }],
        polled_without_lease: 0,
        polls_stopped: 0,
        sign_ins: SignInStatus {
            waiting: 0,
            oldest_seconds: 0.0,
            under_way: 0,
            per_second: 5.0,
            empty_in_seconds: 0.0,
        },
        taken_over: vec![TakenOverStatus { agent: "1001".into(), attempts: 1, given_up: false }],
    }
}

/// A group of two failures of this tenant.
pub(in crate::server) fn group(tenant: &str) -> FailureGroup {
    FailureGroup { last: failure(tenant), refused: false, count: 2, first_time: NOW }
}

fn failure(tenant: &str) -> Failure {
    Failure {
        time: NOW,
        tenant: tenant.into(),
        method: "SetBusy",
        code: "UNKNOWN",
        reason: "UNLISTED_RETCODE".into(),
        outcome: Outcome::Refused,
        retcode: Some("999-001".into()),
        error: "refused".into(),
        gateway_message: Some("no".into()),
    }
}

fn event() -> EventStatus {
    let (agent, event) = ("1001".into(), "session lost".into());
    EventStatus { time: NOW, agent, event, cause: Some("silent".into()) }
}

/// What is known of an agent, with one of everything.
pub(in crate::server) fn agent() -> AgentStatus {
    let failed_call = AgentFailure {
        time: NOW,
        tenant: TenantId::parse("acme").expect("a name"),
        agent: "1001".into(),
        method: "SetBusy",
        code: "FAILED_PRECONDITION",
        reason: "STATE_REFUSED".into(),
        outcome: Outcome::Refused,
        retcode: Some("100-007".into()),
    };
    AgentStatus {
        tenant: "acme".into(),
        agent: "1001".into(),
        time: NOW,
        state: Some("busy".into()),
        session_state: Some("kept"),
        session: Some(SessionTimes {
            origin: "sign_in",
            renewed_time: NOW,
            expires_in_seconds: Some(60),
        }),
        is_polled_here: true,
        has_credentials: true,
        taken_over: Some(TakenOverStatus { agent: "1001".into(), attempts: 1, given_up: true }),
        failed_calls: vec![failed_call],
        events: vec![event()],
    }
}

/// A status with one of everything.
pub(in crate::server) fn all() -> Status {
    let now = NOW;
    let until = Some("1970-01-01T00:00:00Z".into());
    Status {
        format_version: FORMAT_VERSION,
        version: "0.1.0",
        commit: "",
        state: Phase::Ready,
        time: now,
        start_time: now,
        warnings: vec!["unsafe".into()],
        listeners: vec![ListenerStatus {
            listener: "default".into(),
            address: "127.0.0.1:1".parse().expect("an address"),
            tls: true,
        }],
        window_seconds: 60.0,
        gateways: GatewayCounts { answering: 1, silent: 0, not_asked: 0 },
        tenants: vec![tenant()],
        events: vec![event()],
        failures: vec![failure("acme")],
        failure_groups: vec![group("acme")],
        shares: vec![share()],
        hosts: vec![HostStatus {
            host: "gateway".into(),
            share: share(),
            ceiling: 4,
            waiting: 3,
            refused: 5,
        }],
        store: StoreStatus::NONE,
        certificates: vec![CertificateStatus {
            tenant: None,
            listener: Some("default".into()),
            certificate: "server",
            not_after: now,
        }],
        reloads: ReloadView {
            applied: 1,
            applied_time: Some(now),
            failed: 1,
            failed_time: Some(now),
            error: Some("no such file".into()),
            restart: vec!["log.filter".into()],
        },
        log: Some(LogView { filter: "info".into(), configured: "info".into(), until }),
        log_lines_lost: 0,
    }
}

fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| paths(&below(name), value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| paths(&below("*"), value, found)),
        _ => drop(found.insert(at.to_owned())),
    }
}

/// If this fails because a field was removed or renamed, increase the format version and change the
/// list. If a field was added, add it to the list.
#[test]
fn the_fields_are_those_of_the_format_version() {
    assert_eq!(FORMAT_VERSION, 1, "the list is of another version");
    let of_agent = serde_json::to_value(agent());
    for (value, listed) in [(serde_json::to_value(all()), FORMAT_1), (of_agent, AGENT_1)] {
        let mut found = BTreeSet::new();
        paths("", &value.unwrap_or_default(), &mut found);
        let listed: BTreeSet<_> = listed.split_whitespace().map(str::to_owned).collect();
        assert_eq!(found, listed);
    }
}

#[test]
fn values_are_spelled_as_in_the_format_version() {
    let mut status = all();
    let spelled = |status: &Status| serde_json::to_value(status).expect("serializable");
    let value = spelled(&status);
    assert_eq!(value["state"], "ready");
    assert_eq!(value["tenants"][0]["shares"][0]["share"], "calls");
    assert_eq!(value["tenants"][0]["sessions"][0]["state"], "kept");
    assert_eq!(value["tenants"][0]["verdict"], "failing");
    assert_eq!(value["tenants"][0]["gateway"], "answers");
    assert_eq!(value["failures"][0]["outcome"], "refused");
    assert_eq!(
        (&value["store"]["kind"], &value["store"]["state"]),
        (&"none".into(), &"none".into())
    );
    let view = |state| StoreView {
        kind: "file",
        state,
        failures: 0,
        file_bytes: Some(1),
        disbelieved: Vec::new(),
    };
    status.store = view(StoreState::Down("gone".into())).into();
    let value = spelled(&status);
    assert_eq!(
        (&value["store"]["kind"], &value["store"]["state"]),
        (&"file".into(), &"down".into())
    );
    assert_eq!(value["store"]["error"], "gone");
}

#[test]
fn of_an_event_only_its_name_is_told_and_what_looks_like_a_guid_is_taken_out() {
    let event = Event {
        sequence: 1,
        received_at: NOW,
        agent: AgentId::lowest(&DEFAULT_AGENT_IDS),
        what: What::Gateway(GatewayEvent {
            kind: "Odd_279fe21d-aaaa-4437-84c3-ab9e9dae20f5.Node1".into(),
            work_no: "101".into(),
            content: Some("{\"caller\":\"canary\"}".into()),
            generated_at: None,
        }),
        fetched: Fetched::Unknown,
    };
    let told = serde_json::to_value(EventStatus::of(&event)).expect("serializable");
    assert_eq!(told["event"], "Odd_….Node1");
    assert!(!told.to_string().contains("canary"), "{told}");
}
