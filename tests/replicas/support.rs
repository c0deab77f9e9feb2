//! A call-centre: a gateway, a Redis, and the replicas between it and the callers.

use std::{
    fmt::Write as _, net::SocketAddr, num::NonZeroUsize, process::Stdio, sync::Arc, time::Duration,
};

use ccgateway_bridge::{
    client::{self, Channel},
    cluster::{Shared, SharedStore},
    config::{self, Sources},
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    rpc::proto::{
        SetBusyRequest, SignInRequest, SignOutRequest, agent_events_client::AgentEventsClient,
        agent_session_client::AgentSessionClient, agent_state_client::AgentStateClient,
    },
    session::SessionStore as _,
};
use ccgateway_sim::{Interface, Options, Simulator};
use http::Uri;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use crate::redis::RedisServer;

const PASSWORD: &str = "canary-password";
const PATIENCE: Duration = Duration::from_secs(60);
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
    files: TempDir,
    _place: SemaphorePermit<'static>,
}

/// One centre at a time: the gateway's clock runs fast, and a machine that is busy with another one
/// would take an agent's time from it.
static PLACES: Semaphore = Semaphore::const_new(1);

/// One process.
pub(crate) struct Replica {
    child: Child,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    log: Arc<std::sync::Mutex<Vec<serde_json::Value>>>,
    pub(crate) states: AgentStateClient<Channel>,
    pub(crate) sessions: AgentSessionClient<Channel>,
    pub(crate) events: AgentEventsClient<Channel>,
}

impl Centre {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// One whose gateway is another.
    pub(crate) async fn open_with(change: impl FnOnce(&mut Options)) -> Self {
        let place = PLACES.acquire().await.expect("never closed");
        let mut options = Options {
            default_password: Some(PASSWORD.into()),
            time_scale: SCALE,
            plaintext: true,
            journal: 1_000_000,
            ..Options::default()
        };
        change(&mut options);
        let gateway = Simulator::start(options).await.expect("the gateway starts");
        let redis = RedisServer::start().await;
        let files = TempDir::new().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text);
        write("store.key", &"5a".repeat(32)).expect("written");
        // Whoever takes an agent over has to be able to sign it in.
        let agents = (1001..1602).fold(String::new(), |mut text, id| {
            let force = id > 1600;
            let _written =
                writeln!(text, "[agents.{id}]\npassword = \"{PASSWORD}\"\nforce = {force}");
            text
        });
        write("agents.toml", &agents).expect("written");
        Self { gateway, redis, store: "", drain: "10s", ignored: None, files, _place: place }
    }

    /// Starts a replica, on any port or on that of one that has ended.
    pub(crate) async fn replica(&self, addr: Option<SocketAddr>) -> Replica {
        self.replica_with(addr, &self.redis.url()).await
    }

    /// Starts a replica that reaches Redis at this address.
    pub(crate) async fn replica_with(&self, addr: Option<SocketAddr>, redis: &str) -> Replica {
        let store = format!(
            "[store]\nurls = \"{redis}\"\nencryption_key_files = \"store.key\"\nlease = \"2s\"\n{}\n\
             [store.timeouts]\ncommand = \"500ms\"\n",
            self.store
        );
        self.process(addr, &store).await
    }

    /// Starts a process of its own, which has the sessions of the one before it from a file.
    pub(crate) async fn alone(&self, addr: Option<SocketAddr>) -> Replica {
        let store = format!(
            "[store]\nfile = \"sessions.redb\"\nencryption_key_files = \"store.key\"\n{}\n",
            self.store
        );
        self.process(addr, &store).await
    }

    /// Starts a process with these sections in its configuration.
    pub(crate) async fn process(&self, addr: Option<SocketAddr>, sections: &str) -> Replica {
        let listen = addr.map_or("127.0.0.1:0".to_owned(), |addr| addr.to_string());
        let text = format!(
            "listeners.default.address = \"{listen}\"\nadmin.address = \"127.0.0.1:0\"\n\
             [server.drain]\ndelay = \"200ms\"\ntimeout = \"{}\"\n{sections}\
             [tenants.acme]\nbase_urls = \"{}\"\ncredentials_file = \"agents.toml\"\n",
            self.drain,
            self.gateway.base_url(),
        );
        let file = self.files.path().join(format!("{:016x}.toml", rand::random::<u64>()));
        std::fs::write(&file, text).expect("written");
        let mut child = self
            .command()
            .env_clear()
            .arg("--config")
            .arg(file)
            .args(["--log-format", "json"])
            .kill_on_drop(true)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let serving = async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("it goes on");
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                if line["message"] == "serving" {
                    return ["grpc.addr", "admin.addr"].map(|name| addr_of(&line[name]));
                }
            }
        };
        let [addr, admin] = timeout(PATIENCE, serving).await.expect("it serves");
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).expect("JSON");
                told.lock().expect("no test fails with it").push(line);
            }
        });
        let (channel, origin) = (client::channel(), origin(addr));
        Replica {
            child,
            addr,
            admin,
            log,
            states: client::agent_state(channel.clone(), origin.clone()),
            sessions: client::agent_session(channel.clone(), origin.clone()),
            events: client::agent_events(channel, origin),
        }
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_ccgateway-bridge");
        let Some(signal) = self.ignored else { return Command::new(program) };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\""), program]);
        shell
    }

    /// A file of the processes' folder.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    /// Whether the gateway has all of them signed in.
    pub(crate) fn has(&self, agents: impl IntoIterator<Item = u32>) -> bool {
        let signed_in = |id| self.gateway.agent(id).is_some_and(|agent| agent.signed_in);
        agents.into_iter().all(signed_in)
    }

    /// How often the gateway was asked through this interface.
    pub(crate) fn asked(&self, interface: Interface) -> usize {
        let journal = self.gateway.journal();
        journal.iter().filter(|entry| entry.interface == Some(interface)).count()
    }

    /// The tenant's sessions, as a replica that comes now finds them.
    pub(crate) async fn stored(&self, id: u32) -> Option<String> {
        let url = self.redis.url();
        let config = format!(
            "[store]\nurls = \"{url}\"\nencryption_key_files = \"store.key\"\n\
             [tenants.acme]\nbase_urls = \"{}\"\n",
            self.gateway.base_url()
        );
        let file = self.files.path().join("look.toml");
        std::fs::write(&file, config).expect("written");
        let config = config::load(&Sources::default().with_file(file));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let store = config.store.as_ref().and_then(config::Store::redis).expect("a Redis");
        let shared = Shared::new(store).expect("keys");
        let tenant = TenantId::parse("acme").expect("a tenant");
        let store = SharedStore::start(&shared, &tenant, NonZeroUsize::MIN);
        let agent = AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).expect("an agent");
        let session = store.load(agent).await.expect("Redis answers")?;
        Some(session.guid.header().to_str().expect("text").to_owned())
    }

    /// Waits until every one of these agents is polled once more.
    pub(crate) async fn all_are_polled(&self, agents: std::ops::Range<u32>) {
        let polled = || {
            let journal = self.gateway.journal();
            let polls = journal.iter().filter(|entry| entry.interface == Some(Interface::Poll));
            polls.filter_map(|poll| poll.agent).collect::<std::collections::HashSet<_>>()
        };
        self.gateway.clear_journal();
        eventually("a poll for every agent", || polled().is_superset(&agents.clone().collect()))
            .await;
    }
}

impl Replica {
    pub(crate) async fn sign_in(&self, agent: u32) -> Result<(), Status> {
        let password = Some(PASSWORD.into());
        let request = SignInRequest { agent_id: agent.to_string(), password, ..<_>::default() };
        self.sessions.clone().sign_in(request).await.map(drop)
    }

    pub(crate) async fn sign_out(&self, agent: u32) -> Result<(), Status> {
        let request = SignOutRequest { agent_id: agent.to_string(), ..<_>::default() };
        self.sessions.clone().sign_out(request).await.map(drop)
    }

    /// Lets it write no file beyond so many bytes, as a disk does that is full.
    pub(crate) async fn limit_files(&self, bytes: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let mut limit = Command::new("prlimit");
        limit.args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]);
        assert!(limit.status().await.expect("prlimit").success());
    }

    pub(crate) async fn set_busy(&self, agent: u32) -> Result<(), Status> {
        set_busy(&self.states, agent).await
    }

    /// How often its log has this message, or one that begins so.
    pub(crate) fn said(&self, message: &str) -> usize {
        let log = self.log.lock().expect("no test fails with it");
        let messages = log.iter().filter_map(|line| line["message"].as_str());
        messages.filter(|said| said.starts_with(message)).count()
    }

    /// How many lines of its log are so.
    pub(crate) fn lines(&self, is_so: impl Fn(&serde_json::Value) -> bool) -> usize {
        let log = self.log.lock().expect("no test fails with it");
        log.iter().filter(|line| is_so(line)).count()
    }

    /// What its admin port answers.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    /// The sum of the numbers of a metric, whatever its labels are.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin("/metrics").await;
        let values = metrics.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Ends it as a machine that loses its power does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it was running");
    }

    /// Stops in the middle of whatever it does, as a machine does that is swapping.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await.expect("kill");
        assert!(sent.success());
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.signal("-TERM").await;
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it ends");
        assert_eq!(ended.expect("waited for").code(), Some(0));
        self.addr
    }
}

fn addr_of(value: &serde_json::Value) -> SocketAddr {
    value.as_str().and_then(|addr| addr.parse().ok()).expect("an address")
}

pub(crate) fn origin(addr: SocketAddr) -> Uri {
    format!("http://{addr}").parse().expect("an origin")
}

pub(crate) async fn set_busy(states: &AgentStateClient<Channel>, agent: u32) -> Result<(), Status> {
    let request = SetBusyRequest {
        agent_id: agent.to_string(),
        reason: Some(200),
        prolong: Some(true),
        ..<_>::default()
    };
    states.clone().set_busy(request).await.map(drop)
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
            done => return done,
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

pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "waited in vain for {what}");
}
