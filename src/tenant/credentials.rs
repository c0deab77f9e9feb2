//! The credentials of a tenant's agents: configured, learned from a sign-in, or shared by replicas.

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
    session::{Owner, SealedKind, SealedValues, Session, SessionStore},
};

/// The credentials that the bridge can sign agents in with, and those that it must not try again.
#[derive(Debug)]
pub(super) struct CredentialBook {
    configured: Option<Arc<Credentials>>,
    /// What this replica has learned from sign-ins.
    agents: Arc<AgentRecords>,
    rejected_for: Duration,
    /// What replicas share; `None` if there are no other replicas.
    sealed: Option<SealedValues>,
    /// A shared password counts only with the session that was made with it.
    sessions: Arc<dyn SessionStore>,
}

/// A rejection as replicas share it. It has a digest of the password, so that they can recognize
/// it.
#[derive(Serialize, Deserialize)]
struct SharedRejection {
    password_sha256: String,
    /// "0" for a sign-in that was accepted without a Guid. It is no refusal, so versions of the
    /// bridge that do not know this kind of rejection ignore it.
    retcode: String,
    message: String,
    node: Option<Box<str>>,
}

/// How long shared credentials are stored: as long as a session that nobody renews.
const SHARED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The retcode of an accepted request.
const ACCEPTED: &str = "0";

impl CredentialBook {
    pub(super) fn new(
        configured: Option<Arc<Credentials>>,
        rejected_for: Duration,
        agents: Arc<AgentRecords>,
        sealed: Option<SealedValues>,
        sessions: Arc<dyn SessionStore>,
    ) -> Self {
        Self { configured, agents, rejected_for, sealed, sessions }
    }

    /// The sign-in that worked last here, or else the configured one, or else one that another
    /// replica has shared.
    pub(super) async fn find(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        match self.sign_in(agent) {
            Some(own) => Some(own),
            None => self.shared(agent).await.map(Arc::new),
        }
    }

    async fn shared(&self, agent: AgentId) -> Option<SignIn> {
        let sealed = self.sealed.as_ref().filter(|sealed| sealed.has_credentials())?;
        let session = self.sessions.load(agent).await.ok()??.made;
        let owner = Owner { agent, session };
        SignIn::from_plain(&sealed.get(SealedKind::Credentials, owner).await?)
    }

    /// The sign-in that worked last here, or else the configured one.
    pub(super) fn sign_in(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        self.agents.held(agent).or_else(|| self.configured(agent).map(Arc::new))
    }

    pub(super) fn configured(&self, agent: AgentId) -> Option<SignIn> {
        let credential = self.configured.as_ref()?.agents.get(&agent)?;
        let phone_number = credential.phone_number.clone();
        Some(SignIn::new(credential.password.clone(), phone_number, credential.force))
    }

    /// Holds a sign-in that worked. Shares it with the session that it made, unless all replicas have it by
    /// their configuration.
    pub(super) async fn hold(
        &self,
        agent: AgentId,
        sign_in: Arc<SignIn>,
        session: Option<&Session>,
    ) {
        self.agents.hold(agent, sign_in.clone());
        let configured = self.configured(agent);
        if configured.is_some_and(|configured| has_same_password(&configured, &sign_in)) {
            return;
        }
        let sealed = self.sealed.as_ref().filter(|sealed| sealed.has_credentials());
        if let Some((sealed, session)) = sealed.zip(session) {
            let owner = Owner { agent, session: session.made };
            sealed.put(SealedKind::Credentials, owner, &sign_in.to_plain(), SHARED_FOR).await;
        }
    }

    /// Forgets what an agent was signed in with, here and in what replicas share.
    pub(super) async fn forget(&self, agent: AgentId) {
        self.forget_here(agent);
        if let Some(sealed) = self.sealed.as_ref().filter(|sealed| sealed.has_credentials()) {
            sealed.remove(SealedKind::Credentials, agent).await;
        }
    }

    pub(super) fn forget_here(&self, agent: AgentId) {
        self.agents.forget_held(agent);
    }

    /// Remembers for a while that this sign-in must not be repeated, here and at other replicas.
    pub(super) async fn reject(&self, agent: AgentId, sign_in: &SignIn, why: Rejection) {
        let shared = SharedRejection::of(sign_in, &why);
        let is_password_wrong = why.is_password_wrong();
        let until = Instant::now() + self.rejected_for;
        let is_noted = self.agents.reject(agent, sign_in, why, until);
        if is_password_wrong {
            self.forget_password(agent, sign_in).await;
        }
        // Shared only if there was room for it here. A client that tries passwords for all possible
        // ids must not fill the store that replicas share.
        let Some(sealed) = self.sealed.as_ref().filter(|_| is_noted) else { return };
        // Serializing these strings cannot fail.
        let plain = serde_json::to_vec(&shared).unwrap_or_default();
        sealed.put(SealedKind::Rejected, of_no_session(agent), &plain, self.rejected_for).await;
    }

    /// Forgets a wrong password where it is held or shared, but no other password held by now.
    async fn forget_password(&self, agent: AgentId, useless: &SignIn) {
        if self.agents.held(agent).is_some_and(|held| has_same_password(&held, useless)) {
            self.forget_here(agent);
        }
        if self.shared(agent).await.is_some_and(|shared| has_same_password(&shared, useless)) {
            self.forget(agent).await;
        }
    }

    /// The obstacle if this sign-in must not be tried: one with the same password was rejected a
    /// short while ago, here or at another replica.
    pub(super) async fn rejection(&self, agent: AgentId, sign_in: &SignIn) -> Option<Obstacle> {
        if let Some(known) = self.rejection_here(agent, sign_in) {
            return Some(known);
        }
        let plain = self.sealed.as_ref()?.get(SealedKind::Rejected, of_no_session(agent)).await?;
        let shared: SharedRejection = serde_json::from_slice(&plain).ok()?;
        shared.rejection_of(sign_in).map(Obstacle::from)
    }

    /// Like [`CredentialBook::rejection`], but only with what this replica knows.
    pub(super) fn rejection_here(&self, agent: AgentId, sign_in: &SignIn) -> Option<Obstacle> {
        self.agents.rejection(agent, sign_in).map(Obstacle::from)
    }
}

impl SharedRejection {
    fn of(sign_in: &SignIn, why: &Rejection) -> Self {
        let password_sha256 = password_digest(sign_in);
        match why {
            Rejection::Refused(Refusal { retcode, message, node, .. }) => Self {
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
            Some(retcode) => {
                Rejection::Refused(Refusal { retcode, message, node, http_status: 200 })
            }
            None => Rejection::WithoutGuid,
        })
    }
}

/// The owner of a rejected password. Nobody can sign in with it before its time is over, so one that is brought
/// back keeps nobody out for longer than it would have.
fn of_no_session(agent: AgentId) -> Owner {
    Owner { agent, session: 0 }
}

fn has_same_password(one: &SignIn, other: &SignIn) -> bool {
    one.password.expose_secret() == other.password.expose_secret()
}

/// Only stored sealed: a weak password could be guessed from the bare digest.
fn password_digest(sign_in: &SignIn) -> String {
    hex(digest(&SHA256, sign_in.password.expose_secret().as_bytes()).as_ref())
}
