//! One tenant: everything that the calls for its agents use. Tenants share nothing but what is in
//! [`Common`].

mod abandoned_calls;
mod admission;
mod admitted_call;
mod agent_status;
mod agent_view;
mod agents;
mod announcer;
mod automatic_sign_ins;
mod caller_id;
mod calls;
mod confirm;
mod contested_poll;
mod context;
mod counts;
mod credentials;
mod detached_work;
mod directory;
#[doc(hidden)]
pub mod fuzzing;
mod guid_renewal;
mod handover;
mod keeper;
mod labels;
mod node_poll;
mod overlapping_calls;
mod ownership;
mod password_digest;
mod peer_places;
mod perform_sign_in;
mod pool;
mod read_back;
mod refused_guid;
mod registration;
mod repeats;
mod replicas;
mod request_ids;
mod server_calls;
mod session_lookup;
mod shared_sign_ins;
mod sign_in_across_replicas;
mod sign_in_lock;
mod sign_out;
mod sign_out_all;
mod single_poll;
#[cfg(test)]
mod tests;
mod unasked_sign_in;
mod versions;

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    abandoned_calls::AbandonedCalls,
    admission::Admission,
    agents::AgentRecords,
    announcer::Announcer,
    automatic_sign_ins::SignIns,
    credentials::CredentialBook,
    node_poll::NodePolls,
    repeats::Repeats,
    replicas::Sharing,
    request_ids::{RequestIds, SharedIds},
    versions::Versions,
};
pub use self::{
    admission::{CallPlace, HostUsage, Hosts, Resource, ServerPlace, TenantUsage, Usage},
    agent_view::{AgentView, SessionView},
    agents::{StateCount, TakenOver},
    automatic_sign_ins::SignInQueue,
    caller_id::CallerId,
    confirm::{Confirmation, Unconfirmed},
    context::Context,
    counts::Counts,
    detached_work::DetachedWork,
    directory::Tenants,
    labels::{ReadBack, TakeOver, TenantMetrics, TenantVocabulary},
    ownership::{Cause, Claimed, LeaseCounts, PollOwnership, Polls},
    peer_places::{PeerPlace, PeerPlaces, address_block},
    repeats::Repeat,
    replicas::{Peers, Replicas},
    request_ids::{ChangeId, Did, Ended, KnownChange, Made},
    server_calls::ServerCalls,
    shared_sign_ins::{Attempt, Grant, Lock, Moments, SharedSignIns},
    sign_out_all::SignedOut,
};
use crate::{
    call::{CallError, Deadline, Obstacle, Share, Wait},
    config::{self, AuthMode},
    event::{Agents, Events, SentBy, Watch},
    gateway::{AddressView, BuildError, Command, Envelope, Gateway},
    id::{AgentId, TenantId},
    session::{Session, SessionState, SessionStore, Stores},
    state::AgentState,
    telemetry::metrics::Metrics,
    tls::SystemRoots,
};

/// One tenant, as calls see it. A change of its configuration makes another version of it
/// (`tenant/versions`).
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    config: config::Tenant,
    admission: Admission,
    agents: Arc<AgentRecords>,
    credentials: CredentialBook,
    sessions: Arc<dyn SessionStore>,
    gateway: Arc<Gateway>,
    /// Which agents this process polls.
    polls: Arc<dyn PollOwnership>,
    /// Whether polls for all agents of a node work.
    node_polls: NodePolls,
    metrics: Arc<TenantMetrics>,
    events: Arc<Events>,
    announcer: Announcer,
    watches: Arc<PeerPlaces>,
    /// Limits how many agents are asked about at once, besides their polls: for a new Guid where another
    /// process has polled before, or whether the session is good where another poll is open.
    renewals: Arc<Semaphore>,
    /// Automatic sign-ins: those that no `SignIn` asked for.
    sign_ins: Arc<SignIns>,
    /// Limits how many requests calls send after those that came to nothing.
    repeats: Repeats,
    /// Changes that were asked for with an id.
    request_ids: RequestIds,
    abandoned: Arc<AbandonedCalls>,
    work: DetachedWork,
    /// When the first version of it was made.
    began: Instant,
    versions: Versions,
}

/// What all tenants share.
#[derive(Debug)]
pub struct Common<'a> {
    /// The server's places for calls.
    pub calls: &'a ServerCalls,
    /// The limits of each gateway host.
    pub hosts: &'a Hosts,
    /// Where sessions are kept.
    pub stores: &'a Stores,
    /// The other replicas; `None` if there are none.
    pub replicas: Option<&'a dyn Replicas>,
    /// The bridge's metrics.
    pub metrics: &'a Metrics,
    /// For tenants that begin or change together.
    pub(crate) system_roots: SystemRoots,
}

/// A command that the gateway accepted.
#[derive(Debug)]
pub struct Accepted {
    /// How that is known.
    pub answer: Answer,
    /// The command.
    pub command: Command,
    /// The position in the tenant's events when the command was sent.
    pub after: SentBy,
    /// Whether it belongs to a batch. Requests that follow from it then count as the batch's, too.
    pub of_batch: bool,
    /// Its place among the tenant's calls, which it holds for as long as its confirmation is waited for. A batch
    /// takes it, and keeps one for all.
    pub place: Option<CallPlace>,
}

/// How it is known that the gateway accepted a command.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The gateway has answered.
    Envelope(Envelope),
    /// Its answer was lost. It was then asked what the agent is doing, and this shows that the change was made.
    Observed(AgentState),
}

/// An agent who was signed in.
#[derive(Clone, Debug)]
struct SignedIn {
    envelope: Envelope,
    /// The session that was made.
    session: Arc<Session>,
    skills: Option<Result<Envelope, CallError>>,
}

/// What a caller is told who has asked for a sign-in, now or before with the same id.
#[derive(Clone, Debug)]
pub struct SignInAnswer {
    /// The gateway's answer.
    pub envelope: Envelope,
    /// The session that was made, as it is now; `None` if it has ended since, or is not known any more.
    pub session: Option<Arc<Session>>,
    /// What the gateway answered to the reset of the skill queues, if the tenant wants it.
    pub skills: Option<Result<Envelope, CallError>>,
}

impl From<SignedIn> for SignInAnswer {
    fn from(SignedIn { envelope, session, skills }: SignedIn) -> Self {
        Self { envelope, session: Some(session), skills }
    }
}

impl Tenant {
    /// Makes a tenant that is ready for calls. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if TLS cannot be set up with what the configuration names.
    pub fn new(
        id: TenantId,
        config: config::Tenant,
        common: &Common<'_>,
        work: DetachedWork,
    ) -> Result<Arc<Self>, BuildError> {
        // First, since nothing else can fail.
        let gateway = Gateway::new(&id, &config, &common.metrics.requests, &common.system_roots)?;
        let metrics: Arc<TenantMetrics> = Arc::new(common.metrics.tenants.of(id.as_str()));
        let Sharing { events, relay, polls, sign_ins } =
            Sharing::of(common.replicas, &id, &config, &work);
        let announcer = Announcer { events: events.clone(), relay };
        let entered = metrics.states_entered(SessionState::ALL);
        let agents = Arc::new(AgentRecords::new(id.clone(), &config, announcer.clone(), entered));
        // Before the sealed values, which a file has beside the sessions.
        let sessions = common.stores.open(&id, config.limits.sessions);
        let shared_ids = common.stores.change_records(&id).map(|records| SharedIds {
            tenant: id.clone(),
            records,
            tasks: work.tasks.clone(),
            longest: longest_change(&config.timeouts),
            stopping: work.stopping.clone(),
            unended: Arc::default(),
        });
        let tenant = Arc::new(Self {
            admission: Admission::new(&id, &config, common.calls, common.hosts),
            credentials: CredentialBook::new(
                config.credentials.clone(),
                config.keep.rejected_for,
                agents.clone(),
                common.stores.sealed_values(&id),
                sessions.clone(),
            ),
            sessions,
            gateway: Arc::new(gateway),
            sign_ins: Arc::new(SignIns::new(&config, sign_ins)),
            repeats: Repeats::new(&config, metrics.clone()),
            request_ids: RequestIds::new(&config.request_ids, shared_ids),
            abandoned: Arc::default(),
            polls,
            node_polls: NodePolls::default(),
            metrics,
            events,
            announcer,
            renewals: Arc::new(Semaphore::new(renewals(&config.limits))),
            watches: PeerPlaces::new(config.events.watches.get()),
            agents,
            id,
            config,
            work,
            began: Instant::now(),
            versions: Versions::default(),
        });
        tenant.versions.set_newest(&tenant);
        Ok(tenant)
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

    /// The host of the first address configured for the tenant's gateway.
    pub fn gateway(&self) -> Option<&str> {
        self.config.base_urls.first()?.host()
    }

    /// The state of each address of the tenant's gateway.
    pub fn addresses(&self) -> Vec<AddressView> {
        self.gateway.addresses()
    }

    /// How much of its shares the tenant takes.
    pub fn usage(&self) -> TenantUsage {
        let [calls, requests, batches] = self.admission.usage();
        let watches = self.watches.usage(Resource::Share(Share::TenantWatches));
        let sessions = Usage {
            resource: Resource::Share(Share::TenantSessions),
            limit: self.config.limits.sessions.get(),
            taken: self.sessions.len(),
        };
        TenantUsage { calls, requests, watches, batches, sessions }
    }

    /// Takes a place among the server's calls: one of the tenant's own, or else one of the common
    /// places.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if no place is free, or only such as are kept for other callers.
    pub fn enter_server(&self, caller: CallerId) -> Result<ServerPlace, Obstacle> {
        self.admission.enter_server(caller)
    }

    /// Whether the gateway has Guids: sessions without one are good if it has none.
    pub fn has_guids(&self) -> bool {
        self.config.auth_mode != AuthMode::None
    }

    /// Takes a place among the watches. The caller holds it as long as it keeps it.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`] if all places are taken, and no other address would keep more of
    /// them than `peer` would get.
    pub fn enter_watches(&self, peer: IpAddr) -> Result<PeerPlace, Obstacle> {
        self.watches.enter_fairly(peer).ok_or_else(|| self.watches_used_up())
    }

    /// Watches the tenant's events after the position `after`; see [`Events::watch`]. First waits some seconds at the most until
    /// this replica knows what was told before.
    pub async fn watch(&self, agents: Agents, after: Option<u64>) -> Watch {
        self.announcer.relay.ready().await;
        if let Some(after) = after {
            self.events.catch_up_to(after).await;
        }
        self.events.watch(agents, after)
    }

    /// Waits until all events of this tenant so far have been told to the other replicas.
    pub async fn events_told(&self) {
        self.announcer.relay.told().await;
    }

    /// The error for a caller who gets no place to watch events, or has lost it.
    pub fn watches_used_up(&self) -> Obstacle {
        Obstacle::Overloaded { share: Share::TenantWatches, limit: self.watches.limit() }
    }

    /// How many of the bridge's own sessions have each status.
    pub fn session_states(&self) -> Vec<StateCount> {
        self.agents.status_counts()
    }

    /// The status of an agent's session; `None` if the bridge does not keep it and no call is
    /// changing it.
    pub fn session_state(&self, agent: AgentId) -> Option<SessionState> {
        self.agents.status(agent)
    }

    /// The agents that another client has lately taken over from the bridge.
    pub fn taken_over(&self) -> Vec<TakenOver> {
        self.agents.taken_over(Instant::now())
    }

    /// The longest that a sign-in can take at the gateway.
    fn sign_in_max(&self) -> Duration {
        let config::Timeouts { connect, sign_in, .. } = self.config.timeouts;
        // Twice, since a sign-in may be repeated at a standby site, or by force.
        (connect + sign_in) * 2
    }

    /// Cancelled when the bridge begins to stop, or the tenant is removed.
    pub fn stopping(&self) -> CancellationToken {
        self.work.stopping.clone()
    }

    /// Why a tenant that stops refuses calls.
    pub fn why_it_stops(&self) -> Obstacle {
        if self.work.stops_alone() { Obstacle::TenantUnknown } else { Obstacle::ShuttingDown }
    }

    /// Its tasks and stop signals.
    pub fn work(&self) -> &DetachedWork {
        &self.work
    }

    /// Waits until it has no call.
    pub async fn without_calls(&self) {
        self.admission.without_calls().await;
    }

    /// What is known of the change with this id; `None`: nothing was sent for it lately.
    ///
    /// # Errors
    ///
    /// [`Obstacle::StoreUnavailable`] if other replicas may know it, and their store does not say in time.
    pub async fn find_change(
        &self,
        id: ChangeId,
        deadline: Deadline,
    ) -> Result<Option<KnownChange>, Obstacle> {
        let found = timeout_at(deadline.answer_by(), self.request_ids.find(id)).await;
        found.unwrap_or(Err(Obstacle::Deadline(Wait::Store)))
    }

    /// The configured credentials of this agent, if there are any.
    pub fn configured(&self, agent: AgentId) -> Option<&config::Credential> {
        self.credentials.configured(agent)
    }
}

/// How long a change may take after its caller has left: a sign-in, the change itself, which may be repeated, and
/// the question what became of it.
fn longest_change(timeouts: &config::Timeouts) -> Duration {
    let config::Timeouts { connect, request, settle, sign_in, .. } = *timeouts;
    (connect + sign_in) * 4 + (connect + request) * 4 + settle + SPARE
}

/// For what is not counted, such as waits for a place.
const SPARE: Duration = Duration::from_secs(10);

/// How many agents may be asked about at once, besides their polls: a quarter of the tenant's limit.
fn renewals(limits: &config::Limits) -> usize {
    (limits.requests.get() / 4).max(1)
}
