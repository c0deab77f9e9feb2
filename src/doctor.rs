//! Finds out why the bridge cannot reach a gateway, its store or its collector, and says what to change.
//!
//! An address is checked layer by layer: name, TCP, TLS, HTTP. The first check that fails ends it.
//! TLS and HTTP are done by [`crate::gateway`], so that the doctor finds what calls find. Only if TLS
//! fails, the peer is also asked in other ways, to find out what it speaks instead.

mod answer;
mod certificate_requests;
mod handshake;
mod hello;
mod network;
mod services;
mod verdict;

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use tokio::time::Instant;

pub use self::services::{collector, issuer, store};

use crate::{
    config::{Tenant, section_of},
    gateway::probe,
    id::{AgentId, TenantId},
};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked.
    pub check: &'static str,
    /// What was found, as text.
    pub found: String,
    /// What to do; empty if there is nothing to do.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Calls work, but may fail later.
    Warning,
    /// Calls fail.
    Problem,
}

/// The check of one address of a tenant, with its findings so far.
struct AddressCheck<'a> {
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

/// Checks a tenant's settings, apart from its addresses.
pub fn tenant(id: &TenantId, tenant: &Tenant) -> Vec<Finding> {
    vec![credentials(id, tenant), time_limits(id, tenant)]
}

/// Checks one of the tenant's addresses. It takes at most a few of the tenant's time limits, and must
/// be called within a Tokio runtime.
pub async fn address(id: &TenantId, tenant: &Tenant, url: &Uri) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = AddressCheck { id, tenant, url, findings: &mut findings };
    // If it stops early, the reason is already among the findings.
    let _stopped = check.run().await;
    findings
}

fn credentials(id: &TenantId, tenant: &Tenant) -> Finding {
    let found = match &tenant.credentials {
        None => format!(
            "none ({}.credentials_file); callers sign agents in, or register their Guids",
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

/// A check has failed, so that the next ones make no sense. The reason is among the findings.
struct Stop;

impl AddressCheck<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        let reached = self.network().await?;
        let begun = Instant::now();
        let asked = self.tls(&reached).await?;
        let connecting = begun.elapsed();

        let agent = AgentId::lowest(&self.tenant.agent_ids);
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

    /// Checks that connection and answer came well within the time limits.
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
                "that is more than half of the time limit: look for the cause, or raise \
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

    /// The dotted key of one of the tenant's settings.
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

/// Text from a peer, made safe for a terminal: without control characters, and not too long.
fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
