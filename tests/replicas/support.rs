//! A call centre for tests: a gateway, a Redis, and replicas.

use std::{
    collections::HashSet, net::SocketAddr, num::NonZeroUsize, ops::Range, path::PathBuf,
    time::Duration,
};

use ccgateway_bridge::{
    client::Channel,
    cluster::{Leases, Membership, ReplicaId, Shared, SharedStore, preferred_replica},
    config,
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    rpc::proto::agent_state_client::AgentStateClient,
    session::SessionStore as _,
};
use ccgateway_sim::{Interface, Options, Simulator};
use ccgateway_test_support::{
    Output, Program, RedisServer, Setup, Site, asked, command, in_file, in_redis, set_busy,
    until_within,
};
use redis::{aio::MultiplexedConnection, cmd};
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};
use tonic::{Code, Status};

/// One process.
pub(crate) use ccgateway_test_support::Program as Replica;

/// Ten of the gateway's seconds pass in one of ours: a Guid lives for twelve, and so does an agent
/// whom nobody polls.
pub(crate) const SCALE: u32 = 10;

pub(crate) struct Centre {
    pub(crate) gateway: Simulator,
    pub(crate) redis: RedisServer,
    /// More lines of `[store]`.
    pub(crate) store: &'static str,
    /// How long a process may take to stop.
    pub(crate) drain: &'static str,
    /// A signal that processes do not care for.
    pub(crate) ignored: Option<&'static str>,
    site: Site,
    _place: SemaphorePermit<'static>,
}

/// Centres at one time: one of them waits most of the time. The gateway's clock runs fast, and a machine
/// that is busy with many would take an agent's time from it.
static PLACES: Semaphore = Semaphore::const_new(2);

impl Centre {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// One whose gateway is another.
    pub(crate) async fn open_with(change: impl FnOnce(&mut Options)) -> Self {
        let place = PLACES.acquire().await.expect("never closed");
        let mut options = Options {
            time_scale: SCALE,
            plaintext: true,
            journal: 1_000_000,
            ..Options::default()
        };
        change(&mut options);
        let site = Box::pin(Site::new(options)).await;
        let (gateway, redis) = (site.gateway.clone(), RedisServer::start().await);
        Self { gateway, redis, store: "", drain: "10s", ignored: None, site, _place: place }
    }

    /// Starts a replica, on any port or on that of one that has ended.
    pub(crate) async fn replica(&self, addr: Option<SocketAddr>) -> Replica {
        self.replica_with(addr, &self.redis.url()).await
    }

    /// Starts a replica that reaches Redis at this address.
    pub(crate) async fn replica_with(&self, addr: Option<SocketAddr>, redis: &str) -> Replica {
        let more = "[store.timeouts]\ncommand = \"500ms\"\n";
        let store = format!("{}lease = \"2s\"\n{}\n{more}", in_redis(redis), self.store);
        self.process(addr, store).await
    }

    /// Starts a process of its own, which has the sessions of the one before it from a file.
    pub(crate) async fn alone(&self, addr: Option<SocketAddr>) -> Replica {
        self.process(addr, in_file() + self.store).await
    }

    /// Starts a process with this store, or none.
    pub(crate) async fn process(&self, addr: Option<SocketAddr>, store: String) -> Replica {
        let setup = Setup {
            listen: addr,
            drain: format!("delay = \"200ms\"\ntimeout = \"{}\"\n", self.drain),
            store,
            keep: true,
            credentials: (1001..1602).collect(),
            // A replica that takes an agent over must be able to sign it in.
            forced: vec![1601],
            ..Setup::default()
        };
        // In a box, or it would be a part of every test's future.
        Box::pin(Program::start(&self.site, self.command(), &setup, Output::Read)).await
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_ccgateway-bridge");
        let Some(signal) = self.ignored else { return command(program) };
        let mut shell = command("/bin/sh");
        shell.args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\""), program]);
        shell
    }

    /// A file of the processes' folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Whether the gateway has all of them signed in.
    pub(crate) fn has(&self, agents: impl IntoIterator<Item = u32>) -> bool {
        let signed_in = |id| self.gateway.agent(id).is_some_and(|agent| agent.signed_in);
        agents.into_iter().all(signed_in)
    }

    /// How often the gateway was asked through this interface.
    pub(crate) fn asked(&self, interface: Interface) -> usize {
        asked(&self.gateway, interface).len()
    }

    /// The Guid of an agent's session, as a replica that comes now finds it.
    pub(crate) async fn stored(&self, id: u32) -> Option<String> {
        let (shared, tenant) = (self.shared(), TenantId::parse("acme").expect("a tenant"));
        let store = SharedStore::start(&shared, &tenant, NonZeroUsize::MIN);
        let agent = AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent");
        let session = store.load(agent).await.expect("Redis answers")?;
        Some(session.guid.header().to_str().expect("text").to_owned())
    }

    /// What a replica that comes now has of what all share.
    fn shared(&self) -> Shared {
        let store = in_redis(&self.redis.url());
        let config = self.site.config(&Setup { store, ..Setup::default() });
        Shared::new(config.store.as_ref().and_then(config::Store::redis).expect("a Redis"))
    }

    /// Waits until every one of these agents is polled once more.
    pub(crate) async fn all_are_polled(&self, agents: Range<u32>) {
        let polled = || {
            let polls = asked(&self.gateway, Interface::Poll);
            polls.into_iter().filter_map(|poll| poll.agent).collect::<HashSet<_>>()
        };
        self.gateway.clear_journal();
        eventually("a poll for every agent", || polled().is_superset(&agents.clone().collect()))
            .await;
    }

    /// Waits until every one of these agents is polled by the replica that is preferred for it, so that
    /// none is being handed over when Redis goes away: whoever was to get it and whoever had it may both
    /// poll for it then.
    pub(crate) async fn all_are_shared_out(&self, agents: Range<u32>) {
        let mut redis = self.redis.connection().await;
        let leases = self.shared().leases(&TenantId::parse("acme").expect("a tenant"));
        let looking = async {
            while !is_shared_out(&*leases, &mut redis, agents.clone()).await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), looking).await.expect("in time");
        self.all_are_polled(agents).await;
    }
}

async fn is_shared_out(
    leases: &impl Leases,
    redis: &mut MultiplexedConnection,
    agents: Range<u32>,
) -> bool {
    let keys = |pattern| cmd("KEYS").arg(pattern).to_owned();
    let Membership { replicas, .. } = leases.read_membership().await.expect("members");
    let leases: Vec<String> = keys("*:lease:*").query_async(redis).await.expect("keys");
    let mut shared_out = 0;
    for key in leases {
        let lease: Option<String> = cmd("GET").arg(&key).query_async(redis).await.expect("a lease");
        let owner = lease.and_then(|lease| ReplicaId::parse(lease.split(':').next()?));
        let agent =
            key.rsplit(':').next().and_then(|id| AgentId::parse(id, &DEFAULT_AGENT_IDS).ok());
        let Some((agent, owner)) = agent.zip(owner) else { return false };
        if preferred_replica(agent, &replicas) != Some(owner) {
            return false;
        }
        shared_out += 1;
    }
    shared_out == agents.len()
}

/// Lets a process write no file beyond so many bytes, as a disk does that is full.
pub(crate) async fn limit_files(replica: &Replica, bytes: &str) {
    let pid = replica.pid().to_string();
    let mut limit = Command::new("prlimit");
    limit.args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]);
    assert!(limit.status().await.expect("prlimit").success());
}

/// As a caller with several replicas to choose from does it: tries one, and another if that one is
/// not available or has an end; in the worst case each once.
pub(crate) async fn set_busy_somewhere(
    replicas: &[AgentStateClient<Channel>],
    agent: u32,
) -> Result<(), Status> {
    let mut last = Status::unavailable("no replica");
    for turn in 0..replicas.len() {
        let replica = &replicas[(agent as usize + turn) % replicas.len()];
        match set_busy(replica, agent).await {
            Err(status) if is_retryable(&status) => last = status,
            done => return done.map(drop),
        }
    }
    Err(last)
}

type Refused = hyper_util::client::legacy::Error;

/// `UNAVAILABLE` by the bridge's own word, or never taken: refused, or crossed by a GOAWAY.
fn is_retryable(status: &Status) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = next {
        if error.downcast_ref::<Refused>().is_some_and(Refused::is_connect)
            || error.downcast_ref::<h2::Error>().is_some_and(|e| e.is_go_away() && e.is_remote())
        {
            return true;
        }
        next = error.source();
    }
    status.code() == Code::Unavailable
}

/// Waits until it is so, for up to a minute.
pub(crate) async fn eventually(what: &str, so: impl FnMut() -> bool) {
    until_within(Duration::from_secs(60), what, so).await;
}
