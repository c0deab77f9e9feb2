use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{config::Credentials, gateway::SignIn, id::AgentId};

/// What the bridge can sign a tenant's agents in with.
#[derive(Debug)]
pub(super) struct CredentialBook {
    configured: Option<Arc<Credentials>>,
    /// From sign-ins that worked, kept until the agent signs out.
    held: Mutex<HashMap<AgentId, Arc<SignIn>>>,
    capacity: NonZeroUsize,
}

impl CredentialBook {
    pub(super) fn new(configured: Option<Arc<Credentials>>, capacity: NonZeroUsize) -> Self {
        Self { configured, held: Mutex::default(), capacity }
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
        let mut held = self.held();
        if held.len() < self.capacity.get() || held.contains_key(&agent) {
            held.insert(agent, sign_in);
        }
    }

    pub(super) fn forget(&self, agent: AgentId) {
        self.held().remove(&agent);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<SignIn>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
