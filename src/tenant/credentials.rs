use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::{call::CallError, config::Credentials, gateway::SignIn, id::AgentId};

/// What the bridge can sign a tenant's agents in with, and what it must not try again.
#[derive(Debug)]
pub(super) struct CredentialBook {
    configured: Option<Arc<Credentials>>,
    /// From sign-ins that worked, kept until the agent signs out.
    held: Mutex<HashMap<AgentId, Arc<SignIn>>>,
    /// Passwords that the gateway rejected; the platform locks accounts.
    rejected: Mutex<HashMap<AgentId, Rejected>>,
    rejected_for: Duration,
    capacity: NonZeroUsize,
}

#[derive(Debug)]
struct Rejected {
    password: SecretString,
    until: Instant,
    error: CallError,
}

impl CredentialBook {
    pub(super) fn new(
        configured: Option<Arc<Credentials>>,
        rejected_for: Duration,
        capacity: NonZeroUsize,
    ) -> Self {
        let (held, rejected) = (Mutex::default(), Mutex::default());
        Self { configured, held, rejected, rejected_for, capacity }
    }

    /// The sign-in that worked last, else the configured one.
    pub(super) fn sign_in(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        let held = self.held().get(&agent).cloned();
        held.or_else(|| self.configured(agent).map(Arc::new))
    }

    pub(super) fn configured(&self, agent: AgentId) -> Option<SignIn> {
        let credential = self.configured.as_ref()?.agents.get(&agent)?;
        let phone_number = credential.phone_number.clone();
        Some(SignIn::new(credential.password.clone(), phone_number, credential.force))
    }

    pub(super) fn hold(&self, agent: AgentId, sign_in: Arc<SignIn>) {
        self.rejected().remove(&agent);
        let mut held = self.held();
        if held.len() < self.capacity.get() || held.contains_key(&agent) {
            held.insert(agent, sign_in);
        }
    }

    pub(super) fn forget(&self, agent: AgentId) {
        self.held().remove(&agent);
    }

    /// Remembers for a while that the gateway rejected this password.
    pub(super) fn reject(&self, agent: AgentId, sign_in: &SignIn, error: &CallError) {
        self.forget(agent);
        let mut rejected = self.rejected();
        let now = Instant::now();
        if rejected.len() >= self.capacity.get() {
            rejected.retain(|_, rejected| rejected.until > now);
        }
        if rejected.len() < self.capacity.get() {
            let (password, error) = (sign_in.password.clone(), error.clone());
            rejected.insert(agent, Rejected { password, until: now + self.rejected_for, error });
        }
    }

    /// How the gateway answered this password a short while ago, if it rejected it.
    pub(super) fn rejection(&self, agent: AgentId, sign_in: &SignIn) -> Option<CallError> {
        let rejected = self.rejected();
        let known = rejected.get(&agent).filter(|known| known.until > Instant::now())?;
        let same = known.password.expose_secret() == sign_in.password.expose_secret();
        same.then(|| known.error.clone())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<SignIn>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejected(&self) -> MutexGuard<'_, HashMap<AgentId, Rejected>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
