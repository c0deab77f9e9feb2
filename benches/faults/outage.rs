//! A gateway with two addresses, of which the preferred one stops answering: what calls cost before and after
//! it is left alone, and how soon it is used again.
//!
//! The address is a black hole: it takes connections and requests, and nothing ever comes back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ccgateway_sim::{Options, Simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::site::{Caller, Ended, Failure, bridge, failed, lasting, percentiles, plain};

/// Calls a second, over all agents.
const RATE: f64 = 400.0;
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

fn row(what: &str, ended: &[Ended]) {
    let [p50, p99] = percentiles(ended);
    println!("{what:<46} {:6} {:6} {p50:8.1} {p99:8.1}", ended.len(), failed(ended));
}

pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options { latency: Duration::from_millis(5), ..plain() };
    let gateway = Simulator::start(options).await?;
    let addresses =
        [Address::before(gateway.addr()).await?, Address::before(gateway.addr()).await?];
    let url = |address: &Address| format!("http://{}/agentgateway/resource", address.at);
    let urls = addresses.each_ref().map(url).join(",");
    let settings = [
        ("TENANTS__BENCH__BASE_URLS", &*urls),
        ("TENANTS__BENCH__KEEP__ENABLED", "false"),
        ("TENANTS__BENCH__TIMEOUTS__REQUEST", "2s"),
    ];
    let bridge = bridge(&settings).await?;
    let caller = Caller::of(&bridge, 1001..1201, None)?;
    caller.register(&gateway).await?;
    let calls = async |seconds: f64| caller.call(RATE, lasting(seconds), DEADLINE).await;
    println!("{:<46} {:>6} {:>6} {:>8} {:>8}", "", "calls", "failed", "p50 ms", "p99 ms");

    let [preferred, _second] = &addresses;
    calls(3.0).await;
    row("both good", &calls(10.0).await);
    preferred.is_hole.send_replace(true);
    row("the preferred one is a black hole, 0 to 10 s", &calls(10.0).await);
    row("10 to 30 s", &calls(20.0).await);
    preferred.is_hole.send_replace(false);
    let (begun, mut returned, mut again) = (Instant::now(), None, Vec::new());
    while begun.elapsed() < lasting(60.0) && returned.is_none() {
        let before = preferred.taken.load(Ordering::Relaxed);
        let second = calls(1.0).await;
        let share = preferred.taken.load(Ordering::Relaxed) - before;
        if share * 10 >= second.len() * 9 {
            returned = Some(begun.elapsed());
        }
        again.extend(second);
    }
    row("it answers again, until nine of ten calls use it", &again);
    match returned {
        Some(time) => println!("that took {:.0} s", time.as_secs_f64()),
        None => println!("it was not used again within a minute"),
    }
    let mut flapping = Vec::new();
    for turn in 0..20 {
        preferred.is_hole.send_replace(turn % 2 == 0);
        flapping.extend(calls(1.0).await);
    }
    row("it comes and goes every second, for 20 s", &flapping);
    preferred.is_hole.send_replace(false);
    row("10 s after that", &calls(10.0).await);
    bridge.drain().await;
    gateway.stop().await;
    Ok(())
}
