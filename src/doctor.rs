//! Finds out why the bridge does not get through to a gateway, and says what to change.
//!
//! Each step goes one layer up: name, TCP, TLS, HTTP, and the first that fails ends the look at an
//! address. TLS and HTTP are those of [`crate::gateway`], so what is found here is what calls meet;
//! only where TLS fails is the peer asked in other ways, to tell what it is instead.

mod answer;
mod asked;
mod handshake;
mod hello;
mod network;
mod verdict;

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use tokio::time::Instant;

use crate::{
    config::{Tenant, section_of},
    gateway::probe,
    id::{AgentId, TenantId},
};

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked.
    pub check: &'static str,
    /// What was found, in words.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Calls work, and something may make them fail.
    Warning,
    /// Calls fail.
    Problem,
}

/// One address of a tenant, and where to note what is found of it.
struct Patient<'a> {
    id: &'a TenantId,
    tenant: &'a Tenant,
    url: &'a Uri,
    findings: &'a mut Vec<Finding>,
}

/// An address that takes connections.
struct Reached {
    host: String,
    addr: SocketAddr,
}

/// The gateway holds a poll back for up to this long (cec_07_1274).
const LONGEST_POLL: Duration = Duration::from_secs(10);

/// What there is to say of a tenant beside its addresses.
pub fn tenant(id: &TenantId, tenant: &Tenant) -> Vec<Finding> {
    vec![credentials(id, tenant), time_limits(id, tenant)]
}

/// Looks at one of the tenant's addresses. Takes a few of its time limits at the longest, and must
/// be called within a runtime.
pub async fn address(id: &TenantId, tenant: &Tenant, url: &Uri) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut patient = Patient { id, tenant, url, findings: &mut findings };
    // An end before the last check has been noted as a problem.
    let _ended = patient.examine().await;
    findings
}

fn credentials(id: &TenantId, tenant: &Tenant) -> Finding {
    let found = match &tenant.credentials {
        None => format!(
            "none ({}.credentials_file); callers sign agents in, or hand their Guids in",
            section_of(id)
        ),
        Some(credentials) => match credentials.agents.len() {
            1 => "the file is readable and has 1 agent".to_owned(),
            agents => format!("the file is readable and has {agents} agents"),
        },
    };
    match &tenant.credentials {
        Some(credentials) if credentials.agents.is_empty() => {
            let remedy = "add [agents.<id>] sections to it, or leave credentials_file out";
            Finding::warning("credentials", found, remedy)
        }
        _ => Finding::ok("credentials", found),
    }
}

fn time_limits(id: &TenantId, tenant: &Tenant) -> Finding {
    let timeouts = &tenant.timeouts;
    let shown = |time| humantime::format_duration(time).to_string();
    let found = format!(
        "{} to connect, {} for an answer, {} for a sign-in, {} for a poll",
        shown(timeouts.connect),
        shown(timeouts.request),
        shown(timeouts.sign_in),
        shown(timeouts.poll),
    );
    if tenant.keep.enabled && timeouts.poll <= LONGEST_POLL {
        let remedy = format!(
            "set {}.timeouts.poll to 15s: the gateway holds a poll back for up to {}",
            section_of(id),
            shown(LONGEST_POLL)
        );
        return Finding::warning("time limits", found, remedy);
    }
    Finding::ok("time limits", found)
}

/// A check that failed; what was wrong is among the findings.
struct Stop;

impl Patient<'_> {
    async fn examine(&mut self) -> Result<(), Stop> {
        let reached = self.network().await?;
        let begun = Instant::now();
        let asked = self.tls(&reached).await?;
        let connecting = begun.elapsed();

        // The ids' range has a first one, so that this is never `None`.
        let ids = &self.tenant.agent_ids;
        let Ok(agent) = AgentId::parse(&ids.start().to_string(), ids) else { return Err(Stop) };
        let begun = Instant::now();
        let answer = probe::ask(self.tenant, self.url, agent).await;
        let answering = begun.elapsed();
        if asked && let Err(words) = &answer {
            return Err(self.asked_for_certificate(words));
        }
        self.answer(answer, &reached).await?;
        self.pace(connecting, answering);
        Ok(())
    }

    /// Whether there is time to spare.
    fn pace(&mut self, connecting: Duration, answering: Duration) {
        let timeouts = &self.tenant.timeouts;
        let limits = timeouts.connect + timeouts.request;
        let shown = |time: Duration| format!("{} ms", time.as_millis());
        let found = format!(
            "TLS took {}, connection and answer took {}",
            shown(connecting),
            shown(answering)
        );
        if connecting > timeouts.connect / 2 || answering > limits / 2 {
            let remedy = format!(
                "that is more than half of what is allowed: look for the cause, or raise \
                 {} and {}",
                self.key("timeouts.connect"),
                self.key("timeouts.request")
            );
            return self.warning("pace", found, remedy);
        }
        self.ok("pace", found);
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.findings.push(Finding::ok(check, found));
    }

    fn warning(&mut self, check: &'static str, found: String, remedy: impl Into<String>) {
        self.findings.push(Finding::warning(check, found, remedy));
    }

    fn problem(&mut self, check: &'static str, found: String, remedy: impl Into<String>) -> Stop {
        let (level, remedy) = (Level::Problem, remedy.into());
        self.findings.push(Finding { level, check, found, remedy });
        Stop
    }

    /// A key of the tenant's.
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", section_of(self.id))
    }
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, found: found.into(), remedy: String::new() }
    }

    fn warning(check: &'static str, found: String, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, check, found, remedy: remedy.into() }
    }
}

/// What a peer said, fit for a terminal: without control characters, and not too long.
fn plain(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
