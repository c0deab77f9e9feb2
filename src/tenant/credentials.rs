//! What a tenant's agents can be signed in with: configured, learned here, or shared.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::agents::{AgentRecords, Rejection};
use crate::{
    call::{Obstacle, Refusal},
    config::Credentials,
    gateway::SignIn,
    hex::hex,
    id::AgentId,
    retcode::Retcode,
    session::{Drawer, Safe},
};

/// What the bridge can sign a tenant's agents in with, and what it must not try again.
#[derive(Debug)]
pub(super) struct CredentialBook {
    configured: Option<Arc<Credentials>>,
    /// What this replica has learned by itself.
    agents: Arc<AgentRecords>,
    rejected_for: Duration,
    /// What other replicas know of; `None`: there are none.
    safe: Option<Safe>,
}

/// A rejection as other replicas are told of it, who only have to know the password again.
#[derive(Serialize, Deserialize)]
struct Told {
    password_sha256: String,
    /// "0", which is no refusal, of a sign-in without a Guid. Versions of the bridge that do not know
    /// such rejections take it for none.
    retcode: String,
    message: String,
    node: Option<Box<str>>,
}

/// As long as a session is stored that nobody renews.
const SHARED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The retcode of what the gateway has accepted.
const ACCEPTED: &str = "0";

impl CredentialBook {
    pub(super) fn new(
        configured: Option<Arc<Credentials>>,
        rejected_for: Duration,
        agents: Arc<AgentRecords>,
        safe: Option<Safe>,
    ) -> Self {
        Self { configured, agents, rejected_for, safe }
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
        let safe = self.safe.as_ref().filter(|safe| safe.has_credentials())?;
        SignIn::from_plain(&safe.get(Drawer::Credentials, agent).await?)
    }

    /// The sign-in that worked last, else the configured one.
    pub(super) fn sign_in(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        self.agents.held(agent).or_else(|| self.configured(agent).map(Arc::new))
    }

    pub(super) fn configured(&self, agent: AgentId) -> Option<SignIn> {
        let credential = self.configured.as_ref()?.agents.get(&agent)?;
        let phone_number = credential.phone_number.clone();
        Some(SignIn::new(credential.password.clone(), phone_number, credential.force))
    }

    /// Keeps what a sign-in has worked with, and shares it if the other replicas do not have it
    /// anyway.
    pub(super) async fn hold(&self, agent: AgentId, sign_in: Arc<SignIn>) {
        self.agents.hold(agent, sign_in.clone());
        let configured = self.configured(agent);
        if configured.is_some_and(|configured| has_same_password(&configured, &sign_in)) {
            return;
        }
        if let Some(safe) = self.safe.as_ref().filter(|safe| safe.has_credentials()) {
            safe.put(Drawer::Credentials, agent, &sign_in.to_plain(), SHARED_FOR).await;
        }
    }

    /// Forgets what an agent was signed in with, here and at other replicas that have not used it.
    pub(super) async fn forget(&self, agent: AgentId) {
        self.forget_here(agent);
        if let Some(safe) = self.safe.as_ref().filter(|safe| safe.has_credentials()) {
            safe.empty(Drawer::Credentials, agent).await;
        }
    }

    pub(super) fn forget_here(&self, agent: AgentId) {
        self.agents.forget_held(agent);
    }

    /// Remembers for a while that this sign-in must not be repeated, here and at other replicas.
    pub(super) async fn reject(&self, agent: AgentId, sign_in: &SignIn, why: Rejection) {
        let told = Told::of(sign_in, &why);
        let is_password_wrong = why.is_password_wrong();
        let until = Instant::now() + self.rejected_for;
        let is_noted = self.agents.reject(agent, sign_in, why, until);
        if is_password_wrong {
            self.forget_password(agent, sign_in).await;
        }
        // No more than there is room for here: whoever tries passwords for all ids that there may be
        // must not fill what others share.
        let Some(safe) = self.safe.as_ref().filter(|_| is_noted) else { return };
        // Nothing in it can fail to be written.
        let plain = serde_json::to_vec(&told).unwrap_or_default();
        safe.put(Drawer::Rejected, agent, &plain, self.rejected_for).await;
    }

    /// Forgets a password that is of no use. There may be another one by now.
    async fn forget_password(&self, agent: AgentId, useless: &SignIn) {
        if self.agents.held(agent).is_some_and(|held| has_same_password(&held, useless)) {
            self.forget_here(agent);
        }
        if self.shared(agent).await.is_some_and(|shared| has_same_password(&shared, useless)) {
            self.forget(agent).await;
        }
    }

    /// What keeps this sign-in from being tried, if one with the same password was rejected a short
    /// while ago.
    pub(super) async fn rejection(&self, agent: AgentId, sign_in: &SignIn) -> Option<Obstacle> {
        if let Some(known) = self.rejection_here(agent, sign_in) {
            return Some(known);
        }
        let plain = self.safe.as_ref()?.get(Drawer::Rejected, agent).await?;
        let told: Told = serde_json::from_slice(&plain).ok()?;
        told.rejection_of(sign_in).map(Obstacle::from)
    }

    /// The same as far as this replica knows.
    pub(super) fn rejection_here(&self, agent: AgentId, sign_in: &SignIn) -> Option<Obstacle> {
        self.agents.rejection(agent, sign_in).map(Obstacle::from)
    }
}

impl Told {
    fn of(sign_in: &SignIn, why: &Rejection) -> Self {
        let password_sha256 = password_digest(sign_in);
        match why {
            Rejection::Refused(Refusal { retcode, message, node }) => Self {
                password_sha256,
                retcode: retcode.as_str().to_owned(),
                message: message.clone(),
                node: node.clone(),
            },
            Rejection::WithoutGuid => Self {
                password_sha256,
                retcode: ACCEPTED.to_owned(),
                message: String::new(),
                node: None,
            },
        }
    }

    fn rejection_of(self, sign_in: &SignIn) -> Option<Rejection> {
        if self.password_sha256 != password_digest(sign_in) {
            return None;
        }
        let Self { retcode, message, node, .. } = self;
        Some(match Retcode::refusal(&retcode) {
            Some(retcode) => Rejection::Refused(Refusal { retcode, message, node }),
            None => Rejection::WithoutGuid,
        })
    }
}

fn has_same_password(one: &SignIn, other: &SignIn) -> bool {
    one.password.expose_secret() == other.password.expose_secret()
}

/// Kept in the safe only: by itself it would give a weak password away.
fn password_digest(sign_in: &SignIn) -> String {
    hex(digest(&SHA256, sign_in.password.expose_secret().as_bytes()).as_ref())
}
