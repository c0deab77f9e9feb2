//! More calls than a gateway bears, and a gateway that stands still for a while, each with a limit that follows the times
//! of its answers (`gateway.adaptive_limit`) and without.
//!
//! Calls come at a fixed rate, whether or not earlier ones are answered, and each has a deadline. *Goodput* is the rate of
//! those that succeed in time, as a part of what the gateway can do at its best. The simulated gateway takes longer the more
//! requests it has beyond what it bears: in the ratio of the two, or in its square. One takes 300 ms whatever it has to do.

use std::time::Duration;

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use tokio::time::sleep;
use tonic::Code;

use crate::site::{Ended, Failure, Site, failed, lasting, metric, percentiles, plain};

/// What a gateway bears, and how its callers call.
struct Row {
    name: &'static str,
    bears: u32,
    time: Duration,
    strain: u32,
    deadline: Duration,
    /// The most calls that it can answer in a second.
    best: f64,
}

const OFFERED: f64 = 3.0;
const RATE: f64 = 1000.0;

const fn row(name: &'static str, bears: u32, strain: u32, deadline: u64) -> Row {
    let (time, deadline) = (Duration::from_millis(40), Duration::from_millis(deadline));
    Row { name, bears, time, strain, deadline, best: bears as f64 * 25.0 }
}

const ROWS: [Row; 4] = [
    row("a queue, 2 s", 8, 1, 2000),
    row("a queue, 0.3 s", 8, 1, 300),
    row("less and less, 2 s", 8, 2, 2000),
    Row {
        name: "300 ms in any case",
        bears: 1_000_000,
        time: Duration::from_millis(300),
        strain: 1,
        deadline: Duration::from_secs(2),
        best: 64.0 / 0.3,
    },
];

pub(crate) async fn run() -> Result<(), Failure> {
    println!(
        "gateway, deadline     adaptive  goodput/s  of best  p50 ms  p99 ms  refused/s  late/s  limit"
    );
    for row in &ROWS {
        for adaptive in [false, true] {
            overload(row, adaptive, lasting(20.0)).await?;
        }
    }
    println!(
        "a standstill of 2 s   adaptive  failed of those that came in it  connections  p99 as before after"
    );
    for adaptive in [false, true] {
        standstill(adaptive, lasting(2.0)).await?;
    }
    Ok(())
}

async fn overload(row: &Row, adaptive: bool, lasts: Duration) -> Result<(), Failure> {
    let site = site(adaptive, (row.bears, row.time, row.strain)).await?;
    let rate = row.best * OFFERED;
    site.caller.call(rate, lasts / 2, row.deadline).await;
    let ended = site.caller.call(rate, lasts, row.deadline).await;
    let per_second = |count: usize| count as f64 / lasts.as_secs_f64();
    let count =
        |is: &dyn Fn(&Ended) -> bool| per_second(ended.iter().filter(|one| is(one)).count());
    let good = count(&|one| one.code == Code::Ok && one.took <= row.deadline);
    let refused = count(&|one| one.code == Code::ResourceExhausted);
    let late = per_second(ended.len()) - good - refused;
    let [p50, p99] = percentiles(ended.iter().filter(|one| one.code == Code::Ok));
    let limit = metric(&site.bridge, "ccgw_host_places_limit{").await?;
    println!(
        "{:<20}  {:>8}  {good:>9.0}  {:>7.2}  {p50:>6.0}  {p99:>6.0}  {refused:>9.0}  {late:>6.0}  {limit:>5}",
        row.name,
        if adaptive { "on" } else { "off" },
        good / row.best,
    );
    site.end().await;
    Ok(())
}

async fn standstill(adaptive: bool, stall: Duration) -> Result<(), Failure> {
    let site = site(adaptive, (32, Duration::from_millis(5), 1)).await?;
    let deadline = Duration::from_secs(5);
    let before = site.caller.call(RATE, stall, deadline).await;
    let connections = site.gateway.connections();
    let calling = site.caller.call(RATE, stall * 4, deadline);
    let freezing = async {
        sleep(stall).await;
        site.gateway.freeze();
        sleep(stall).await;
        site.gateway.thaw();
    };
    let (ended, ()) = tokio::join!(calling, freezing);
    let failed = failed(&ended) as f64;
    let [_, usual] = percentiles(before.iter());
    let slot = Duration::from_millis(50);
    let is_as_before = |from: &Duration| {
        let of_slot = ended.iter().filter(|one| one.came >= *from && one.came < *from + slot);
        let [_, p99] = percentiles(of_slot.clone());
        of_slot.clone().all(|one| one.code == Code::Ok) && p99 <= usual * 2.0 + 1.0
    };
    let mut slots = (0..200).map(|slot_number| stall * 2 + slot * slot_number);
    let back = slots
        .find(is_as_before)
        .map_or(f64::NAN, |from| from.saturating_sub(stall * 2).as_secs_f64() * 1e3);
    println!(
        "p99 before {usual:>6.1} ms  {:>8}  {:>31.2}  {:>11}  {back:>12.0} ms",
        if adaptive { "on" } else { "off" },
        failed / (RATE * stall.as_secs_f64()),
        site.gateway.connections() - connections,
    );
    site.end().await;
    Ok(())
}

async fn site(
    adaptive: bool,
    (bears, time, strain): (u32, Duration, u32),
) -> Result<Site, Failure> {
    let adaptive = adaptive.to_string();
    let settings =
        [("GATEWAY__ADAPTIVE_LIMIT", &*adaptive), ("TENANTS__BENCH__BREAKER__FAILURES", "0")];
    let site = Site::start(plain(), 1001..5001, &settings).await?;
    let slow = Fault::Load { time, bears, strain };
    site.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SayBusy));
    Ok(site)
}
