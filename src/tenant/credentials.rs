use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::safe::{Drawer, Safe};
use crate::{
    call::{CallError, Refusal},
    config::Credentials,
    gateway::SignIn,
    id::AgentId,
    keyring::hex,
    retcode::Retcode,
};

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
    /// What other replicas know of; `None`: there are none.
    safe: Option<Safe>,
}

#[derive(Debug)]
struct Rejected {
    password: SecretString,
    until: Instant,
    error: CallError,
}

/// The same as other replicas are told, who only have to know the password again.
#[derive(Serialize, Deserialize)]
struct Rejection {
    password_sha256: String,
    retcode: String,
    message: String,
    node: Option<Box<str>>,
}

/// As long as a session is stored that nobody renews.
const SHARED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl CredentialBook {
    pub(super) fn new(
        configured: Option<Arc<Credentials>>,
        rejected_for: Duration,
        capacity: NonZeroUsize,
        safe: Option<Safe>,
    ) -> Self {
        let (held, rejected) = (Mutex::default(), Mutex::default());
        Self { configured, held, rejected, rejected_for, capacity, safe }
    }

    /// The sign-in that worked last, else the configured one, else one that another replica has
    /// shared.
    pub(super) async fn find(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        match self.sign_in(agent) {
            Some(own) => Some(own),
            None => self.shared(agent).await.map(Arc::new),
        }
    }

    async fn shared(&self, agent: AgentId) -> Option<SignIn> {
        let safe = self.safe.as_ref().filter(|safe| safe.has_credentials)?;
        SignIn::from_plain(&safe.get(Drawer::Credentials, agent).await?)
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

    /// Keeps what a sign-in has worked with, and shares it if the other replicas do not have it
    /// anyway.
    pub(super) async fn hold(&self, agent: AgentId, sign_in: Arc<SignIn>) {
        self.hold_here(agent, sign_in.clone());
        let configured = self.configured(agent);
        if configured.is_some_and(|configured| has_same_password(&configured, &sign_in)) {
            return;
        }
        if let Some(safe) = self.safe.as_ref().filter(|safe| safe.has_credentials) {
            safe.put(Drawer::Credentials, agent, &sign_in.to_plain(), SHARED_FOR).await;
        }
    }

    fn hold_here(&self, agent: AgentId, sign_in: Arc<SignIn>) {
        self.rejected().remove(&agent);
        let mut held = self.held();
        if held.len() < self.capacity.get() || held.contains_key(&agent) {
            held.insert(agent, sign_in);
        }
    }

    /// Forgets what an agent was signed in with, here and at other replicas that have not used it.
    pub(super) async fn forget(&self, agent: AgentId) {
        self.forget_here(agent);
        if let Some(safe) = self.safe.as_ref().filter(|safe| safe.has_credentials) {
            safe.empty(Drawer::Credentials, agent).await;
        }
    }

    pub(super) fn forget_here(&self, agent: AgentId) {
        self.held().remove(&agent);
    }

    /// Remembers for a while that the gateway rejected this password, here and at other replicas.
    pub(super) async fn reject(&self, agent: AgentId, sign_in: &SignIn, error: &CallError) {
        let is_noted = self.reject_here(agent, sign_in, error);
        // A locked account does not make the password wrong.
        if !error.is_account_locked() {
            self.forget_password(agent, sign_in).await;
        }
        // No more than there is room for here: whoever tries passwords for all ids that there may be
        // must not fill what others share.
        let safe = self.safe.as_ref().filter(|_| is_noted);
        let (Some(safe), Some(refusal)) = (safe, error.refusal()) else { return };
        // Nothing in it can fail to be written.
        let plain = serde_json::to_vec(&Rejection::of(sign_in, refusal)).unwrap_or_default();
        safe.put(Drawer::Rejected, agent, &plain, self.rejected_for).await;
    }

    /// Forgets a password that is of no use. There may be another one by now.
    async fn forget_password(&self, agent: AgentId, useless: &SignIn) {
        if self.held().get(&agent).is_some_and(|held| has_same_password(held, useless)) {
            self.forget_here(agent);
        }
        if self.shared(agent).await.is_some_and(|shared| has_same_password(&shared, useless)) {
            self.forget(agent).await;
        }
    }

    /// Tells whether there is room for it.
    fn reject_here(&self, agent: AgentId, sign_in: &SignIn, error: &CallError) -> bool {
        let mut rejected = self.rejected();
        let now = Instant::now();
        if rejected.len() >= self.capacity.get() {
            rejected.retain(|_, rejected| rejected.until > now);
        }
        let has_room = rejected.len() < self.capacity.get() || rejected.contains_key(&agent);
        if has_room {
            let (password, error) = (sign_in.password.clone(), error.clone());
            rejected.insert(agent, Rejected { password, until: now + self.rejected_for, error });
        }
        has_room
    }

    /// How the gateway answered this password a short while ago, if it rejected it.
    pub(super) async fn rejection(&self, agent: AgentId, sign_in: &SignIn) -> Option<CallError> {
        if let Some(known) = self.rejection_here(agent, sign_in) {
            return Some(known);
        }
        let plain = self.safe.as_ref()?.get(Drawer::Rejected, agent).await?;
        let told: Rejection = serde_json::from_slice(&plain).ok()?;
        told.refusal_of(sign_in).map(CallError::Refused)
    }

    pub(super) fn rejection_here(&self, agent: AgentId, sign_in: &SignIn) -> Option<CallError> {
        let rejected = self.rejected();
        let known = rejected.get(&agent).filter(|known| known.until > Instant::now())?;
        (known.password.expose_secret() == sign_in.password.expose_secret())
            .then(|| known.error.clone())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<SignIn>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejected(&self) -> MutexGuard<'_, HashMap<AgentId, Rejected>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rejection {
    fn of(sign_in: &SignIn, refusal: &Refusal) -> Self {
        Self {
            password_sha256: password_digest(sign_in),
            retcode: refusal.retcode.as_str().to_owned(),
            message: refusal.message.clone(),
            node: refusal.node.clone(),
        }
    }

    fn refusal_of(self, sign_in: &SignIn) -> Option<Refusal> {
        let retcode = Retcode::refusal(&self.retcode)?;
        let same = self.password_sha256 == password_digest(sign_in);
        same.then_some(Refusal { retcode, message: self.message, node: self.node })
    }
}

fn has_same_password(one: &SignIn, other: &SignIn) -> bool {
    one.password.expose_secret() == other.password.expose_secret()
}

/// Kept in the safe only: by itself it would give a weak password away.
fn password_digest(sign_in: &SignIn) -> String {
    hex(digest(&SHA256, sign_in.password.expose_secret().as_bytes()).as_ref())
}
