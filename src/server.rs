//! The running bridge: listeners, health, readiness and the way it stops.
//!
//! [`Bridge::start`] is the one door, for `main` and for tests.

mod admin;
mod callers;
mod certificates;
mod connection;
mod entrance;
mod frames;
mod heads;
mod health;
mod house;
mod intake;
mod linger;
mod listener;
mod metrics;
mod opening;
mod ports;
mod rates;
mod readiness;
mod reflection;
mod send_buffers;
mod service;
mod serving;
mod socket;
mod status;
mod stores;
mod streams;
mod tls;
mod turned_away;
mod wire;

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub use self::stores::{SharesNothing, check_store};
use self::{
    callers::{Callers, CommonCallers},
    certificates::Certificates,
    health::Health,
    listener::accept,
    metrics::{Exposition, ServerShares},
    ports::{Port, Ports},
    readiness::Readiness,
    service::Services,
    status::StatusSource,
    stores::Opened,
};
use crate::{
    call::{Cutoff, Deadline},
    config::{self, Config, Drain, LeftSessions, ListenerName, section_of},
    gateway::BuildError,
    id::TenantId,
    keyring::SealError,
    rpc::{self, Observed},
    session::{FileError, Stores},
    telemetry::{
        log::LogControl,
        trace::{Tracer, TracerError},
    },
    tenant::{Common, Hosts, Tenant, Tenants, Work},
};

/// A bridge that answers calls.
#[derive(Debug)]
pub struct Bridge {
    listeners: Vec<(ListenerName, SocketAddr)>,
    admin_addr: Option<SocketAddr>,
    readiness: Arc<Readiness>,
    health: Health,
    tenants: Tenants,
    stages: Stages,
    connections: TaskTracker,
    /// Connections that have ended, and whose peers may be reading still.
    last_moments: TaskTracker,
    work: Work,
    tracer: Tracer,
    stores: Stores,
    drain: Drain,
}

/// Why a bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or not ours to take.
    #[error("cannot listen on {addr} ({key}): {source}; choose another address")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The key that names it.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// There is no listener, which [`config::load`] does not let happen.
    #[error("listeners: there is none; configure at least one")]
    NoListener,
    /// The certificate of a listener is unusable.
    #[error("listeners.{0}.tls: {1}")]
    Tls(ListenerName, rustls::Error),
    /// Replicas are to share sessions, which this build of the program cannot.
    #[error(transparent)]
    SharesNothing(#[from] SharesNothing),
    /// What replicas share cannot be encrypted.
    #[error("store.encryption_key_files: {0}")]
    Store(#[from] SealError),
    /// The file that sessions are to be kept in cannot be used.
    #[error("store.file: {0}")]
    SessionFile(#[from] FileError),
    /// Traces cannot be made.
    #[error(transparent)]
    Traces(#[from] TracerError),
    /// A tenant's client cannot be made.
    #[error("{section}: {1}", section = section_of(.0))]
    Tenant(TenantId, BuildError),
    /// Reflection cannot be served.
    #[error(transparent)]
    Reflection(#[from] rpc::ReflectionError),
}

/// How a bridge stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call had its answer.
    Clean,
    /// The limit passed first.
    CutShort {
        /// Connections that were open still.
        connections: usize,
        /// Requests to gateways that were open still.
        requests: usize,
    },
}

/// The ways in which the bridge asks its parts to end, in this order.
#[derive(Clone, Debug)]
struct Stages {
    /// No new connections; the open ones get GOAWAY and finish their calls.
    goaway: CancellationToken,
    /// [`Work::cutoff`]: nobody is waited for any more who may be reading still.
    cutoff: Cutoff,
    /// Whatever is open now is closed.
    close: CancellationToken,
}

/// Of the drain's timeout, the part that callers get for reading their last answer, and another part in
/// which what is left goes into a file.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What peers get at the end of a drain for reading what they have been sent.
const LAST_READS: Duration = Duration::from_secs(2);

impl Bridge {
    /// Opens the ports and answers calls from now on.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left open then, and where a port is taken, nothing was begun.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Box::pin(Self::start_with(config, None)).await
    }

    /// The same; what is logged can then be changed through the admin port.
    ///
    /// # Errors
    ///
    /// As [`Bridge::start`].
    pub async fn start_with(config: Config, log: Option<LogControl>) -> Result<Self, StartError> {
        // Before anything else: a port that is taken, as by the bridge that runs already, must not
        // become known only when this one has begun to poll that one's agents.
        let ports = Ports::open(&config)?;
        let opened = stores::open(&config).await?;
        let work = Work::default();
        let stages = Stages::before(&work);
        let tasks = (work.clone(), stages.clone());
        let started = Box::pin(Self::start_at(ports, opened.clone(), config, log, tasks)).await;
        if started.is_err() {
            work.stopping.cancel();
            work.cutoff.give();
            work.keeping.cancel();
            stages.goaway.cancel();
            stages.close.cancel();
            work.tasks.close();
            work.tasks.wait().await;
            opened.stores.close().await;
        }
        started
    }

    async fn start_at(
        ports: Ports,
        Opened { stores, replicas }: Opened,
        config: Config,
        log: Option<LogControl>,
        (work, stages): (Work, Stages),
    ) -> Result<Self, StartError> {
        let warnings = config.warnings();
        let certificates = Certificates::of(&config);
        let division = config.division();
        let Config { server, host_requests, tenants, traces, retcodes, .. } = config;

        // What may fail comes before what starts something.
        let observed = Arc::new(Observed::new(traces.as_ref())?);
        let tracer = observed.tracer.clone();
        let shares = ServerShares::new(&server, division);
        let hosts = Hosts::new(host_requests);
        let common = Common {
            calls: &shares.calls,
            hosts: &hosts,
            stores: &stores,
            replicas: replicas.as_deref(),
            metrics: &observed.metrics,
        };
        let tenants = start_tenants(tenants, &common, &work)?;
        let (mut routes, unread) =
            rpc::services(tenants.clone(), retcodes, &server, observed.clone())?;
        tenants.all().for_each(Tenant::share_polls);
        let health = Health::serving(&mut routes).await;
        let ServerShares { entrance, intake, streams, .. } = &shares;
        let (entrance, intake, streams) = (entrance.clone(), intake.clone(), streams.clone());
        let readiness =
            Arc::new(Readiness::new(tenants.clone(), &warnings, stores.clone(), entrance.clone()));

        let admin_addr = ports.admin.as_ref().map(|(_, addr)| *addr);
        let (listeners, listening) = (ports.addresses(), ports.status());
        if let Some((listener, _)) = ports.admin {
            let exposition = Exposition {
                observed,
                tenants: tenants.clone(),
                shares,
                hosts,
                certificates,
                stores: stores.clone(),
                log,
            };
            let source = StatusSource::new(readiness.clone(), exposition, listening);
            tokio::spawn(admin::serve(listener, Arc::new(source), stages.close.clone()));
        }

        tenants.all().for_each(Tenant::resume);
        let connections = TaskTracker::new();
        let (buffers, close) = (entrance.send_buffers.clone(), stages.close.clone());
        let last_moments = entrance.last_moments.clone();
        tokio::spawn(async move { close.run_until_cancelled(buffers.watch()).await });
        let services = Services { routes: routes.routes().prepare(), intake, streams, unread };
        let limits = server.connections.clone();
        let callers = CommonCallers { services, limits, entrance, stages: stages.clone() };
        for Port { socket, tls, http2, .. } in ports.listeners {
            let callers = Arc::new(Callers::new(&http2, tls, callers.clone()));
            connections.spawn(accept(socket, callers, connections.clone()));
        }
        readiness.set_ready();
        let drain = server.drain;
        Ok(Self {
            listeners,
            admin_addr,
            readiness,
            health,
            tenants,
            stages,
            connections,
            last_moments,
            work,
            tracer,
            stores,
            drain,
        })
    }

    /// Where callers connect; of several listeners, at the first by name.
    pub fn grpc_addr(&self) -> SocketAddr {
        // There always is one: a start without any fails.
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.listeners.first().map_or(nowhere, |(_, addr)| *addr)
    }

    /// Where callers connect, by listener; tells the ports where the configuration left them open.
    pub fn listeners(&self) -> &[(ListenerName, SocketAddr)] {
        &self.listeners
    }

    /// Where health and readiness are asked for.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Stops: not ready, a time for callers to hear of it, GOAWAY, calls in flight to their end.
    /// Takes `delay` and `timeout` of the configuration's drain at the most.
    pub async fn drain(self) -> Drained {
        let Self { readiness, mut health, tenants, stages, connections, work, .. } = self;
        let (tracer, stores, drain) = (self.tracer, self.stores, self.drain);
        let last_moments = self.last_moments;
        info!(delay = ?drain.delay, timeout = ?drain.timeout, "draining: not ready from now on");
        readiness.set_draining();
        health.not_serving().await;
        tokio::time::sleep(drain.delay).await;

        // Streams of health watchers would hold their connections open for ever.
        health.end_watches().await;
        // First, so that streams end with this as their reason.
        work.stopping.cancel();
        stages.goaway.cancel();
        connections.close();
        last_moments.close();
        work.tasks.close();
        let last_words = LAST_WORDS.min(drain.timeout / 4);
        // What is left when callers have had theirs is for the file.
        let to_store = if stores.has_file() { last_words } else { Duration::ZERO };
        let caller_wait = drain.timeout.saturating_sub(last_words + to_store);
        let end = Instant::now() + drain.timeout;
        let all = async {
            let handing_over = async {
                // A poll may take ten seconds, and where sessions are left nothing else needs the time.
                let within = match drain.sessions {
                    LeftSessions::Leave => caller_wait,
                    LeftSessions::SignOut => caller_wait / 2,
                };
                let _late = timeout(within, hand_over(&tenants)).await;
                work.keeping.cancel();
            };
            // After the last call, which may need a session; but a caller who stays connected
            // must not keep agents from being signed out.
            let stayed = timeout(caller_wait / 2, connections.wait());
            let (_stayed, ()) = tokio::join!(stayed, handing_over);
            leave_sessions(&tenants, &drain, Deadline::new(Instant::now(), caller_wait / 2)).await;
            connections.wait().await;
            work.tasks.wait().await;
            // Whoever is still reading has had all this time, and gets a little more.
            let _late = timeout(LAST_READS.min(drain.timeout / 4), last_moments.wait()).await;
        };
        let mut all = std::pin::pin!(all);
        let mut clean = timeout(caller_wait, &mut all).await.is_ok();
        if !clean {
            work.keeping.cancel();
            work.cutoff.give();
            clean = timeout(last_words, &mut all).await.is_ok();
        }
        tenants.all().for_each(|tenant| tenant.tell_abandoned());
        let left = end.saturating_duration_since(Instant::now()).min(last_words);
        let (_late, ()) = tokio::join!(timeout(left, stores.close()), tracer.shut_down(left));
        let (connections, requests) = (connections.len(), work.tasks.len());
        stages.close.cancel();
        if clean {
            info!("drained: every call had its answer");
            return Drained::Clean;
        }
        warn!(connections, requests, "drained: the limit passed with connections or requests open");
        Drained::CutShort { connections, requests }
    }
}

/// Tenants that are ready for calls.
fn start_tenants(
    configured: BTreeMap<TenantId, config::Tenant>,
    common: &Common<'_>,
    work: &Work,
) -> Result<Tenants, StartError> {
    let tenants = configured.into_iter().map(|(id, config)| {
        Tenant::new(id.clone(), config, common, work.clone())
            .map_err(|error| StartError::Tenant(id, error))
    });
    Ok(Tenants::new(tenants.collect::<Result<Vec<_>, _>>()?))
}

/// Hands the kept sessions over to other replicas, where there may be some.
async fn hand_over(tenants: &Tenants) {
    let mut handing_over = JoinSet::new();
    for tenant in tenants.all().filter(|tenant| tenant.is_kept_by_replicas()) {
        let tenant = tenant.clone();
        handing_over.spawn(async move {
            let kept = tenant.kept();
            tenant.hand_over().await;
            info!(ccgw.tenant.id = %tenant.id(), kept, "sessions are handed over to other replicas");
        });
    }
    handing_over.join_all().await;
}

/// Leaves the kept sessions as the configuration wants it, and says so.
async fn leave_sessions(tenants: &Tenants, drain: &Drain, deadline: Deadline) {
    for tenant in tenants.all().filter(|tenant| tenant.kept() > 0) {
        let (id, kept) = (tenant.id(), tenant.kept());
        match drain.sessions {
            LeftSessions::Leave => {
                info!(ccgw.tenant.id = %id, kept, "sessions are left as they are");
            }
            LeftSessions::SignOut => {
                let signed_out = tenant.sign_out_all(deadline).await;
                info!(ccgw.tenant.id = %id, kept, signed_out, "agents were signed out");
            }
        }
    }
}

impl Stages {
    fn before(work: &Work) -> Self {
        let (goaway, close) = (CancellationToken::new(), CancellationToken::new());
        Self { goaway, cutoff: work.cutoff.clone(), close }
    }
}
