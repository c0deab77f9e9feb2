//! When connections that have become old are told to end, and when they are closed.

use std::time::Duration;

use ccgateway_sim::Simulator;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use crate::site::{Failure, bridge, is_measured, plain};

const AGE: Duration = Duration::from_secs(4);
const GRACE: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 50;
/// The type of a GOAWAY frame.
const GOAWAY: u8 = 7;

pub(crate) async fn run() -> Result<(), Failure> {
    let gateway = Simulator::start(plain()).await?;
    let url = gateway.base_url();
    let settings = [
        ("TENANTS__BENCH__BASE_URLS", &*url),
        ("SERVER__CONNECTIONS__MAX_AGE", if is_measured() { "4s" } else { "1s" }),
        ("SERVER__CONNECTIONS__MAX_AGE_GRACE", "2s"),
    ];
    let bridge = bridge(&settings).await?;
    let mut peers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        peers.spawn(outlast(TcpStream::connect(bridge.grpc_addr()).await?));
    }
    let ended: Result<Vec<_>, _> = peers.join_all().await.into_iter().collect();
    let (told, closed): (Vec<_>, Vec<_>) = ended?.into_iter().unzip();
    let part = |time: Option<&Duration>| {
        time.map_or(f64::NAN, |time| time.as_secs_f64() / AGE.as_secs_f64())
    };
    println!(
        "GOAWAY at {:.2} to {:.2} of the age (goal: 0.9 to 1.1)",
        part(told.iter().min()),
        part(told.iter().max())
    );
    let late = closed.iter().max().map_or(f64::NAN, Duration::as_secs_f64);
    println!(
        "a peer that goes on is closed after {late:.1} s at most (goal: {:.1})",
        (AGE.mul_f64(1.1) + GRACE).as_secs_f64() + 0.5
    );
    gateway.stop().await;
    Ok(())
}

/// A peer that does not heed GOAWAY: after how long it is told, and after how long its connection ends.
async fn outlast(mut peer: TcpStream) -> Result<(Duration, Duration), Failure> {
    let begun = Instant::now();
    let (preface, settings) = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    peer.write_all(&[&preface[..], &settings].concat()).await?;
    let (mut told, mut head) = (None, [0; 9]);
    while peer.read_exact(&mut head).await.is_ok() {
        let [high, middle, low, kind, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; length as usize];
        if peer.read_exact(&mut payload).await.is_err() {
            break;
        }
        if kind == GOAWAY {
            told.get_or_insert(begun.elapsed());
        }
    }
    Ok((told.ok_or("closed without a GOAWAY")?, begun.elapsed()))
}
