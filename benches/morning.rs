//! A call-centre's morning: how fast agents are signed in whose callers have other deadlines.
//!
//! Each agent has a caller who calls until it is busy, and waits between two calls as long as the
//! bridge says, half a second at the most. The simulated gateway takes 20 ms for a sign-in; in some
//! runs it refuses each tenth. Where `REDIS_SERVER` names a redis-server or valkey-server, the same
//! goes through three replicas.
//!
//! `cargo bench --bench morning` takes five minutes; `MORNING_AGENTS=200` makes it short.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts of agents are small")]

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ccgateway_bridge::{
    client,
    config::{Sources, load},
    rpc::proto::SetBusyRequest,
    server::Bridge,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options, Simulator};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

type Failure = Box<dyn Error + Send + Sync>;

const FIRST_AGENT: u32 = 1001;
const PER_SECOND: u32 = 50;
const PASSWORD: &str = "morning";
const DEADLINES: [(&str, Option<Duration>); 3] = [
    ("0.3 s", Some(Duration::from_millis(300))),
    ("2 s", Some(Duration::from_secs(2))),
    ("none", None),
];

/// A Redis of this run's own.
struct Redis {
    server: Child,
    port: u16,
    _folder: TempDir,
}

/// What a morning came to.
struct Morning {
    took: Duration,
    /// The longest that an agent's caller had to wait.
    longest: Duration,
    calls: usize,
    sign_ins: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Each kept session is two open files here: its gateway is in the same process.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })?;
    let agents = env::var("MORNING_AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    println!("{agents} agents, {PER_SECOND} sign-ins a second");
    println!("replicas  deadline  refused  agents/s  of rate  longest wait  calls  sign-ins");
    let server = env::var("REDIS_SERVER").ok();
    let rows = DEADLINES.into_iter().flat_map(|row| [(row, "none"), (row, "a tenth")]);
    for replicas in if server.is_some() { &[1, 3][..] } else { &[1] } {
        for ((name, deadline), refused) in rows.clone() {
            let redis = server.as_ref().filter(|_| *replicas > 1);
            let redis = match redis {
                Some(server) => Some(Redis::start(server).await?),
                None => None,
            };
            let refuses = refused != "none";
            let Morning { took, longest, calls, sign_ins } =
                morning(agents, *replicas, deadline, refuses, redis.as_ref()).await?;
            let rate = f64::from(agents) / took.as_secs_f64();
            let share = rate / f64::from(PER_SECOND) * 100.0;
            let longest = longest.as_secs_f64();
            println!(
                "{replicas:8}  {name:>8}  {refused:>7}  {rate:8.1}  {share:5.0} %  \
                 {longest:10.1} s  {calls:5}  {sign_ins:8}"
            );
        }
    }
    Ok(())
}

async fn morning(
    agents: u32,
    replicas: usize,
    deadline: Option<Duration>,
    refused: bool,
    redis: Option<&Redis>,
) -> Result<Morning, Failure> {
    let folder = TempDir::new()?;
    let options = Options {
        default_password: Some(PASSWORD.into()),
        plaintext: true,
        journal: 1_000_000,
        ..<_>::default()
    };
    let gateway = Simulator::start(options).await?;
    if refused {
        for agent in (FIRST_AGENT..FIRST_AGENT + agents).step_by(10) {
            let fault = Fault::Retcode { retcode: "100-003".into(), message: String::new() };
            gateway.misbehave(Misbehaviour::once(fault).on(Interface::SignIn).of(agent));
        }
    }
    let mut bridges = Vec::new();
    for _ in 0..replicas {
        bridges.push(Box::pin(start(&folder, &gateway, agents, redis)).await?);
    }
    let addrs: Vec<SocketAddr> = bridges.iter().map(Bridge::grpc_addr).collect();
    let started = Instant::now();
    let callers: JoinSet<_> = (FIRST_AGENT..FIRST_AGENT + agents)
        .map(|agent| insist(addrs.clone(), agent, deadline, started))
        .collect();
    let waits: Vec<(Duration, usize)> = callers.join_all().await;
    let took = started.elapsed();
    let sign_in = |entry: &&_| is_sign_in(entry);
    let sign_ins = gateway.journal().iter().filter(sign_in).count();
    // Else they go on polling beside the next ones.
    bridges.into_iter().map(Bridge::drain).collect::<JoinSet<_>>().join_all().await;
    gateway.stop().await;
    Ok(Morning {
        took,
        longest: waits.iter().map(|(wait, _)| *wait).max().unwrap_or_default(),
        calls: waits.iter().map(|(_, calls)| calls).sum(),
        sign_ins,
    })
}

fn is_sign_in(entry: &ccgateway_sim::Entry) -> bool {
    entry.interface == Some(Interface::SignIn)
}

/// Calls until the agent is busy; gives how long that took, and how many calls.
async fn insist(
    addrs: Vec<SocketAddr>,
    agent: u32,
    deadline: Option<Duration>,
    started: Instant,
) -> (Duration, usize) {
    let mut calls = 0;
    for addr in addrs.iter().copied().cycle().skip(agent as usize % addrs.len()) {
        calls += 1;
        match call(addr, agent, deadline).await {
            Ok(()) => return (started.elapsed(), calls),
            Err(status) => {
                let details = status.get_error_details();
                let told = details.retry_info().and_then(|info| info.retry_delay);
                sleep(told.unwrap_or_default().min(Duration::from_millis(500))).await;
            }
        }
    }
    (started.elapsed(), calls)
}

async fn call(addr: SocketAddr, agent: u32, deadline: Option<Duration>) -> Result<(), Status> {
    let agent_id = agent.to_string();
    let message =
        SetBusyRequest { agent_id, reason: Some(200), prolong: Some(true), ..<_>::default() };
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    let origin = format!("http://{addr}").parse().map_err(|_| Status::internal("no origin"))?;
    CHANNEL.with(|channel| client::agent_state(channel.clone(), origin)).set_busy(request).await?;
    Ok(())
}

thread_local! {
    static CHANNEL: client::Channel = client::channel();
}

async fn start(
    folder: &TempDir,
    gateway: &Simulator,
    agents: u32,
    redis: Option<&Redis>,
) -> Result<Bridge, Failure> {
    let mut text = "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"off\"\n\
        [server]\ndrain = { delay = \"0s\", timeout = \"3s\", sessions = \"leave\" }\n"
        .to_owned();
    if let Some(redis) = redis {
        fs::write(
            folder.path().join("store.key"),
            "8f4ab6f248e63ffc9aaa69487cdc82353afbff70ec2e02c3e232607da938c9fb",
        )?;
        let port = redis.port;
        write!(
            text,
            "[store]\nurls = \"redis://127.0.0.1:{port}\"\nencryption_key_files = \"store.key\"\n"
        )?;
    }
    let mut credentials = String::new();
    for agent in FIRST_AGENT..FIRST_AGENT + agents {
        writeln!(credentials, "[agents.{agent}]\npassword = \"{PASSWORD}\"")?;
    }
    fs::write(folder.path().join("agents.toml"), credentials)?;
    write!(
        text,
        "[tenants.acme]\nbase_urls = \"{}\"\ncredentials_file = \"agents.toml\"\n\
         keep.sign_ins_per_second = {PER_SECOND}\n",
        gateway.base_url()
    )?;
    let file = folder.path().join("bridge.toml");
    fs::write(&file, text)?;
    let config = load(&Sources::default().with_file(file)).map_err(|errors| errors.to_string())?;
    Ok(Bridge::start(config).await?)
}

impl Redis {
    async fn start(program: &str) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new(program)
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()?;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { server, port, _folder: folder })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
    }
}
