//! Callers who leave at any moment of their calls.

use std::time::Duration;

use ccgateway_sim::Options;
use futures_util::{StreamExt as _, stream};
use rand::RngExt as _;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use crate::site::{Failure, Site, many, plain};

const CALLS: u32 = 10_000;
const AT_ONCE: usize = 200;
const LATENCY: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options { latency: LATENCY, journal: 100_000, ..plain() };
    let site = Site::start(options, 1001..3001, &[]).await?;
    // As many connections are open as there can be, and stay.
    let filling = (0..200).map(|number| {
        let (mut states, request) =
            (site.caller.states.clone(), site.caller.busy(number, DEADLINE));
        async move { states.set_busy(request).await.map(drop) }
    });
    futures_util::future::join_all(filling).await;
    let (tasks, connections) = (tasks(), site.gateway.connections());
    site.gateway.clear_journal();
    let calls = many(CALLS);
    let left = stream::iter(0..calls).map(|number| {
        let (mut states, request) =
            (site.caller.states.clone(), site.caller.busy(number, DEADLINE));
        async move {
            let patience = LATENCY.mul_f64(rand::rng().random_range(0.0..2.0));
            timeout(patience, states.set_busy(request)).await.is_err()
        }
    });
    let left =
        left.buffer_unordered(AT_ONCE).filter(|left| std::future::ready(*left)).count().await;
    let begun = Instant::now();
    while self::tasks() > tasks && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(10)).await;
    }
    let journal = site.gateway.journal();
    let unanswered = journal.iter().filter(|entry| entry.answer.is_none()).count();
    println!("{left} of {calls} callers left");
    println!("requests {}, of them without an answer {unanswered} (goal 0)", journal.len());
    println!("connections opened {} (goal 0, after 64)", site.gateway.connections() - connections);
    println!("tasks before {tasks}, after {} (goal: no more)", self::tasks());
    site.end().await;
    Ok(())
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
