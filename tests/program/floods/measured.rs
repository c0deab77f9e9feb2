//! What a caller notices while others flood the bridge, and how much memory that takes. The tables are
//! printed (`--nocapture`); times fail no test.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use ccgateway_test_support::{Clients, within};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::kinds::{Flood, floods};
use crate::{
    raw::Raw,
    rude_peers::{caller, connector},
    support::{register, start, start_with, tls, turned_away},
};

const MIB: u64 = 1024 * 1024;
/// The most memory that a flood may take.
const MEMORY: u64 = 16 * MIB;
const AGENT: u32 = 1001;
const PEERS: usize = 8;
/// For so long they flood.
const TIME: Duration = Duration::from_secs(1);
/// How long a peer that has lost its connection makes no new one. Otherwise ports would run out.
const COMES_BACK: Duration = Duration::from_millis(25);
const SLOW_HANDSHAKES: usize = 2000;

/// How long each of some calls took.
struct Latencies(Vec<Duration>);

impl Latencies {
    /// Makes calls, one after the other, until `over`. Each has to be answered with success.
    async fn of<C: AsyncFnMut()>(over: impl Fn() -> bool, mut call: C) -> Self {
        let mut latencies = Vec::new();
        while latencies.is_empty() || !over() {
            let begun = Instant::now();
            call().await;
            latencies.push(begun.elapsed());
        }
        latencies.sort_unstable();
        Self(latencies)
    }

    /// Milliseconds in which so many per cent were answered.
    fn millis(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)].as_secs_f64() * 1e3
    }
}

/// A line of the table.
fn row(what: &str, before: &Latencies, during: &Latencies, memory: u64, sent: u64) -> String {
    let [p50, p99] = [50, 99].map(|percent| (before.millis(percent), during.millis(percent)));
    format!(
        "{what:<28} {:>6} calls  p50 {:>7.2} -> {:>7.2} ms ({:>5.2}x)  p99 {:>7.2} -> {:>7.2} ms \
         ({:>5.2}x)  {} MiB more  {sent:>8} sent",
        during.0.len(),
        p50.0,
        p50.1,
        p50.1 / p50.0,
        p99.0,
        p99.1,
        p99.1 / p99.0,
        memory / MIB,
    )
}

/// Does this in a thread of its own that yields to every other. Attackers are other machines: what they
/// send has to be borne, but they do not take the cores of the bridge, its caller and the gateway.
fn aside<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) -> JoinHandle<()> {
    thread::spawn(|| {
        rustix::process::nice(19).expect("everybody may yield");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work());
    })
}

/// Floods the bridge for [`TIME`], over a new connection whenever one has ended. Reads what the bridge
/// says, or nothing of it.
async fn peer(grpc: SocketAddr, flood: Arc<Flood>, reads: bool) {
    let flooding = async {
        loop {
            let (mut read, mut write) = Raw::connect(grpc, &[]).await.0.into_split();
            let reading = async {
                let mut piece = [0; 4096];
                while reads && read.read(&mut piece).await.is_ok_and(|read| read > 0) {}
            };
            tokio::join!(flood.send(&mut write), reading);
            sleep(COMES_BACK).await;
        }
    };
    let _over: Result<(), _> = timeout(TIME, flooding).await;
}

#[tokio::test]
async fn floods_take_little_memory_and_every_call_beside_them_is_answered() {
    // The gateway shares this machine with the floods, so it may be slow.
    let patience = ["CONNECT", "REQUEST"].map(|of| format!("CCGW__TENANTS__ACME__TIMEOUTS__{of}"));
    let patience = patience.each_ref().map(|of| (of.as_str(), "1m"));
    let program = start_with("", &patience).await;
    register(&program, AGENT).await;
    let clients = Clients::of(program.grpc);
    let set_busy = async || {
        within("an answer", clients.set_busy(AGENT)).await.expect("no call suffers");
    };
    for flood in floods() {
        let begun = Instant::now();
        let before = Latencies::of(|| begun.elapsed() >= TIME / 2, set_busy).await;
        let (what, grpc, flood) = (flood.what, program.grpc, Arc::new(flood));
        let memory = program.forget_peak_memory();
        let theirs = flood.clone();
        let flooding = aside(move || async move {
            let peers = (0..PEERS).map(|number| peer(grpc, theirs.clone(), number % 2 == 0));
            peers.collect::<JoinSet<_>>().join_all().await;
        });
        let during = Latencies::of(|| flooding.is_finished(), set_busy).await;
        flooding.join().expect("no panic");
        let taken = program.peak_memory().saturating_sub(memory);
        println!("{}", row(what, &before, &during, taken, flood.sent.load(Relaxed)));
        assert!(taken < MEMORY, "{what}: {} MiB", taken / MIB);
    }
}

/// The beginning of a TLS handshake that never comes to its end.
async fn begin_handshake(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from).expect("an address of this machine");
    let mut stream = socket.connect(to).await.expect("connected");
    // The bridge may have closed it already, for a newer one.
    let _closed = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    stream
}

#[tokio::test]
async fn slow_handshakes_take_little_memory_and_callers_get_in_beside_them() {
    let files = TempDir::new().expect("a folder");
    let (own, ca) = tls(&files);
    let program = start(&own, &[]).await;
    let tls = connector(&ca);
    let connect = async || {
        let answered = within("an answer", Box::pin(caller(&program, Some(&tls)))).await;
        assert_eq!(answered, "0");
    };
    let begun = Instant::now();
    let before = Latencies::of(|| begun.elapsed() >= TIME, connect).await;
    let memory = program.forget_peak_memory();
    let grpc = program.grpc;
    // From another address, since a flood displaces the handshakes of its own.
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    let beginning = aside(move || async move {
        let mut held = Vec::new();
        for _ in 0..SLOW_HANDSHAKES {
            held.push(begin_handshake(from, grpc).await);
        }
        sleep(TIME).await;
    });
    let during = Latencies::of(|| beginning.is_finished(), connect).await;
    beginning.join().expect("no panic");
    let taken = program.peak_memory().saturating_sub(memory);
    println!("{}", row("slow handshakes", &before, &during, taken, SLOW_HANDSHAKES as u64));
    assert!(taken < MEMORY, "{} MiB", taken / MIB);
    assert!(turned_away(&program, "handshakes_full").await > 0, "none made room");
}
