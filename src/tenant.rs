//! A tenant: everything that its agents' calls go through, and nothing that another tenant's do.

mod abandoned;
mod admission;
mod admitted_call;
mod agents;
mod announcer;
mod asking;
mod calls;
mod confirm;
mod context;
mod counts;
mod credentials;
mod directory;
mod displacing;
mod drain;
mod guid_renewal;
mod handover;
mod keeper;
mod labels;
mod ownership;
mod poll;
mod rate_limit;
mod replicas;
mod shared_sign_ins;
mod sign_in_lock;
mod sign_in_locking;
mod sign_ins;
mod signing_in;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use self::{
    abandoned::AbandonedCalls,
    admission::Admission,
    agents::{AgentRecords, Event},
    announcer::Announcer,
    asking::RepeatBudget,
    credentials::CredentialBook,
    replicas::Sharing,
    sign_ins::SignIns,
};
pub use self::{
    admission::{Hosts, ServerCalls, ServerPlace, Usage},
    agents::{StateCount, TakenOver},
    confirm::{Confirmation, Unconfirmed},
    context::Context,
    counts::Counts,
    directory::Tenants,
    displacing::{Displacing, Place, block},
    labels::{TakeOver, TenantMetrics, TenantVocabulary},
    ownership::{Cause, Claimed, LeaseCounts, PollOwnership, Polls},
    replicas::{Peers, Replicas},
    shared_sign_ins::{Attempt, Holder, Lock, Moments, SharedSignIns},
    sign_ins::SignInQueue,
};
use crate::{
    call::{CallError, Deadline, Obstacle, Share, Stage, StoreTrouble, Wait},
    config,
    event::{Agents, Events, Moment, Watch},
    gateway::{AddressView, BuildError, Command, Envelope, Gateway, SignIn},
    id::{AgentId, TenantId},
    session::{
        Guid, NewSession, Origin, Scope, Session, SessionState, SessionStore, StoreError, Stores,
    },
    telemetry::metrics::Metrics,
};

/// One tenant, as calls see it.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    config: config::Tenant,
    admission: Admission,
    /// Commands of batches that are under way.
    batches: Arc<Semaphore>,
    agents: Arc<AgentRecords>,
    credentials: CredentialBook,
    sessions: Arc<dyn SessionStore>,
    gateway: Gateway,
    /// Which agents this process polls.
    polls: Arc<dyn PollOwnership>,
    metrics: TenantMetrics,
    events: Arc<Events>,
    announcer: Announcer,
    watches: Arc<Displacing>,
    /// Guids that may be renewed at once for agents whom another process has polled.
    renewals: Semaphore,
    /// Automatic sign-ins: those that no `SignIn` asked for.
    sign_ins: Arc<SignIns>,
    /// From which requests are repeated that met another call for their agent.
    repeats: RepeatBudget,
    abandoned: AbandonedCalls,
    work: Work,
}

/// What all tenants have in common.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// The server's places for calls.
    pub calls: &'a ServerCalls,
    /// The shares of gateway hosts.
    pub hosts: &'a Hosts,
    /// Where sessions are kept.
    pub stores: &'a Stores,
    /// The other replicas; `None`: there are none.
    pub replicas: Option<&'a dyn Replicas>,
    /// What is counted.
    pub metrics: &'a Metrics,
}

/// Where detached work belongs, so that the bridge can wait for it when it stops.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Every task that may have a request under way.
    pub tasks: TaskTracker,
    /// Cancelled when callers that still wait have to be answered.
    pub cutoff: CancellationToken,
    /// Cancelled when the bridge begins to stop: streams end, and agents are handed over.
    pub stopping: CancellationToken,
    /// Cancelled when sessions are left to whoever comes next.
    pub keeping: CancellationToken,
}

/// A command that the gateway accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The gateway's answer.
    pub envelope: Envelope,
    /// What was asked.
    pub command: Command,
    /// When it was, in the tenant's events.
    pub after: Moment,
    /// Whether it was one of many; what has to be asked after it takes the same places.
    pub of_batch: bool,
}

/// An agent who was signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The gateway's answer.
    pub envelope: Envelope,
    /// The session that was made.
    pub session: Arc<Session>,
    /// What the gateway answered to the reset of the skill queues, if the tenant wants it.
    pub skills: Option<Result<Envelope, CallError>>,
}

impl Tenant {
    /// A tenant that is ready for calls. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up with what the configuration names.
    pub fn new(
        id: TenantId,
        config: config::Tenant,
        common: &Common<'_>,
        work: Work,
    ) -> Result<Self, BuildError> {
        let metrics: TenantMetrics = common.metrics.tenants.of(id.as_str());
        let Sharing { events, relay, polls, sign_ins } =
            Sharing::of(common.replicas, &id, &config, &work);
        let announcer = Announcer { events: events.clone(), relay };
        let entered = metrics.states_entered(SessionState::ALL);
        let agents = Arc::new(AgentRecords::new(id.clone(), &config, announcer.clone(), entered));
        Ok(Self {
            admission: Admission::new(&id, &config, common.calls, common.hosts),
            batches: Arc::new(Semaphore::new(batch_share(&config.limits))),
            credentials: CredentialBook::new(
                config.credentials.clone(),
                config.keep.rejected_for,
                agents.clone(),
                common.stores.safe(&id),
            ),
            sessions: common.stores.open(&id, config.limits.sessions),
            gateway: Gateway::new(&id, &config, &common.metrics.requests)?,
            sign_ins: Arc::new(SignIns::new(&config, sign_ins)),
            repeats: RepeatBudget::new(config.limits.requests),
            abandoned: AbandonedCalls::default(),
            polls,
            metrics,
            events,
            announcer,
            renewals: Semaphore::new((config.limits.requests.get() / 4).max(1)),
            watches: Displacing::new(config.events.watches.get()),
            agents,
            id,
            config,
            work,
        })
    }

    /// The tenant's id.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// The tenant's configuration.
    pub fn config(&self) -> &config::Tenant {
        &self.config
    }

    /// The tenant's metrics.
    pub fn metrics(&self) -> &TenantMetrics {
        &self.metrics
    }

    /// The host of the tenant's gateway, as it is configured first.
    pub fn gateway(&self) -> Option<&str> {
        self.config.base_urls.first()?.host()
    }

    /// How the addresses of its gateway are doing.
    pub fn addresses(&self) -> Vec<AddressView> {
        self.gateway.addresses()
    }

    /// How much of its shares the tenant takes.
    pub fn usage(&self) -> [Usage; 5] {
        let [calls, requests] = self.admission.usage();
        let watches = self.watches.usage(Share::TenantWatches.as_str());
        let (share, limit) = ("batch_requests", self.batch_share());
        let taken = limit.saturating_sub(self.batches.available_permits());
        let batches = Usage { share, limit, taken };
        let sessions = Usage {
            share: Share::TenantSessions.as_str(),
            limit: self.config.limits.sessions.get(),
            taken: self.sessions.len(),
        };
        [calls, requests, watches, batches, sessions]
    }

    /// A place among the server's calls: one of the tenant's own, else one that all have in common.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if there is neither.
    pub fn enter_server(&self) -> Result<ServerPlace, Obstacle> {
        self.admission.enter_server()
    }

    /// The agent's session, if there is one.
    ///
    /// # Errors
    ///
    /// [`Obstacle::StoreUnavailable`] if the store cannot be asked.
    pub async fn session(&self, agent: AgentId) -> Result<Option<Arc<Session>>, Obstacle> {
        if let Some(session) = self.sessions.cached(agent) {
            return Ok(Some(session));
        }
        self.sessions.load(agent).await.map_err(|e| self.store_failed(&e))
    }

    /// The agent's session, as far as anybody knows: another replica may have stored a newer one
    /// that this one has not heard of. Without the store, what is known here has to do.
    async fn newest_session(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.sessions.load(agent).await.unwrap_or_else(|_| self.sessions.cached(agent))
    }

    /// Stores the Guid of an agent who was signed in elsewhere, in the place of any other.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if the tenant has as many sessions as it may;
    /// [`CallError::Deadline`] if the store has not answered by then, and may have taken it.
    pub async fn register(
        self: &Arc<Self>,
        agent: AgentId,
        guid: Guid,
        ttl: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Arc<Session>, CallError> {
        // The balancer's cookies name a node: they stay good as long as the Guid names the same.
        let cookies = match self.sessions.cached(agent) {
            Some(known) if known.guid.node() == guid.node() => known.cookies.clone(),
            _ => Arc::default(),
        };
        // The owner polls from now on, and two polls at once are refused (000-007).
        self.note(agent, Event::Registering);
        let ttl = Some(ttl.unwrap_or(self.config.registered_ttl));
        let session = NewSession { guid, origin: Origin::Registered, ttl, cookies };
        let tenant = self.clone();
        // In a task of its own: a caller who leaves must not stop it halfway.
        let storing = self.work.tasks.spawn(async move {
            let stored = tenant.sessions.put(agent, session).await;
            match &stored {
                // A sign-in that came meanwhile has been told.
                Ok(session) if !tenant.is_newest(agent, session.version) => {}
                Ok(_) => tenant.note(agent, Event::Registered),
                Err(_) => tenant.note(agent, Event::Unregistered),
            }
            tenant.agents.decided(agent);
            tenant.sign_ins.settle(agent);
            stored.map_err(|error| CallError::unasked(tenant.store_failed(&error)))
        });
        match timeout_at(deadline.answer_by(), storing).await {
            Ok(stored) => stored.unwrap_or(Err(CallError::Internal)),
            Err(_elapsed) => Err(CallError::Deadline(Stage::Store)),
        }
    }

    /// Whether this process knows of no newer session.
    fn is_newest(&self, agent: AgentId, version: u64) -> bool {
        self.sessions.cached(agent).is_none_or(|known| known.version <= version)
    }

    /// The agent's session, if that is known before the deadline.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Deadline`]; else as [`Tenant::session`].
    pub async fn session_by(
        &self,
        agent: AgentId,
        deadline: Deadline,
    ) -> Result<Option<Arc<Session>>, Obstacle> {
        let found = timeout_at(deadline.answer_by(), self.session(agent)).await;
        found.unwrap_or(Err(Obstacle::Deadline(Wait::Store)))
    }

    /// Reads on in the tenant's events; see [`Events::watch`]. The permit is a place among the
    /// callers who do.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if there are as many as there may be, and no address has more than
    /// `peer` would have.
    pub async fn watch(
        &self,
        peer: IpAddr,
        agents: Agents,
        after: Option<u64>,
    ) -> Result<(Watch, Place), Obstacle> {
        let place = self.watches.enter_fairly(peer).ok_or_else(|| self.watches_used_up())?;
        self.announcer.relay.ready().await;
        Ok((self.events.watch(agents, after), place))
    }

    /// What a caller hears for whom there is no place to watch events, or no more.
    pub fn watches_used_up(&self) -> Obstacle {
        Obstacle::Overloaded { share: Share::TenantWatches, limit: self.watches.limit() }
    }

    /// How many of the bridge's own sessions have each status.
    pub fn session_states(&self) -> Vec<StateCount> {
        self.agents.status_counts()
    }

    /// How an agent's session is doing, if the bridge has to do with it.
    pub fn session_state(&self, agent: AgentId) -> Option<SessionState> {
        self.agents.status(agent)
    }

    /// The agents whom another client has taken from the bridge lately.
    pub fn taken_over(&self) -> Vec<TakenOver> {
        self.agents.taken_over(Instant::now())
    }

    /// How long a sign-in may take at the gateway.
    fn sign_in_max(&self) -> Duration {
        let config::Timeouts { connect, sign_in, .. } = self.config.timeouts;
        // Both may be needed twice: for a standby site, and for a forcible sign-in.
        (connect + sign_in) * 2
    }

    /// Cancelled when the bridge begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.work.stopping.clone()
    }

    /// What the bridge would sign this agent in with, if nobody says otherwise.
    pub fn configured_sign_in(&self, agent: AgentId) -> Option<SignIn> {
        self.credentials.configured(agent)
    }

    fn store_failed(&self, error: &StoreError) -> Obstacle {
        match *error {
            StoreError::Full(limit) => Obstacle::Overloaded { share: Share::TenantSessions, limit },
            StoreError::Unavailable(_) | StoreError::Refused(_) => {
                debug!(ccgw.tenant.id = %self.id, %error, "the session store was asked in vain");
                Obstacle::StoreUnavailable(trouble(error))
            }
        }
    }
}

/// What callers are told of it.
fn trouble(error: &StoreError) -> StoreTrouble {
    match error {
        StoreError::Refused(refusal) if refusal.scope == Scope::Writes => {
            StoreTrouble::RefusesWrites
        }
        StoreError::Refused(_) => StoreTrouble::RefusesReads,
        StoreError::Unavailable(_) | StoreError::Full(_) => StoreTrouble::Silent,
    }
}

/// Half of the tenant's requests.
fn batch_share(limits: &config::Limits) -> usize {
    limits.requests.get().div_ceil(2)
}
