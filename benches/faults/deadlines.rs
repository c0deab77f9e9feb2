//! Calls whose deadlines pass while the gateway works.

use std::time::Duration;

use ccgateway_sim::Options;
use rand::RngExt as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;

use crate::site::{Failure, Site, many, plain};

const CALLS: u32 = 5000;
/// Nothing is sent with less than 25 ms left.
const TOO_SHORT: Duration = Duration::from_millis(24);

pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options { latency: Duration::from_secs(1), journal: 100_000, ..plain() };
    let settings = [
        ("TENANTS__BENCH__LIMITS__CALLS", "10000"),
        ("TENANTS__BENCH__LIMITS__REQUESTS", "5000"),
        ("GATEWAY__HOST_REQUESTS", "10000"),
    ];
    let site = Site::start(options, 1001..6001, &settings).await?;
    let mut calls = JoinSet::new();
    for number in 0..many(CALLS) {
        let deadline = Duration::from_millis(rand::rng().random_range(50..300));
        let (mut states, request) =
            (site.caller.states.clone(), site.caller.busy(number, deadline));
        calls.spawn(async move {
            let begun = Instant::now();
            let answer = states.set_busy(request).await;
            (
                answer.map_or_else(|status| status.code(), |_| Code::Ok),
                begun.elapsed().saturating_sub(deadline),
            )
        });
        if number % 10 == 9 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    let ended = calls.join_all().await;
    let told = ended.iter().filter(|(code, _)| *code == Code::DeadlineExceeded).count();
    let mut late: Vec<_> = ended.iter().map(|(_, late)| *late).collect();
    late.sort_unstable();
    let at = late.len().saturating_sub(1 + late.len() / 1000);
    let late = late.get(at).map_or(f64::NAN, |late| late.as_secs_f64() * 1e3);
    println!("{told} of {} calls were told DEADLINE_EXCEEDED (goal: all)", ended.len());
    println!("99.9 % of them at most {late:.1} ms after their deadlines (goal: 20 ms)");

    site.gateway.clear_journal();
    for number in 0..many(1000) {
        let _told = site.caller.states.clone().set_busy(site.caller.busy(number, TOO_SHORT)).await;
    }
    println!("requests for calls with less than 25 ms: {} (goal 0)", site.gateway.journal().len());
    site.end().await;
    Ok(())
}
