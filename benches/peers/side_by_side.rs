//! Processor time, latency and memory of all servers under the same loads, which take turns so that what else the
//! machine does falls on all of them alike.

use std::time::Duration;

use crate::{
    Failure,
    measured::{AtOnce, Figures},
    mebibytes, setting,
    site::Server,
};

const LOADS: [AtOnce; 3] = [(1, 1), (8, 8), (32, 32)];
const LASTS: Duration = Duration::from_secs(2);

pub(crate) async fn run(servers: &[Server]) -> Result<(), Failure> {
    let idle = resident(servers)?;
    let none = || servers.iter().map(|_| Figures::default()).collect::<Vec<_>>();
    let mut rows = LOADS.map(|load| (load, none()));
    for _ in 0..setting("BENCH_ROUNDS", 7) {
        for (load, figures) in &mut rows {
            for (server, figures) in servers.iter().zip(figures) {
                figures.add(server, *load, LASTS).await?;
            }
        }
    }
    println!(
        "µs of a processor for each call: the median, and the least disturbed tenth (quiet), which the ratios are of"
    );
    println!("load   server     calls/s  p50 µs  p99 µs  CPU µs   quiet  of nginx  of Envoy");
    for (load, figures) in &rows {
        print(*load, servers, figures);
    }
    println!("server    MiB when idle  after the loads");
    for ((server, idle), after) in servers.iter().zip(idle).zip(resident(servers)?) {
        println!("{:<9} {idle:>13.1}  {after:>15.1}", server.name);
    }
    Ok(())
}

fn print((connections, callers): AtOnce, servers: &[Server], figures: &[Figures]) {
    let quiet_of = |name: &str| {
        let found = servers.iter().zip(figures).find(|(server, _)| server.name == name);
        found.map_or(f64::NAN, |(_, figures)| figures.quiet())
    };
    let (nginx, envoy) = (quiet_of("nginx"), quiet_of("envoy"));
    for (server, figures) in servers.iter().zip(figures) {
        let ([rate, p50, p99], cpu, quiet) = (figures.speed(), figures.cpu(), figures.quiet());
        let load = format!("{connections}x{callers}");
        let (of_nginx, of_envoy) = (quiet / nginx, quiet / envoy);
        println!(
            "{load:<6} {:<9} {rate:>8.0} {p50:>7.0} {p99:>7.0} {cpu:>7.1} {quiet:>7.1} {of_nginx:>9.2} {of_envoy:>9.2}",
            server.name
        );
    }
}

fn resident(servers: &[Server]) -> Result<Vec<f64>, Failure> {
    servers.iter().map(|server| server.running.resident().map(mebibytes)).collect()
}
