//! Makes connections to Redis, for each topology.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cmd,
    io::tcp::TcpSettings,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use super::names::Names;
use crate::config::{Redis, RedisNode, RedisTimeouts, Sentinel, Topology};

/// Makes connections to the servers in the configuration.
#[derive(Debug)]
pub(super) struct Dialer {
    config: RwLock<Arc<Redis>>,
    names: Names,
    /// The index of the address that led to a connection last. It is tried first next time.
    first: AtomicUsize,
}

/// A connection for commands. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The masters that an attempt has tried in vain. Sentinels agree mostly, and each try of a server that is gone takes as long
/// as connecting may.
#[derive(Default)]
struct Tried(Mutex<Vec<(RedisNode, RedisError)>>);

/// In a cluster, following a moved slot counts as a retry. The library's default of 16 retries,
/// with seconds between, would outlast every caller.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_WAIT_MS: (u64, u64) = (5, 50);
/// How much later than the bridge the library gives up a command. Otherwise it may do so first, and send the command to the
/// same node again, of which nobody knows whether it has carried it out.
const CLUSTER_LATER: Duration = Duration::from_millis(100);

impl Dialer {
    pub(super) fn new(config: &Redis) -> Self {
        let config = RwLock::new(Arc::new(config.clone()));
        Self { config, names: Names::default(), first: AtomicUsize::new(0) }
    }

    /// Makes new connections as this configuration says.
    pub(super) fn change(&self, config: Redis) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(super) fn config(&self) -> Arc<Redis> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a connection for commands, to the server that takes writes. Returns that server; `None` in a cluster.
    pub(super) async fn connect(&self) -> RedisResult<(Connection, Option<RedisNode>)> {
        match &self.config().topology {
            Topology::Standalone => {
                let server = |node: RedisNode| async {
                    Ok((Connection::Server(self.server(node.clone()).await?), Some(node)))
                };
                self.each_node(server).await
            }
            Topology::Sentinel(sentinel) => {
                let tried = Tried::default();
                let server = |asked: RedisNode| async {
                    let (connection, master) = self.master(sentinel, asked, &tried).await?;
                    Ok((Connection::Server(connection), Some(master)))
                };
                self.each_node(server).await
            }
            Topology::Cluster => {
                let client = self.cluster()?;
                let limit = longest_attempt(&self.config());
                let connection = within(limit, client.get_async_connection()).await?;
                Ok((Connection::Cluster(connection), None))
            }
        }
    }

    /// Opens a connection for messages. In a cluster, each node delivers what is published on any
    /// node.
    pub(super) async fn listen(&self) -> RedisResult<PubSub> {
        let config = self.config();
        let node = |node: RedisNode| async {
            let host = node.host.clone();
            let client = client(&config, node, credentials(&config))?;
            let subscribing = async {
                // The library looks the name up by itself for this, on a thread for blocking work. A name server has just
                // answered then, so that thread is not kept for long.
                self.names.addresses(&host).await?;
                client.get_async_pubsub().await
            };
            self.in_time(subscribing).await
        };
        match &config.topology {
            Topology::Standalone | Topology::Cluster => self.each_node(node).await,
            Topology::Sentinel(sentinel) => {
                let tried = Tried::default();
                let server = |asked: RedisNode| async {
                    let (_, master) = self.master(sentinel, asked, &tried).await?;
                    node(master).await
                };
                self.each_node(server).await
            }
        }
    }

    async fn server(&self, node: RedisNode) -> RedisResult<MultiplexedConnection> {
        let config = self.config();
        self.multiplexed(&client(&config, node, credentials(&config))?).await
    }

    async fn multiplexed(&self, client: &Client) -> RedisResult<MultiplexedConnection> {
        // `in_time` limits all of it, so the library's own limits are switched off.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_dns_resolver(self.names.clone());
        self.in_time(client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// Connects to the master that the asked sentinel names, unless another one has named it. The sentinel is good only if
    /// that works: one that was cut off from the others goes on naming the former master.
    async fn master(
        &self,
        sentinel: &Sentinel,
        asked: RedisNode,
        tried: &Tried,
    ) -> RedisResult<(MultiplexedConnection, RedisNode)> {
        let named = self.named_master(sentinel, asked).await?;
        if let Some(error) = tried.error_of(&named) {
            return Err(error);
        }
        match self.checked_master(named.clone()).await {
            Ok(connection) => Ok((connection, named)),
            Err(error) => {
                tried.failed().push((named, error.clone()));
                Err(error)
            }
        }
    }

    async fn named_master(&self, sentinel: &Sentinel, asked: RedisNode) -> RedisResult<RedisNode> {
        let config = self.config();
        let credentials = (sentinel.username.as_deref(), sentinel.password.as_ref());
        let mut connection = self.multiplexed(&client(&config, asked, credentials)?).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&sentinel.master);
        let answer = self.in_time(question.query_async(&mut connection)).await?;
        let (host, port): (String, u16) = Option::ok_or_else(answer, || {
            io::Error::new(io::ErrorKind::NotFound, "no sentinel knows this master")
        })?;
        Ok(RedisNode { host, port })
    }

    /// Connects to the server, and checks that it is a master: a sentinel may name one that has lost that role.
    async fn checked_master(&self, named: RedisNode) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.server(named).await?;
        let role: Vec<Value> = self.in_time(cmd("ROLE").query_async(&mut connection)).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(io::Error::other("the server that the sentinels name is no master").into()),
        }
    }

    /// The result of the first address that works.
    async fn each_node<T, F>(&self, attempt: impl Fn(RedisNode) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let config = self.config();
        let count = config.nodes.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut failure = RedisError::from(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for at in (first..first + count).map(|at| at % count) {
            let Some(node) = config.nodes.get(at) else { continue };
            match attempt(node.clone()).await {
                Ok(done) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The result of this work, or an error if it takes longer than connecting may.
    fn in_time<T>(
        &self,
        work: impl Future<Output = RedisResult<T>>,
    ) -> impl Future<Output = RedisResult<T>> {
        // No future of its own around that: those of the library take kilobytes.
        within(self.config().timeouts.connect, work)
    }

    fn cluster(&self) -> RedisResult<ClusterClient> {
        let config = self.config();
        let nodes: RedisResult<Vec<_>> =
            config.nodes.iter().map(|node| info(&config, node.clone())).collect();
        let timeouts = &config.timeouts;
        let (wait_min, wait_max) = CLUSTER_WAIT_MS;
        let mut builder = ClusterClient::builder(nodes?)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(wait_min)
            .max_retry_wait(wait_max)
            .connection_timeout(timeouts.connect)
            .response_timeout(timeouts.command + CLUSTER_LATER)
            .tcp_settings(tcp(&config))
            .async_dns_resolver(self.names.clone());
        if let Some(username) = &config.username {
            builder = builder.username(username);
        }
        if let Some(password) = &config.password {
            builder = builder.password(password.expose_secret());
        }
        if let Some(tls) = &config.tls {
            builder = builder.certs(certificates(tls.ca_pem.clone()));
        }
        builder.build()
    }
}

impl Tried {
    fn error_of(&self, named: &RedisNode) -> Option<RedisError> {
        let failed = self.failed();
        let (_, error) = failed.iter().find(|(master, _)| master == named)?;
        Some(error.clone())
    }

    fn failed(&self) -> MutexGuard<'_, Vec<(RedisNode, RedisError)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an attempt to ask Redis may take: to open a connection, or to get an answer.
pub(super) fn longest_attempt(config: &Redis) -> Duration {
    let RedisTimeouts { connect, command, .. } = config.timeouts;
    match config.topology {
        // The library connects to all addresses of the configuration at once, asks one of them which nodes there are, and
        // connects to all of those at once. One that does not answer may be among both, and keeps the others waiting.
        Topology::Cluster => (connect + command) * 2,
        Topology::Standalone | Topology::Sentinel(_) => connect.max(command),
    }
}

/// The result of this work, or an error if it takes longer than that.
async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(limit, work).await.unwrap_or_else(|_elapsed| {
        let limit = humantime::format_duration(limit);
        let message = format!("no connection within {limit}");
        Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
    })
}

fn credentials(config: &Redis) -> (Option<&str>, Option<&SecretString>) {
    (config.username.as_deref(), config.password.as_ref())
}

fn client(
    config: &Redis,
    node: RedisNode,
    (username, password): (Option<&str>, Option<&SecretString>),
) -> RedisResult<Client> {
    let mut redis = RedisConnectionInfo::default();
    if let Some(username) = username {
        redis = redis.set_username(username);
    }
    if let Some(password) = password {
        redis = redis.set_password(password.expose_secret());
    }
    let info = info(config, node)?.set_redis_settings(redis);
    match &config.tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls.ca_pem.clone())),
        None => Client::open(info),
    }
}

fn info(config: &Redis, RedisNode { host, port }: RedisNode) -> RedisResult<ConnectionInfo> {
    let addr = if config.tls.is_some() {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    Ok(addr.into_connection_info()?.set_tcp_settings(tcp(config)))
}

fn tcp(config: &Redis) -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    // Ends the connection if a peer that is gone does not acknowledge data.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(config.timeouts.heartbeat);
    settings
}

fn certificates(root_cert: Option<Vec<u8>>) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
