//! A gateway with two addresses, of which the preferred one stops answering: what calls cost before and after
//! it is left alone, and how soon it is used again.
//!
//! The address is a black hole: it takes connections and requests, and nothing ever comes back.
//!
//! `cargo bench --bench outage` takes a minute and a half.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "the counts are small")]

use std::{
    error::Error,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::{
    client::{self, Channel},
    config::{Sources, load},
    rpc::proto::{
        RegisterSessionRequest, SetBusyRequest, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient,
    },
    server::Bridge,
};
use ccgateway_sim::{Options, Simulator};
use http::Uri;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, interval},
};
use tonic::Request;

type Failure = Box<dyn Error + Send + Sync>;

const AGENTS: std::ops::Range<u32> = 1001..1201;
/// Calls a second, over all agents.
const RATE: u32 = 400;
const DEADLINE: Duration = Duration::from_secs(10);

/// An address of the gateway, which can become a black hole.
struct Address {
    at: SocketAddr,
    is_hole: watch::Sender<bool>,
    /// Requests that it has passed on.
    taken: Arc<AtomicUsize>,
}

impl Address {
    async fn before(gateway: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let (is_hole, hole) = watch::channel(false);
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(serve(caller, gateway, hole.clone(), count.clone()));
            }
        });
        Ok(Self { at, is_hole, taken })
    }
}

/// Passes bytes on until the address becomes a black hole. Then it keeps the connection, and says nothing.
async fn serve(
    caller: TcpStream,
    gateway: SocketAddr,
    mut hole: watch::Receiver<bool>,
    taken: Arc<AtomicUsize>,
) {
    if !*hole.borrow() {
        tokio::select! {
            _ended = pass_on(caller, gateway, &taken) => {}
            _changed = hole.wait_for(|hole| *hole) => {}
        }
        return;
    }
    let _returned = hole.wait_for(|hole| !*hole).await;
    drop(caller);
}

async fn pass_on(mut caller: TcpStream, gateway: SocketAddr, taken: &AtomicUsize) -> Option<()> {
    let mut behind = TcpStream::connect(gateway).await.ok()?;
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            asked = caller.read(&mut there) => {
                let asked = there.get(..asked.ok()?).filter(|asked| !asked.is_empty())?;
                taken.fetch_add(1, Ordering::Relaxed);
                behind.write_all(asked).await.ok()?;
            }
            answered = behind.read(&mut back) => {
                let answered = back.get(..answered.ok()?).filter(|answered| !answered.is_empty())?;
                caller.write_all(answered).await.ok()?;
            }
        }
    }
}

/// Callers who make so many calls a second.
struct Calls {
    states: AgentStateClient<Channel>,
}

/// What a number of calls came to.
#[derive(Default)]
struct Seen {
    /// In milliseconds.
    times: Vec<f64>,
    failed: usize,
}

impl Seen {
    fn percentile(&mut self, part: f64) -> f64 {
        self.times.sort_by(f64::total_cmp);
        let at = ((self.times.len() as f64 - 1.0) * part).round();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is an index"
        )]
        let at = at as usize;
        self.times.get(at).copied().unwrap_or_default()
    }

    fn row(&mut self, what: &str) {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        let (calls, failed) = (self.times.len(), self.failed);
        println!("{what:<46} {calls:6} {failed:6} {p50:8.1} {p99:8.1}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options {
        plaintext: true,
        latency: Duration::from_millis(5),
        idle_sign_out: None,
        ..<_>::default()
    };
    let gateway = Simulator::start(options).await?;
    let addresses =
        [Address::before(gateway.addr()).await?, Address::before(gateway.addr()).await?];
    let (_folder, bridge) = bridge(&addresses).await?;
    let origin: Uri = format!("http://{}", bridge.grpc_addr()).parse()?;
    let channel = client::channel();
    for agent in AGENTS {
        let guid = gateway.sign_in(agent);
        let mut sessions = AgentSessionClient::with_origin(channel.clone(), origin.clone());
        let agent_id = agent.to_string();
        sessions
            .register_session(RegisterSessionRequest { agent_id, guid, ..<_>::default() })
            .await?;
    }
    let states = AgentStateClient::with_origin(channel, origin);
    let calls = Calls { states };
    println!("{:<46} {:>6} {:>6} {:>8} {:>8}", "", "calls", "failed", "p50 ms", "p99 ms");

    let [preferred, _second] = &addresses;
    calls.make(3).await;
    calls.make(10).await.row("both good");
    preferred.is_hole.send_replace(true);
    calls.make(10).await.row("the preferred one is a black hole, 0 to 10 s");
    calls.make(20).await.row("10 to 30 s");
    preferred.is_hole.send_replace(false);
    let (begun, mut returned) = (Instant::now(), None);
    let mut again = Seen::default();
    while begun.elapsed() < Duration::from_secs(60) && returned.is_none() {
        let before = preferred.taken.load(Ordering::Relaxed);
        let mut second = calls.make(1).await;
        let share = preferred.taken.load(Ordering::Relaxed) - before;
        if share * 10 >= second.times.len() * 9 {
            returned = Some(begun.elapsed());
        }
        again.times.append(&mut second.times);
        again.failed += second.failed;
    }
    again.row("it answers again, until nine of ten calls use it");
    match returned {
        Some(time) => println!("that took {:.0} s", time.as_secs_f64()),
        None => println!("it was not used again within a minute"),
    }
    let mut flapping = Seen::default();
    for turn in 0..20 {
        preferred.is_hole.send_replace(turn % 2 == 0);
        let mut second = calls.make(1).await;
        flapping.times.append(&mut second.times);
        flapping.failed += second.failed;
    }
    flapping.row("it comes and goes every second, for 20 s");
    preferred.is_hole.send_replace(false);
    calls.make(10).await.row("10 s after that");
    bridge.drain().await;
    gateway.stop().await;
    Ok(())
}

/// A bridge before these addresses.
async fn bridge(addresses: &[Address]) -> Result<(TempDir, Bridge), Failure> {
    let folder = TempDir::new()?;
    let url = |address: &Address| format!("\"http://{}/agentgateway/resource\"", address.at);
    let urls: Vec<_> = addresses.iter().map(url).collect();
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"off\"\n\
         [server]\ndrain = {{ delay = \"0s\", timeout = \"1s\", sessions = \"leave\" }}\n\
         [tenants.acme]\nbase_urls = [{}]\nregistered_ttl = \"1h\"\nkeep.enabled = false\n\
         timeouts.request = \"2s\"\n",
        urls.join(", ")
    );
    let config = folder.path().join("bridge.toml");
    fs::write(&config, text)?;
    let config =
        load(&Sources::default().with_file(config)).map_err(|errors| errors.to_string())?;
    Ok((folder, Bridge::start(config).await?))
}

impl Calls {
    /// Makes calls for this many seconds, whatever becomes of them.
    async fn make(&self, seconds: u32) -> Seen {
        let mut turns = interval(Duration::from_secs(1) / RATE);
        let mut open = JoinSet::new();
        for agent in AGENTS.cycle().take((RATE * seconds) as usize) {
            turns.tick().await;
            let mut states = self.states.clone();
            open.spawn(async move {
                let agent_id = agent.to_string();
                let (reason, prolong) = (Some(200), Some(true));
                let message = SetBusyRequest { agent_id, reason, prolong, ..<_>::default() };
                let mut request = Request::new(message);
                request.set_timeout(DEADLINE);
                let begun = Instant::now();
                let is_good = states.set_busy(request).await.is_ok();
                (is_good, begun.elapsed().as_secs_f64() * 1e3)
            });
        }
        let mut seen = Seen::default();
        for (is_good, time) in open.join_all().await {
            seen.times.push(time);
            seen.failed += usize::from(!is_good);
        }
        seen
    }
}
