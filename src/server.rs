//! The running bridge: listeners, health and readiness.
//!
//! [`Bridge::start`] is the only entry point, for `main` and for tests.

mod accept_errors;
mod admin;
mod callers;
mod certificates;
mod connection;
mod connection_limits;
mod connection_slots;
mod drain;
mod flood;
mod frame_budget;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod history;
mod linger;
mod listener;
mod listener_context;
mod message_frame;
mod metrics;
mod misbehaved;
mod ports;
mod preface;
mod readiness;
mod reflection;
mod reload;
mod reloads;
mod request_counts;
mod request_reader;
mod request_stream;
mod send_buffers;
mod service;
mod serving;
mod socket;
mod status;
mod stores;
mod streams;
mod tls;
mod token_bucket;
mod turned_away;
mod wire;

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    callers::Policies,
    certificates::Certificates,
    health::Health,
    listener::accept,
    listener_context::{ListenerContext, SharedContext},
    metrics::{Exposition, ServerShares},
    ports::{Port, Ports},
    readiness::Readiness,
    reload::{InForce, Reloadable, ReloadableListener, Retiring},
    service::Services,
    status::StatusSource,
    stores::Opened,
};
pub use self::{
    drain::Drained,
    reload::{ReloadControl, ReloadError, ReloadRequest, Reloaded},
    reloads::{ReloadView, Reloads},
    stores::{SharesNothing, ask_store, check_store},
};
use crate::{
    access::ListenerPolicy,
    call::Cutoff,
    config::{self, Config, Drain, ListenerName, section_of},
    gateway::BuildError,
    id::TenantId,
    rpc::{self, Observed},
    session::{FileError, Stores},
    telemetry::{
        audit::{Audit, AuditError},
        log::LogControl,
        trace::TracerError,
    },
    tenant::{Common, DetachedWork, Hosts, Replicas, ServerCalls, Tenant, Tenants},
    tls::SystemRoots,
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
    /// What further tenants are made with, and what a drain closes.
    common: CommonParts,
    connections: TaskTracker,
    /// Tasks of connections that have ended and whose peers may still be reading.
    lingering_tasks: TaskTracker,
    work: DetachedWork,
    drain: Drain,
    reloadable: Reloadable,
    retiring: Retiring,
    reloads: Arc<Reloads>,
    certificates: Certificates,
}

/// What can be changed through the admin port.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// The log; `None`: this process does not log.
    pub log: Option<LogControl>,
    /// The configuration; `None`: nobody reads it again.
    pub reload: Option<ReloadControl>,
}

/// What all tenants share.
#[derive(Clone, Debug)]
struct CommonParts {
    calls: Arc<ServerCalls>,
    hosts: Arc<Hosts>,
    stores: Stores,
    replicas: Option<Arc<dyn Replicas>>,
    observed: Arc<Observed>,
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
    /// The certificates of a listener are unusable.
    #[error("listeners.{0}.tls: {1}")]
    Tls(ListenerName, String),
    /// The keys of an issuer of tokens cannot be fetched in the configured way.
    #[error("issuers.{0}: {1}")]
    Issuer(String, String),
    /// The configuration wants sessions shared with other replicas, and this build cannot do that.
    #[error(transparent)]
    SharesNothing(#[from] SharesNothing),
    /// The file for sessions cannot be used.
    #[error("store.file: {0}")]
    SessionFile(#[from] FileError),
    /// There is no audit log, which the configuration wants.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The exporter of traces cannot be built.
    #[error(transparent)]
    Traces(#[from] TracerError),
    /// A tenant's gateway client cannot be built.
    #[error("{section}: {1}", section = section_of(.0))]
    Tenant(TenantId, BuildError),
    /// The tenant was removed from the configuration, and comes back before it has ended.
    #[error(
        "{section}: was removed a moment ago and is still ending, which takes server.drain.timeout at most; \
         it can come back then",
        section = section_of(.0)
    )]
    StillEnding(TenantId),
    /// What is stored could not be read any more, by this replica or by others.
    #[error(
        "store.encryption_key_files: does not have the key any more that what is stored is sealed with; \
         keep it behind the new one until everything is sealed with that"
    )]
    KeyGone,
    /// A tenant would have no place for calls.
    #[error(
        "server.limits.calls: the {places} places that this bridge was started with are fewer than the \
         {tenants} tenants, which need one each; restart it, since only that changes how many there are"
    )]
    TooFewPlaces {
        /// How many places there are.
        places: usize,
        /// How many tenants there would be.
        tenants: usize,
    },
}

/// The signals that stop the bridge's parts. They are given in this order.
#[derive(Clone, Debug)]
struct Stages {
    /// Accept no new connection. Open connections get GOAWAY and finish their calls.
    goaway: CancellationToken,
    /// [`DetachedWork::cutoff`]: stop waiting for peers that may still be reading.
    cutoff: Cutoff,
    /// Close everything that is still open.
    close: CancellationToken,
}

impl Bridge {
    /// Opens the ports and starts to answer calls.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing stays open then. If a port is taken, nothing else was started.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Box::pin(Self::start_with(config, Controls::default())).await
    }

    /// As [`Bridge::start`], with what can be changed through the admin port.
    ///
    /// # Errors
    ///
    /// As [`Bridge::start`].
    pub async fn start_with(config: Config, controls: Controls) -> Result<Self, StartError> {
        // The library takes tens of milliseconds for its first random bytes. The first caller must not
        // wait for that. If there are none now, the first handshake says so.
        let _drawn = aws_lc_rs::rand::fill(&mut [0; 32]);
        // Bind the ports before anything else. A port may be taken by a bridge that is already
        // running, and this one must not begin to poll that bridge's agents before it finds out.
        let ports = Ports::open(&config)?;
        let opened = stores::open(&config).await?;
        let work = DetachedWork::default();
        let stages = Stages::new(&work);
        let tasks = (work.clone(), stages.clone());
        let started = Self::start_on(ports, opened.clone(), config, controls, tasks);
        if started.is_err() {
            work.end();
            stages.goaway.cancel();
            stages.close.cancel();
            work.tasks.wait().await;
            opened.stores.close().await;
        }
        started
    }

    fn start_on(
        ports: Ports,
        Opened { stores, replicas }: Opened,
        config: Config,
        controls: Controls,
        (work, stages): (DetachedWork, Stages),
    ) -> Result<Self, StartError> {
        let (warnings, of_settings) = (config.warnings(), config.warnings_of_settings());
        let certificates = Certificates::of(&config);
        let division = config.division();
        let Config { server, host_limit, tenants, traces, retcodes, admin, .. } = config;
        let rules = config.callers.rules(tenants.keys().cloned().collect());
        let policies = Policies::new(rules, config.issuers, server.reflection, None)?;
        let of = |(name, listener): (&ListenerName, &config::Listener)| {
            Ok((name.clone(), (listener.address, policies.of(name, listener)?)))
        };
        let mut listener_policies =
            config.listeners.iter().map(of).collect::<Result<BTreeMap<_, _>, StartError>>()?;
        let mut in_force = InForce::at_the_start(config.fingerprint, policies, of_settings);
        let reloads = Arc::<Reloads>::default();

        // Steps that can fail come before steps that start tasks.
        let audit = config.audit.file.as_deref().map(Audit::to).transpose()?;
        let observed = Arc::new(Observed::new(traces.as_ref(), audit)?);
        let shares = ServerShares::new(&server, division);
        let common = CommonParts {
            calls: shares.calls.clone(),
            hosts: Arc::new(Hosts::new(host_limit)),
            stores: stores.clone(),
            replicas,
            observed: observed.clone(),
        };
        let tenants = start_tenants(tenants, &common.common(), &work)?;
        let (health, health_service) = Health::serving(tenants.clone());
        let (dispatch, unhandled) =
            rpc::services(tenants.clone(), retcodes, &server, health_service, observed);
        let default_deadline = unhandled.default_deadline();
        tenants.all().iter().for_each(Tenant::share_polls);
        let ServerShares { connection_limits, request_reader, streams, .. } = &shares;
        let (connection_limits, request_reader, streams) =
            (connection_limits.clone(), request_reader.clone(), streams.clone());
        let readiness = Arc::new(Readiness::new(
            tenants.clone(),
            &warnings,
            stores,
            connection_limits.clone(),
            reloads.clone(),
        ));

        let admin_addr = ports.admin.as_ref().map(|(_, addr)| *addr);
        let (listeners, listening) = (ports.addresses(), ports.status());
        if let Some((listener, _)) = ports.admin {
            let exposition = Exposition {
                common: common.clone(),
                tenants: tenants.clone(),
                shares,
                certificates: certificates.clone(),
                reloads: reloads.clone(),
                controls,
            };
            let source = StatusSource::new(readiness.clone(), exposition, listening);
            tokio::spawn(admin::serve(listener, admin, Arc::new(source), stages.close.clone()));
        }

        tenants.all().iter().for_each(Tenant::resume);
        let connections = TaskTracker::new();
        let (buffers, close) = (connection_limits.send_buffers.clone(), stages.close.clone());
        let lingering_tasks = connection_limits.lingering_tasks.clone();
        tokio::spawn(async move { close.run_until_cancelled(buffers.watch()).await });
        let services = Services { dispatch, request_reader, streams, unhandled };
        let limits = server.connections.clone();
        let context = SharedContext { services, limits, connection_limits, stages: stages.clone() };
        in_force.policies.put_in_force(&[]);
        let mut reloadable = Reloadable::new(in_force, default_deadline);
        for port in ports.listeners {
            let Some(serves) = listener_policies.remove(&port.name) else { continue };
            let name = port.name.clone();
            reloadable.listeners.insert(name, listen(port, serves, &context, &connections));
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
            common,
            connections,
            lingering_tasks,
            work,
            drain,
            reloadable,
            retiring: Retiring::default(),
            reloads,
            certificates,
        })
    }

    /// Opens the file of the audit log anew, so that it can be renamed before.
    pub fn reopen_audit(&self) {
        if let Some(audit) = &self.common.observed.audit {
            audit.reopen();
        }
    }

    /// The deadline of calls whose callers set none, as it is now.
    pub fn default_deadline(&self) -> Duration {
        self.reloadable.default_deadline.get()
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
}

/// Serves the callers of one listener, given its address in the configuration and its policy.
fn listen(
    port: Port,
    (address, policy): (SocketAddr, ListenerPolicy),
    context: &SharedContext,
    connections: &TaskTracker,
) -> ReloadableListener {
    let Port { socket, tls, http2, .. } = port;
    let context = Arc::new(ListenerContext::new(&http2, tls, policy, context.clone()));
    connections.spawn(accept(socket, context.clone(), connections.clone()));
    ReloadableListener { context, address }
}

/// Builds the tenants.
fn start_tenants(
    configured: BTreeMap<TenantId, config::Tenant>,
    common: &Common<'_>,
    work: &DetachedWork,
) -> Result<Tenants, StartError> {
    let tenants = configured.into_iter().map(|(id, config)| {
        Tenant::new(id.clone(), config, common, work.of_tenant())
            .map_err(|error| StartError::Tenant(id, error))
    });
    Ok(Tenants::new(tenants.collect::<Result<Vec<_>, _>>()?))
}

impl CommonParts {
    fn common(&self) -> Common<'_> {
        Common {
            calls: &self.calls,
            hosts: &self.hosts,
            stores: &self.stores,
            replicas: self.replicas.as_deref(),
            metrics: &self.observed.metrics,
            system_roots: SystemRoots::default(),
        }
    }
}

impl Stages {
    fn new(work: &DetachedWork) -> Self {
        let (goaway, close) = (CancellationToken::new(), CancellationToken::new());
        Self { goaway, cutoff: work.cutoff.clone(), close }
    }
}
