//! Which tenants are ill, and why, in words.

use std::{cmp::Reverse, fmt, time::Duration};

use serde::Serialize;

use super::{GatewayStatus, TenantStatus, spelled};
use crate::{gateway::AddressState, rpc::FailureGroup, session::SessionState, tenant::Counts};

/// How a tenant is. The worst is the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server) enum Verdict {
    /// No address of its gateway answers, and one was asked just now.
    Unreachable,
    /// Many calls fail because of the gateway or the bridge.
    Failing,
    /// Most calls are refused, and not since their callers ask too much.
    Refusing,
    /// Calls are carried out, but something is not as it should be.
    Impaired,
    /// All is well.
    Well,
    /// The same, and there were no calls in the last minute.
    #[default]
    Idle,
}

/// How a tenant is, with everything that speaks against it.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::server) struct Judgement {
    #[serde(serialize_with = "spelled")]
    pub(in crate::server) verdict: Verdict,
    /// The worst first. Nothing if it is well.
    pub(in crate::server) findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::server) struct Finding {
    /// How ill it makes the tenant.
    #[serde(skip)]
    pub(in crate::server) verdict: Verdict,
    /// What it is.
    pub(in crate::server) what: String,
    /// Which page of the book says what to do.
    pub(in crate::server) page: &'static str,
}

/// Whether a tenant's gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Reach {
    /// At least one of its addresses does.
    Answers,
    /// None of its addresses does.
    Silent,
    /// It was not asked yet.
    NotAsked,
}

/// If so many of a thousand calls fail, the tenant is [`Failing`](Verdict::Failing).
const FAILING: u64 = 50;
/// If so many of a thousand calls are refused, the tenant is [`Refusing`](Verdict::Refusing). Those of callers who ask
/// too much are left out: the others are served.
const REFUSING: u64 = 500;
/// Fewer refusals than this make no tenant ill, since one that is quiet may have had no other call.
const FEW_REFUSED: u64 = 5;
/// Fewer refusals are ordinary: agents are not always in the state that callers believe.
const MANY_REFUSED: u64 = 100;
/// A shorter wait in the queue of sign-ins is ordinary.
const LONG_WAIT_SECONDS: f64 = 10.0;

const UNREACHABLE: &str = "running/runbook#ccgwgatewayunreachable";
const CALLS_FAILING: &str = "running/runbook#ccgwtenantcallsfailing";
const REFUSALS: &str = "calling/errors";
const ASKED_TOO_MUCH: &str = "running/overload#a-caller-with-very-many-calls";
const SIGN_INS_QUEUED: &str = "running/runbook#ccgwsigninsqueued";
const SESSIONS_FAILING: &str = "running/runbook#ccgwsessionsfailing";
const GIVEN_UP: &str = "running/runbook#ccgwagentsgivenup";
const STORE_AWAY: &str = "running/runbook#ccgwstoreaway";
const USED_UP: &str = "running/runbook#ccgwshareusedup";

// === impl Verdict ===

impl Verdict {
    /// The spelling in `/status.json`.
    pub(in crate::server) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Failing => "failing",
            Self::Refusing => "refusing",
            Self::Impaired => "impaired",
            Self::Well => "well",
            Self::Idle => "idle",
        }
    }

    /// The words on the page.
    pub(in crate::server) const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "gateway does not answer",
            Self::Failing => "calls fail",
            Self::Refusing => "calls are refused",
            Self::Impaired => "impaired",
            Self::Well => "well",
            Self::Idle => "no calls",
        }
    }

    /// Whether somebody has to do something now.
    pub(in crate::server) fn is_ill(self) -> bool {
        self < Self::Impaired
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Reach ===

impl Reach {
    pub(super) fn of(gateways: &[GatewayStatus]) -> Self {
        if gateways.iter().any(GatewayStatus::answers) {
            Self::Answers
        } else if gateways.iter().any(GatewayStatus::was_asked) {
            Self::Silent
        } else {
            Self::NotAsked
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answers => "answers",
            Self::Silent => "silent",
            Self::NotAsked => "not_asked",
        })
    }
}

impl GatewayStatus {
    /// Whether it answered when it was asked last, and is asked.
    fn answers(&self) -> bool {
        self.last_answer.is_some() && !self.failed_last && self.state != AddressState::Tripped
    }

    /// Whether it is known not to answer now: it is only probed, or has failed within the last minute.
    fn is_silent(&self) -> bool {
        self.state == AddressState::Tripped || self.is_failing
    }

    fn was_asked(&self) -> bool {
        self.last_answer.is_some() || self.last_failure.is_some()
    }

    /// The address and its last failure.
    fn told(&self) -> String {
        match &self.last_failure {
            Some(failure) => format!("{}: {}", self.host, failure.error),
            None => self.host.clone(),
        }
    }
}

// === impl Judgement ===

impl Judgement {
    /// What is to be said of a tenant. `failures` are those of the tenant, the newest first.
    pub(super) fn of(tenant: &TenantStatus, failures: &[&FailureGroup]) -> Self {
        let mut findings: Vec<Finding> = [gateway(tenant), failed(tenant.last_minute, failures)]
            .into_iter()
            .chain([refused(tenant.last_minute, failures), sign_ins(tenant), sessions(tenant)])
            .chain([taken(tenant), polls(tenant), shares(tenant)])
            .flatten()
            .collect();
        findings.sort_by_key(|finding| finding.verdict);
        let well = if tenant.last_minute.calls > 0 { Verdict::Well } else { Verdict::Idle };
        let verdict = findings.first().map_or(well, |worst| worst.verdict);
        Self { verdict, findings }
    }
}

/// Sorts tenants, the worst first. Of those that are equally ill, the one with the greatest part of calls that came to
/// nothing is the first.
pub(in crate::server) fn worst_first(tenants: &mut [&TenantStatus]) {
    tenants.sort_by_cached_key(|tenant| {
        let counts = tenant.last_minute;
        let lost = counts.failed() + counts.refused();
        let part = permille(lost, counts.answered());
        (tenant.judgement.verdict, Reverse(part), Reverse(lost), tenant.tenant.clone())
    });
}

fn permille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or_default()
}

fn finding(verdict: Verdict, what: String, page: &'static str) -> Finding {
    Finding { verdict, what, page }
}

fn gateway(tenant: &TenantStatus) -> Option<Finding> {
    let gateways = &tenant.gateways;
    let told = |of: fn(&GatewayStatus) -> bool| {
        let told = gateways.iter().filter(|gateway| of(gateway)).map(GatewayStatus::told);
        told.collect::<Vec<_>>().join("; ")
    };
    let silent = told(GatewayStatus::is_silent);
    let (verdict, what) = match tenant.gateway {
        Reach::NotAsked => return None,
        // One that failed long ago may well answer by now, and is not needed.
        Reach::Answers if silent.is_empty() => return None,
        Reach::Answers => {
            let used = gateways.iter().find(|gateway| gateway.answers());
            let instead = used.map(|used| format!(", but {} does", used.host)).unwrap_or_default();
            (Verdict::Impaired, format!("an address does not answer{instead} ({silent})"))
        }
        // Where nobody calls, one lost answer would make a tenant ill for the whole night.
        Reach::Silent if silent.is_empty() => {
            let asked = told(GatewayStatus::was_asked);
            let what =
                format!("no answer from {asked} (more than a minute ago, and not asked since)");
            (Verdict::Impaired, what)
        }
        Reach::Silent => {
            let asked = told(GatewayStatus::was_asked);
            (Verdict::Unreachable, format!("no answer from {asked}"))
        }
    };
    Some(finding(verdict, what, UNREACHABLE))
}

fn failed(counts: Counts, failures: &[&FailureGroup]) -> Option<Finding> {
    let (failed, answered) = (counts.failed(), counts.answered());
    let verdict = match permille(failed, answered) {
        _ if failed == 0 => return None,
        0..FAILING => Verdict::Impaired,
        _ => Verdict::Failing,
    };
    let mostly = mostly(failures, false);
    let what = format!("{failed} of {answered} calls failed in the last minute{mostly}");
    Some(finding(verdict, what, CALLS_FAILING))
}

fn refused(counts: Counts, failures: &[&FailureGroup]) -> Option<Finding> {
    let (refused, answered) = (counts.refused(), counts.answered());
    let greedy = counts.calls_over_own_share;
    let of_others = permille(counts.calls_refused, answered.saturating_sub(greedy));
    let verdict = match permille(refused, answered) {
        0..MANY_REFUSED => return None,
        _ if of_others >= REFUSING && counts.calls_refused >= FEW_REFUSED => Verdict::Refusing,
        _ => Verdict::Impaired,
    };
    let whose = if greedy == 0 {
        String::new()
    } else {
        format!(", {greedy} of them since their caller asked too much")
    };
    let mostly = mostly(failures, true);
    let what =
        format!("{refused} of {answered} calls were refused in the last minute{whose}{mostly}");
    let page = if greedy > counts.calls_refused { ASKED_TOO_MUCH } else { REFUSALS };
    Some(finding(verdict, what, page))
}

/// What calls were told that failed, or were refused: the last one of them speaks for all, since groups count since the
/// start.
fn mostly(failures: &[&FailureGroup], refused: bool) -> String {
    let Some(group) = failures.iter().find(|group| group.refused == refused) else {
        return String::new();
    };
    let last = &group.last;
    let retcode = last.retcode.as_ref().map(|retcode| format!(" {retcode}")).unwrap_or_default();
    let said = last.gateway_message.as_ref().map(|said| format!(" \"{said}\""));
    format!("; the last one: {} {}{retcode}{}", last.method, last.reason, said.unwrap_or_default())
}

fn sign_ins(tenant: &TenantStatus) -> Option<Finding> {
    let queue = &tenant.sign_ins;
    let is_long = queue.waiting > 0 && queue.oldest_seconds >= LONG_WAIT_SECONDS;
    let seconds = |time: f64| Duration::from_secs_f64(time.max(0.0)).as_secs();
    let what = || {
        let oldest = seconds(queue.oldest_seconds);
        format!("{} agents wait to be signed in, the first for {oldest} s", queue.waiting)
    };
    is_long.then(|| finding(Verdict::Impaired, what(), SIGN_INS_QUEUED))
}

fn sessions(tenant: &TenantStatus) -> Option<Finding> {
    // One that is lost has no session any more, and is not counted as one.
    let states =
        [(SessionState::Recovering, "being made anew"), (SessionState::Doubtful, "in doubt")];
    let there = states.map(|(state, words)| (tenant.in_state(state), words)).into_iter();
    let there = there.filter(|(count, _)| *count > 0);
    let told: Vec<_> = there.map(|(count, words)| format!("{count} {words}")).collect();
    let what = || format!("sessions of agents: {}", told.join(", "));
    (!told.is_empty()).then(|| finding(Verdict::Impaired, what(), SESSIONS_FAILING))
}

fn taken(tenant: &TenantStatus) -> Option<Finding> {
    let given_up = tenant.taken_over.iter().filter(|one| one.given_up).count();
    let what = || format!("agents given up to another client: {given_up}");
    (given_up > 0).then(|| finding(Verdict::Impaired, what(), GIVEN_UP))
}

fn polls(tenant: &TenantStatus) -> Option<Finding> {
    let TenantStatus { polls_stopped: stopped, polled_without_lease: without_lease, .. } = *tenant;
    let what = || {
        format!(
            "the store cannot be asked: {stopped} agents are not polled any more, {without_lease} are polled without a lease"
        )
    };
    (stopped + without_lease > 0).then(|| finding(Verdict::Impaired, what(), STORE_AWAY))
}

fn shares(tenant: &TenantStatus) -> Option<Finding> {
    let full = tenant.shares.iter().filter(|share| share.limit > 0 && share.taken >= share.limit);
    let told: Vec<_> =
        full.map(|share| format!("{} ({})", share.share, share.limit).replace('_', " ")).collect();
    let what = || format!("all places are taken: {}", told.join(", "));
    (!told.is_empty()).then(|| finding(Verdict::Impaired, what(), USED_UP))
}

#[cfg(test)]
mod tests;
