//! The credentials of a tenant's agents: configured, learned from a sign-in, or shared by replicas.

mod shared_rejections;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use self::shared_rejections::SharedRejections;
use super::{
    agents::{AgentRecords, GUIDLESS_MAX, Rejection},
    password_digest::PasswordDigest,
};
use crate::{
    call::Obstacle,
    config::{Credential, Credentials},
    gateway::SignIn,
    id::AgentId,
    session::{Origin, Owner, SealedKind, SealedValues, Session, SessionStore, StoreError},
    time::millis_now,
};

/// The credentials that the bridge can sign agents in with, and those that it must not try again.
///
/// Of what a caller gives to `SignIn`, only the password is held. Where nobody asks for a sign-in, all
/// the rest is as the configuration has it: a caller who takes an agent over once has not said that the
/// bridge may do so again, or where the agent's calls shall go from now on.
#[derive(Debug)]
pub(super) struct CredentialBook {
    configured: Option<Arc<Credentials>>,
    /// What this replica has learned from sign-ins.
    agents: Arc<AgentRecords>,
    rejected_for: Duration,
    /// What replicas share, or the next process finds; `None` without a store that has keys.
    sealed: Option<SealedValues>,
    /// A shared password counts only with the session that was made with it.
    sessions: Arc<dyn SessionStore>,
}

/// How long shared passwords are stored: as long as a session that nobody renews.
const SHARED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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

    /// The sign-in for an agent for whom nobody asks for one. Its password is the one that replicas share
    /// for the agent's session, or else the one that worked last here, or else the configured one.
    ///
    /// # Errors
    ///
    /// What the store has of it cannot be read.
    pub(super) async fn find(&self, agent: AgentId) -> Result<Option<Arc<SignIn>>, StoreError> {
        let shared = self.shared(agent).await?.map(|shared| self.unasked(agent, shared));
        Ok(shared.or_else(|| self.find_here(agent)))
    }

    /// The same, by what this replica knows.
    pub(super) fn find_here(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        Some(self.unasked(agent, self.password_here(agent)?))
    }

    /// The same, by the configuration alone: for an agent who is not to be signed in any more with what
    /// a caller has given.
    pub(super) fn find_configured(&self, agent: AgentId) -> Option<Arc<SignIn>> {
        let password = self.configured(agent)?.password.clone();
        Some(self.unasked(agent, password))
    }

    fn unasked(&self, agent: AgentId, password: SecretString) -> Arc<SignIn> {
        let configured = self.configured(agent);
        let phone_number = configured.map(|known| known.phone_number.clone()).unwrap_or_default();
        let force = configured.is_some_and(|known| known.force);
        Arc::new(SignIn::new(password, phone_number, force))
    }

    /// Whether this replica can sign the agent in without asking others for the password.
    pub(super) fn has_password_here(&self, agent: AgentId) -> bool {
        self.password_here(agent).is_some()
    }

    fn password_here(&self, agent: AgentId) -> Option<SecretString> {
        let configured = || self.configured(agent).map(|known| known.password.clone());
        self.agents.held(agent).or_else(configured)
    }

    async fn shared(&self, agent: AgentId) -> Result<Option<SecretString>, StoreError> {
        let Some(sealed) = self.shared_passwords() else { return Ok(None) };
        let Some(session) = self.sessions.load(agent).await? else { return Ok(None) };
        let owner = Owner { agent, session: Some(session.made) };
        let plain = sealed.get(SealedKind::Credentials, owner).await?;
        Ok(plain.and_then(|plain| std::str::from_utf8(&plain).ok().map(SecretString::from)))
    }

    /// Where replicas share passwords; `None` if they do not.
    fn shared_passwords(&self) -> Option<&SealedValues> {
        self.sealed.as_ref().filter(|sealed| sealed.has_credentials())
    }

    pub(super) fn configured(&self, agent: AgentId) -> Option<&Credential> {
        self.configured.as_ref()?.agents.get(&agent)
    }

    /// Holds a password that worked. The configured one is not held: whoever changes it or takes it out
    /// of the configuration has to be obeyed at once.
    pub(super) fn hold(&self, agent: AgentId, password: &SecretString) {
        self.agents.worked(agent, password);
        if self.is_configured(agent, password) {
            self.agents.forget_held(agent);
        } else {
            self.agents.hold(agent, password);
        }
    }

    fn is_configured(&self, agent: AgentId, password: &SecretString) -> bool {
        let configured = self.configured(agent).map(|known| known.password.expose_secret());
        configured == Some(password.expose_secret())
    }

    /// Shares a password with the session that was made with it, unless all replicas have it by their
    /// configuration.
    pub(super) async fn share(&self, agent: AgentId, password: &SecretString, session: &Session) {
        let Some(sealed) = self.shared_passwords() else { return };
        if session.origin == Origin::SignedIn && !self.is_configured(agent, password) {
            let plain = password.expose_secret().as_bytes();
            let owner = Owner { agent, session: Some(session.made) };
            sealed.put(SealedKind::Credentials, owner, plain, SHARED_FOR).await;
        }
    }

    /// Forgets what an agent was signed in with, here and in what replicas share.
    pub(super) async fn forget(&self, agent: AgentId) {
        self.forget_here(agent);
        self.forget_shared(agent).await;
    }

    pub(super) fn forget_here(&self, agent: AgentId) {
        self.agents.forget_held(agent);
    }

    async fn forget_shared(&self, agent: AgentId) {
        if let Some(sealed) = self.shared_passwords() {
            sealed.remove(SealedKind::Credentials, agent).await;
        }
    }

    /// Tells the other replicas and the next process that a sign-out may have ended this session, since its answer was lost.
    pub(super) async fn note_sign_out(&self, agent: AgentId, made: u64) {
        if let Some(sealed) = &self.sealed {
            let owner = Owner { agent, session: Some(made) };
            let noted = millis_now().to_be_bytes();
            sealed.put(SealedKind::SignOut, owner, &noted, GUIDLESS_MAX).await;
        }
    }

    /// How long ago somebody has said that, by the clocks of both; `None`: nobody has lately.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub(super) async fn noted_sign_out(
        &self,
        agent: AgentId,
        made: u64,
    ) -> Result<Option<Duration>, StoreError> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let owner = Owner { agent, session: Some(made) };
        let plain = sealed.get(SealedKind::SignOut, owner).await?;
        let noted =
            plain.and_then(|plain| plain.first_chunk::<8>().copied()).map(u64::from_be_bytes);
        let age = |noted| millis_now().saturating_sub(noted);
        Ok(noted.map(age).map(Duration::from_millis))
    }

    /// Remembers for a while that this sign-in must not be repeated, here and at other replicas.
    pub(super) async fn reject(&self, agent: AgentId, sign_in: &SignIn, why: Rejection) {
        let password = PasswordDigest::of(&sign_in.password);
        let until = Instant::now() + self.rejected_for;
        let displaced = self.agents.reject(agent, password.clone(), why.clone(), until);
        if why.is_password_wrong() {
            self.forget_wrong(agent, &password).await;
        }
        let Some(sealed) = &self.sealed else { return };
        // A client that tries passwords for all possible ids must not fill the store that replicas share.
        if let Some(displaced) = displaced {
            sealed.remove(SealedKind::Rejected, displaced).await;
        }
        // Where the shared ones cannot be read, this replica's own take their place. Those that it does not know are known to the
        // replicas that have shared them, as long as those run.
        let shared = self.shared_rejections(sealed, agent).await;
        let mut shared = shared.unwrap_or_else(|_unread| self.rejections_here(agent));
        shared.add(&password, &why, self.rejected_for);
        let plain = shared.to_plain();
        sealed.put(SealedKind::Rejected, of_no_session(agent), &plain, self.rejected_for).await;
    }

    fn rejections_here(&self, agent: AgentId) -> SharedRejections {
        let mut known = SharedRejections::default();
        for (password, why, time) in self.agents.rejections(agent) {
            known.add(&password, &why, time);
        }
        known
    }

    async fn shared_rejections(
        &self,
        sealed: &SealedValues,
        agent: AgentId,
    ) -> Result<SharedRejections, StoreError> {
        let plain = sealed.get(SealedKind::Rejected, of_no_session(agent)).await?;
        Ok(plain.map(|plain| SharedRejections::from_plain(&plain)).unwrap_or_default())
    }

    /// Forgets a wrong password where it is held or shared, and no other one.
    async fn forget_wrong(&self, agent: AgentId, wrong: &PasswordDigest) {
        self.agents.forget_wrong(agent, wrong);
        let is_wrong = |shared: &SecretString| PasswordDigest::of(shared) == *wrong;
        if self.shared(agent).await.is_ok_and(|shared| shared.as_ref().is_some_and(is_wrong)) {
            self.forget_shared(agent).await;
        }
    }

    /// The obstacle if this sign-in must not be tried: its password was rejected a short while ago,
    /// here or at another replica.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub(super) async fn rejection(
        &self,
        agent: AgentId,
        sign_in: &SignIn,
    ) -> Result<Option<Obstacle>, StoreError> {
        if let Some(known) = self.rejection_here(agent, sign_in) {
            return Ok(Some(known));
        }
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let shared = self.shared_rejections(sealed, agent).await?;
        Ok(shared.find(&PasswordDigest::of(&sign_in.password)).map(Obstacle::from))
    }

    /// The same, by what this replica knows.
    pub(super) fn rejection_here(&self, agent: AgentId, sign_in: &SignIn) -> Option<Obstacle> {
        let password = PasswordDigest::of(&sign_in.password);
        self.agents.rejection(agent, &password).map(Obstacle::from)
    }
}

/// Rejections belong to no session. One that is written back blocks its password only until the time sealed
/// in it.
fn of_no_session(agent: AgentId) -> Owner {
    Owner { agent, session: None }
}
