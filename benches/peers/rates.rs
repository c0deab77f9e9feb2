//! Latency at fixed rates, whether or not earlier calls are answered, each call timed from the moment at which it was
//! due: a low rate, and half of what the bridge can do at most.

use std::time::Duration;

use crate::{
    Failure,
    load::{Load, Timed},
    measured::{Figures, micros, part_below},
    setting,
    site::Server,
};

const LOW: f64 = 1000.0;
const CONNECTIONS: usize = 8;
const LASTS: Duration = Duration::from_secs(4);
const WARMING: Duration = Duration::from_millis(500);

pub(crate) async fn run(servers: &[Server]) -> Result<(), Failure> {
    let bridge = servers.iter().find(|server| server.name == "bridge").ok_or("no bridge")?;
    let mut most = Figures::default();
    most.add(bridge, (8, 8), LASTS).await?;
    let [most, ..] = most.speed();
    println!(
        "µs; late: what 99 % of the calls began too late by at most, which is the caller's own doing"
    );
    println!(
        "calls/s  server       p50     p90     p99   p99.9      max    late  p50 and p99 of nginx"
    );
    for rate in [LOW, most / 2.0] {
        let mut calls: Vec<Vec<Timed>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..setting("BENCH_ROUNDS", 5) {
            for (server, calls) in servers.iter().zip(&mut calls) {
                let load = Load::connect(server.target.clone(), CONNECTIONS).await?;
                load.at_rate(rate, WARMING).await?;
                calls.extend(load.at_rate(rate, LASTS).await?);
            }
        }
        print(rate, servers, &calls);
    }
    Ok(())
}

fn print(rate: f64, servers: &[Server], calls: &[Vec<Timed>]) {
    let mut nginx = None;
    for (server, calls) in servers.iter().zip(calls) {
        let took = micros(calls.iter().map(|call| call.took));
        let late = part_below(&micros(calls.iter().map(|call| call.late)), 0.99);
        let [half, most, slow, slower, slowest] =
            [0.5, 0.9, 0.99, 0.999, 1.0].map(|part| part_below(&took, part));
        // It is the first.
        let (nginx_half, nginx_slow) = *nginx.get_or_insert((half, slow));
        println!(
            "{rate:>7.0}  {:<9} {half:>6.0} {most:>7.0} {slow:>7.0} {slower:>7.0} {slowest:>8.0} {late:>7.0} {:>7.2} {:>11.2}",
            server.name,
            half / nginx_half,
            slow / nginx_slow
        );
    }
}
