//! A replica that stops while another takes over its callers, who go elsewhere when they are told to.

use std::time::Duration;

use ccgateway_sim::Simulator;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::site::{Caller, Failure, bridge, failed, lasting, plain};

const RATE: f64 = 2000.0;
const DEADLINE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn run() -> Result<(), Failure> {
    let gateway = Simulator::start(plain()).await?;
    let url = gateway.base_url();
    let settings = [
        ("TENANTS__BENCH__BASE_URLS", &*url),
        ("TENANTS__BENCH__KEEP__ENABLED", "false"),
        ("SERVER__DRAIN__DELAY", "500ms"),
        ("SERVER__DRAIN__TIMEOUT", "5s"),
    ];
    let [first, second] = [bridge(&settings).await?, bridge(&settings).await?];
    let callers = [Caller::of(&first, 1001..2001, None)?, Caller::of(&second, 2001..3001, None)?];
    callers[0].register(&gateway).await?;
    callers[1].register(&gateway).await?;

    // Peers that a drain must not wait for.
    let silent = TcpStream::connect(first.grpc_addr()).await?;
    let mut deaf = TcpStream::connect(first.grpc_addr()).await?;
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;

    // Callers notice within the delay, as they do by readiness and DNS.
    let before = lasting(1.5);
    let calling = async {
        let ended = callers[0].call(RATE, before, DEADLINE).await;
        [ended, callers[1].call(RATE, lasting(1.0), DEADLINE).await]
    };
    let draining = async {
        sleep(before.saturating_sub(Duration::from_millis(250))).await;
        let begun = Instant::now();
        let _drained = first.drain().await;
        begun.elapsed()
    };
    let (ended, took) = tokio::join!(calling, draining);
    let calls: usize = ended.iter().map(Vec::len).sum();
    let lost: usize = ended.iter().map(|ended| failed(ended)).sum();
    println!("{calls} calls at {RATE} a second, failed {lost} (goal 0)");
    println!(
        "with a silent and a deaf peer it took {:.1} s (goal: at most {:.1} s)",
        took.as_secs_f64(),
        (TIMEOUT + Duration::from_millis(1500)).as_secs_f64()
    );
    drop((silent, deaf));
    gateway.stop().await;
    Ok(())
}
