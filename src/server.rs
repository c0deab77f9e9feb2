//! The running bridge: listeners, health, readiness and the drain at the end.
//!
//! [`Bridge::start`] is the only entry point, for `main` and for tests.

mod admin;
mod certificates;
mod connection;
mod connection_limits;
mod connection_slots;
mod frames;
mod health;
mod linger;
mod listener;
mod listener_context;
mod metrics;
mod ports;
mod preface;
mod rates;
mod readiness;
mod reflection;
mod request_counts;
mod request_reader;
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
    certificates::Certificates,
    health::Health,
    listener::accept,
    listener_context::{ListenerContext, SharedContext},
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
    /// Tasks of connections that have ended and whose peers may still be reading.
    lingering_tasks: TaskTracker,
    work: Work,
    tracer: Tracer,
    stores: Stores,
    drain: Drain,
}

/// Why a bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound, for example because the port is taken.
    #[error("cannot listen on {addr} ({key}): {source}; choose another address")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The configuration key that names the address.
        key: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// There is no listener. [`config::load`] rejects such a configuration.
    #[error("listeners: none is configured; configure at least one")]
    NoListener,
    /// The certificate of a listener is unusable.
    #[error("listeners.{0}.tls: {1}")]
    Tls(ListenerName, rustls::Error),
    /// The configuration wants sessions shared with other replicas, and this build cannot do that.
    #[error(transparent)]
    SharesNothing(#[from] SharesNothing),
    /// The keys that encrypt what replicas share are unusable.
    #[error("store.encryption_key_files: {0}")]
    Store(#[from] SealError),
    /// The file for sessions cannot be used.
    #[error("store.file: {0}")]
    SessionFile(#[from] FileError),
    /// The exporter of traces cannot be built.
    #[error(transparent)]
    Traces(#[from] TracerError),
    /// A tenant's gateway client cannot be built.
    #[error("{section}: {1}", section = section_of(.0))]
    Tenant(TenantId, BuildError),
    /// The reflection service cannot be built.
    #[error(transparent)]
    Reflection(#[from] rpc::ReflectionError),
}

/// How a bridge stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every call was answered.
    Clean,
    /// `server.drain.timeout` passed first.
    CutShort {
        /// How many connections were still open.
        connections: usize,
        /// How many requests to gateways were still open.
        requests: usize,
    },
}

/// The signals that stop the bridge's parts. They are given in this order.
#[derive(Clone, Debug)]
struct Stages {
    /// Accept no new connection. Open connections get GOAWAY and finish their calls.
    goaway: CancellationToken,
    /// [`Work::cutoff`]: stop waiting for peers that may still be reading.
    cutoff: Cutoff,
    /// Close everything that is still open.
    close: CancellationToken,
}

/// The end of the drain's timeout, reserved for callers to read their last answer. If sessions are
/// kept in a file, the same time again is reserved for writing it.
const READ_TIME: Duration = Duration::from_secs(1);
/// How long peers may read what they have been sent, at the end of a drain.
const LINGER_TIME: Duration = Duration::from_secs(2);

impl Bridge {
    /// Opens the ports and starts to answer calls.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing stays open then. If a port is taken, nothing else was started.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Box::pin(Self::start_with(config, None)).await
    }

    /// As [`Bridge::start`], with a log whose filter can be changed through the admin port.
    ///
    /// # Errors
    ///
    /// As [`Bridge::start`].
    pub async fn start_with(config: Config, log: Option<LogControl>) -> Result<Self, StartError> {
        // Bind the ports before anything else. A port may be taken by a bridge that is already
        // running, and this one must not begin to poll that bridge's agents before it finds out.
        let ports = Ports::open(&config)?;
        let opened = stores::open(&config).await?;
        let work = Work::default();
        let stages = Stages::new(&work);
        let tasks = (work.clone(), stages.clone());
        let started = Box::pin(Self::start_on(ports, opened.clone(), config, log, tasks)).await;
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

    async fn start_on(
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

        // Steps that can fail come before steps that start tasks.
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
        let (mut routes, unhandled) =
            rpc::services(tenants.clone(), retcodes, &server, observed.clone())?;
        tenants.all().for_each(Tenant::share_polls);
        let health = Health::serving(&mut routes).await;
        let ServerShares { connection_limits, request_reader, streams, .. } = &shares;
        let (connection_limits, request_reader, streams) =
            (connection_limits.clone(), request_reader.clone(), streams.clone());
        let readiness = Arc::new(Readiness::new(
            tenants.clone(),
            &warnings,
            stores.clone(),
            connection_limits.clone(),
        ));

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
        let (buffers, close) = (connection_limits.send_buffers.clone(), stages.close.clone());
        let lingering_tasks = connection_limits.lingering_tasks.clone();
        tokio::spawn(async move { close.run_until_cancelled(buffers.watch()).await });
        let services =
            Services { routes: routes.routes().prepare(), request_reader, streams, unhandled };
        let limits = server.connections.clone();
        let context = SharedContext { services, limits, connection_limits, stages: stages.clone() };
        for Port { socket, tls, http2, .. } in ports.listeners {
            let context = Arc::new(ListenerContext::new(&http2, tls, context.clone()));
            connections.spawn(accept(socket, context, connections.clone()));
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
            lingering_tasks,
            work,
            tracer,
            stores,
            drain,
        })
    }

    /// The address for callers. With several listeners, that of the first one by name.
    pub fn grpc_addr(&self) -> SocketAddr {
        // There is always one: a start without listeners fails.
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.listeners.first().map_or(nowhere, |(_, addr)| *addr)
    }

    /// The addresses for callers, by listener. Has the actual ports where the configuration says
    /// port 0.
    pub fn listeners(&self) -> &[(ListenerName, SocketAddr)] {
        &self.listeners
    }

    /// The address of the admin port, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Stops the bridge: reports "not ready", gives callers `delay` to notice, sends GOAWAY, and
    /// waits for the calls in flight. Takes the drain's `delay` and `timeout` at most.
    pub async fn drain(self) -> Drained {
        let Self { readiness, mut health, tenants, stages, connections, work, .. } = self;
        let (tracer, stores, drain) = (self.tracer, self.stores, self.drain);
        let lingering_tasks = self.lingering_tasks;
        info!(delay = ?drain.delay, timeout = ?drain.timeout, "draining: reporting not ready from now on");
        readiness.set_draining();
        health.not_serving().await;
        tokio::time::sleep(drain.delay).await;

        // Streams of health watchers would otherwise hold their connections open for ever.
        health.end_watches().await;
        // Before GOAWAY, so that event streams end with the reason that the bridge is stopping.
        work.stopping.cancel();
        stages.goaway.cancel();
        connections.close();
        lingering_tasks.close();
        work.tasks.close();
        let read_time = READ_TIME.min(drain.timeout / 4);
        // What remains after the callers' time is for writing the file.
        let to_store = if stores.has_file() { read_time } else { Duration::ZERO };
        let caller_wait = drain.timeout.saturating_sub(read_time + to_store);
        let end = Instant::now() + drain.timeout;
        let all = async {
            let handing_over = async {
                // A poll may take ten seconds. If sessions are left as they are, nothing else needs
                // this time.
                let within = match drain.sessions {
                    LeftSessions::Leave => caller_wait,
                    LeftSessions::SignOut => caller_wait / 2,
                };
                let _late = timeout(within, hand_over(&tenants)).await;
                work.keeping.cancel();
            };
            // Sign out after the last call, since a call may need its session. Wait only half the
            // time, so that a caller who stays connected cannot prevent the sign-outs.
            let stayed = timeout(caller_wait / 2, connections.wait());
            let (_stayed, ()) = tokio::join!(stayed, handing_over);
            leave_sessions(&tenants, &drain, Deadline::new(Instant::now(), caller_wait / 2)).await;
            connections.wait().await;
            work.tasks.wait().await;
            // Peers that are still reading have had all this time, and get a little more.
            let _late = timeout(LINGER_TIME.min(drain.timeout / 4), lingering_tasks.wait()).await;
        };
        let mut all = std::pin::pin!(all);
        let mut clean = timeout(caller_wait, &mut all).await.is_ok();
        if !clean {
            work.keeping.cancel();
            work.cutoff.give();
            clean = timeout(read_time, &mut all).await.is_ok();
        }
        tenants.all().for_each(|tenant| tenant.tell_abandoned());
        let left = end.saturating_duration_since(Instant::now()).min(read_time);
        let (_late, ()) = tokio::join!(timeout(left, stores.close()), tracer.shut_down(left));
        let (connections, requests) = (connections.len(), work.tasks.len());
        stages.close.cancel();
        if clean {
            info!("drained: every call had its answer");
            return Drained::Clean;
        }
        warn!(
            connections,
            requests,
            "drained: server.drain.timeout passed, and connections or requests were still open"
        );
        Drained::CutShort { connections, requests }
    }
}

/// Builds the tenants.
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

/// Hands the kept sessions over to other replicas, for tenants whose agents replicas share.
async fn hand_over(tenants: &Tenants) {
    let mut handing_over = JoinSet::new();
    for tenant in tenants.all().filter(|tenant| tenant.is_kept_by_replicas()) {
        let tenant = tenant.clone();
        handing_over.spawn(async move {
            let kept = tenant.kept();
            tenant.hand_over().await;
            info!(ccgw.tenant.id = %tenant.id(), kept, "sessions were handed over to other replicas");
        });
    }
    handing_over.join_all().await;
}

/// Leaves or signs out the kept sessions, as the configuration says, and logs what was done.
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
    fn new(work: &Work) -> Self {
        let (goaway, close) = (CancellationToken::new(), CancellationToken::new());
        Self { goaway, cutoff: work.cutoff.clone(), close }
    }
}
