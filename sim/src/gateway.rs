//! One gateway with its agents: it answers requests, and takes orders from tests.

mod carry_out;
mod exchange;
mod group;
mod inspect;
mod load;
mod open_call;
mod outcome;
mod parameters;
mod password;
mod poll;
mod poll_all;
mod push;
mod settings;
mod test_control;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    agent::Refused,
    fault::Rules,
    journal::Journal,
    options::{AuthMode, Options},
    push_client::PushClient,
    record::AgentRecord,
    session::{Session, Standing},
    sign_in::SignIn,
};

pub(super) use self::outcome::{Delivery, Outcome};

/// One gateway without its listener, which may be stopped and started again.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) options: Options,
    pub(super) journal: Journal,
    pub(super) rules: Rules,
    /// Connections accepted.
    pub(super) connections: AtomicU64,
    push_client: PushClient,
    started: Instant,
    frozen: watch::Sender<bool>,
    load: load::Load,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    by_id: HashMap<u32, AgentRecord>,
    /// Passwords that agents or tests have changed.
    passwords: HashMap<u32, String>,
    /// How many sessions have begun so far.
    sessions: u64,
    violations: Vec<String>,
    /// Wakes polls for all agents.
    changed: Arc<Notify>,
}

/// The most violations that are kept; further ones are only logged.
const MAX_VIOLATIONS: usize = 10_000;

// === impl Gateway ===

impl Gateway {
    /// # Errors
    ///
    /// If `push_ca` has no certificate.
    pub(super) fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            journal: Journal::new(options.journal),
            push_client: PushClient::new(options.push_ca.as_deref())?,
            options,
            rules: Rules::default(),
            connections: AtomicU64::new(0),
            started: Instant::now(),
            frozen: watch::Sender::new(false),
            load: load::Load::default(),
            records: Mutex::default(),
        })
    }

    /// Real time since the gateway's start.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Waits while the gateway is frozen.
    async fn thawed(&self) {
        // The sender is a field of `self`, so this cannot fail.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Forgets all agents, as a restart of the gateway's process does.
    pub(super) fn forget_sessions(&self) {
        self.lock().by_id.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Records ===

impl Records {
    fn record(&mut self, agent: u32) -> &mut AgentRecord {
        self.by_id.entry(agent).or_insert_with(|| AgentRecord::new(agent, self.changed.clone()))
    }

    fn begin_session(&mut self, agent: u32, sign_in: &SignIn, options: &Options) -> &Session {
        let number = self.sessions;
        self.sessions += 1;
        self.record(agent).begin_session(number, sign_in, options)
    }

    fn record_violation(&mut self, violation: String) {
        tracing::warn!("{violation}");
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation);
        }
    }

    /// Checks a request's Guid. If the agent is not signed in, the code says so whatever the Guid is
    /// (inferred), except for a Guid that a switch-over has lost.
    fn authenticate(
        &mut self,
        agent: u32,
        guid: Option<&str>,
        options: &Options,
    ) -> Result<(), Refused> {
        let codes = &options.codes;
        let record = self.record(agent);
        record.apply_due(options);
        record.check_no_switch_over()?;
        let standing = guid.map(|guid| record.standing(guid, options));
        if let Some(Standing::Lost(code)) = standing {
            return Err(Refused(code.into()));
        }
        record.signed_in(options)?;
        if options.auth_mode == AuthMode::None {
            return Ok(());
        }
        let code = match standing {
            Some(Standing::Good) => return Ok(()),
            None => &codes.guid_missing,
            Some(Standing::TakenOver) => &codes.guid_taken_over,
            Some(Standing::Ended | Standing::Lost(_)) => &codes.guid_expired,
            Some(Standing::Unknown) if self.belongs_to_another(guid, options) => {
                &codes.guid_foreign
            }
            Some(Standing::Unknown) => &codes.guid_unknown,
        };
        Err(Refused(code.clone()))
    }

    /// Whether the Guid is valid for some other agent.
    fn belongs_to_another(&self, guid: Option<&str>, options: &Options) -> bool {
        let good = |record: &AgentRecord| {
            guid.is_some_and(|guid| record.standing(guid, options) == Standing::Good)
        };
        self.by_id.values().any(good)
    }
}
