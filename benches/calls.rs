//! What the bridge costs: `SetBusy` through it, and the same requests sent to the gateway directly.
//!
//! Gateway, bridge and callers have a thread each, and every hop is the real one: gRPC over HTTP/2
//! into the bridge, HTTP/1.1 over TLS out of it. The gateway answers every request at once with the
//! same success, and each caller makes its next call when the one before is answered. Both ways
//! take turns, so that what else the machine does falls on both alike. Compare ratios of one machine.
//!
//! `cargo bench --bench calls` takes 17 seconds.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts of calls are small")]

use std::{env, error::Error, fs, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use ccgateway_bridge::{
    client,
    config::{Config, Sources, load},
    rpc::proto::{RegisterSessionRequest, SetBusyRequest},
    server::Bridge,
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::Barrier,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

type Failure = Box<dyn Error + Send + Sync>;

/// Makes a call for one agent; each caller has an agent of its own, for an agent's calls queue.
type Caller = Box<dyn Fn() -> Answer + Send>;
type Answer = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// What the runs of one kind came to.
#[derive(Default)]
struct Tally {
    /// One for each run.
    calls_per_second: Vec<f64>,
    latencies: Vec<Duration>,
}

const CALLERS: [usize; 2] = [1, 32];
const FIRST_AGENT: usize = 1001;
/// Calls of each caller that open connections and warm caches before the clock starts.
const UNCOUNTED: usize = 20;
const ANSWER: &[u8] = br#"{"result":{},"message":"success","retcode":"0"}"#;
const HOST: &str = "localhost";
const GUID: &str = "00000000.AgentGateway1";

fn main() -> Result<(), Failure> {
    // Without this flag it was `cargo test`, which only asks whether everything still works.
    let asked = env::args().any(|flag| flag == "--bench");
    let (rounds, millis) = if asked { (4, 1000) } else { (1, 50) };
    let (upstream, bridges, callers) = (thread()?, thread()?, thread()?);
    let key = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let certificate = key.cert.der();
    let gateway = upstream.block_on(gateway(certificate.clone(), key.signing_key.into()))?;
    let bridge = bridges.block_on(Bridge::start(config(gateway, certificate)?))?;
    let origin: Uri = format!("http://{}", bridge.grpc_addr()).parse()?;

    println!("callers              calls/s     p50 µs     p99 µs    bridge's CPU µs/call");
    for load in CALLERS {
        let (mut direct, mut through, mut cpu) = (Tally::default(), Tally::default(), Vec::new());
        for _ in 0..rounds {
            callers.block_on(direct.run(to_gateway(gateway, certificate, load)?, millis))?;
            let connected = callers.block_on(through_bridge(&origin, load))?;
            let (busy, counted) = (busy_micros(&bridges)?, through.latencies.len());
            callers.block_on(through.run(connected, millis))?;
            let calls = through.latencies.len() - counted + load * UNCOUNTED;
            cpu.push((busy_micros(&bridges)? - busy) / calls as f64);
        }
        let ([rate, p50, p99], cpu) = (through.figures(), median(&mut cpu));
        let [direct_rate, direct_p50, direct_p99] = direct.figures();
        println!("{load:>7}  direct {direct_rate:>11.0} {direct_p50:>10.0} {direct_p99:>10.0}");
        println!("{load:>7}  bridge {rate:>11.0} {p50:>10.0} {p99:>10.0} {cpu:>23.1}");
        let (rate, p50, p99) = (rate / direct_rate, p50 / direct_p50, p99 / direct_p99);
        println!("{load:>7}  ratio  {rate:>11.2} {p50:>10.2} {p99:>10.2}");
    }
    Ok(())
}

/// A runtime of one thread, which works also while nobody blocks on it.
fn thread() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Starts the gateway. It reads neither path nor headers.
async fn gateway(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<SocketAddr, Failure> {
    let tls =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let _unsupported = stream.set_nodelay(true);
            let accepting = acceptor.accept(stream);
            tokio::spawn(async move {
                let stream = TokioIo::new(accepting.await?);
                http1::Builder::new().serve_connection(stream, service_fn(success)).await?;
                Ok::<_, Failure>(())
            });
        }
    });
    Ok(addr)
}

async fn success(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    let answer = Response::builder().header("content-type", "application/json");
    Ok(answer.body(Full::new(Bytes::from_static(ANSWER)))?)
}

fn config(gateway: SocketAddr, certificate: &[u8]) -> Result<Config, Failure> {
    let pin = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let pin: Vec<_> = pin.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let settings = [
        ("CCGW__LISTENERS__DEFAULT__ADDRESS", "127.0.0.1:0".to_owned()),
        ("CCGW__ADMIN__ADDRESS", "off".to_owned()),
        // All callers share a connection, and make no pause.
        ("CCGW__SERVER__CONNECTIONS__REQUESTS_PER_SECOND", "1000000".to_owned()),
        ("CCGW__TENANTS__BENCH__BASE_URLS", format!("https://{HOST}:{}", gateway.port())),
        ("CCGW__TENANTS__BENCH__TLS__PINNED_SHA256", pin.join(":")),
    ];
    Ok(load(&Sources::from_environment(settings))?)
}

/// Callers that share one connection, as those of one service do, and whose agents have sessions.
async fn through_bridge(origin: &Uri, load: usize) -> Result<Vec<Caller>, Failure> {
    let channel = client::channel();
    let mut sessions = client::agent_session(channel.clone(), origin.clone());
    let mut callers = Vec::new();
    for agent in FIRST_AGENT..FIRST_AGENT + load {
        let (agent_id, guid) = (agent.to_string(), GUID.to_owned());
        let session = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
        sessions.register_session(session).await?;

        let states = client::agent_state(channel.clone(), origin.clone());
        callers.push(Box::new(move || {
            let mut states = states.clone();
            let (agent_id, reason) = (agent.to_string(), Some(200));
            let request = SetBusyRequest { agent_id, reason, ..<_>::default() };
            Box::pin(async move { Ok(states.set_busy(request).await.map(drop)?) }) as Answer
        }) as Caller);
    }
    Ok(callers)
}

/// Callers that send what the bridge would, over a connection for each.
fn to_gateway(
    gateway: SocketAddr,
    certificate: &CertificateDer<'static>,
    load: usize,
) -> Result<Vec<Caller>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(https.build());
    let caller = |agent: usize| {
        let client = client.clone();
        let base = format!("https://{HOST}:{}/agentgateway/resource", gateway.port());
        let target: Uri = format!("{base}/onlineagent/{agent}/saybusy?reason=200").parse()?;
        Ok(Box::new(move || {
            let request = Request::post(target.clone())
                .header("guid", GUID)
                .header("content-type", "application/json; charset=UTF-8")
                .body(Empty::new());
            let client = client.clone();
            Box::pin(async move {
                let answer = client.request(request?).await?.into_body().collect().await?;
                (answer.to_bytes() == ANSWER).then_some(()).ok_or("another answer".into())
            }) as Answer
        }) as Caller)
    };
    (FIRST_AGENT..FIRST_AGENT + load).map(caller).collect()
}

/// Microseconds for which the thread of `runtime` has been busy; 0 where the system does not say.
fn busy_micros(runtime: &Runtime) -> Result<f64, Failure> {
    let read = runtime.spawn(async { fs::read_to_string("/proc/thread-self/schedstat") });
    let text = runtime.block_on(read)?.unwrap_or_default();
    Ok(text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default() / 1e3)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

// === impl Tally ===

impl Tally {
    /// Lets all callers call for as many `millis`, beginning together.
    async fn run(&mut self, callers: Vec<Caller>, millis: u32) -> Result<(), Failure> {
        let time = Duration::from_millis(millis.into());
        let (together, mut running) = (Arc::new(Barrier::new(callers.len())), JoinSet::new());
        for call in callers {
            let together = together.clone();
            running.spawn(async move {
                let mut latencies = Vec::new();
                for _ in 0..UNCOUNTED {
                    call().await?;
                }
                together.wait().await;
                let (end, mut before) = (Instant::now() + time, Instant::now());
                while before < end {
                    call().await?;
                    let after = Instant::now();
                    latencies.push(after - before);
                    before = after;
                }
                Ok::<_, Failure>(latencies)
            });
        }
        let counted = self.latencies.len();
        while let Some(latencies) = running.join_next().await {
            self.latencies.extend(latencies??);
        }
        self.calls_per_second.push((self.latencies.len() - counted) as f64 / time.as_secs_f64());
        Ok(())
    }

    /// Calls per second, and the microseconds in which half of them and 99 % were answered.
    fn figures(&mut self) -> [f64; 3] {
        self.latencies.sort_unstable();
        let micros = |percent: usize| {
            let at = self.latencies.get(self.latencies.len() * percent / 100);
            at.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        let (p50, p99) = (micros(50), micros(99));
        [median(&mut self.calls_per_second), p50, p99]
    }
}
