//! More calls than a gateway bears, and a gateway that stands still for a while, each with a limit that follows the times
//! of its answers (`gateway.adaptive_limit`) and without.
//!
//! Calls come at a fixed rate, whether or not earlier ones are answered, and each has a deadline. *Goodput* is the rate of
//! those that succeed in time, as a part of what the gateway can do at its best. The simulated gateway takes longer the more
//! requests it has beyond what it bears: in the ratio of the two, or in its square. One takes 300 ms whatever it has to do.
//!
//! `cargo bench --bench overload` takes six minutes; `OVERLOAD_SECONDS=3` makes it short.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts of calls are small")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are small")]

use std::{env, error::Error, time::Duration};

use ccgateway_bridge::{
    client,
    config::{Sources, load},
    rpc::proto::{RegisterSessionRequest, SetBusyRequest, agent_state_client::AgentStateClient},
    server::Bridge,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options, Simulator};
use http::Uri;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tonic::{Code, Request};

type Failure = Box<dyn Error + Send + Sync>;

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

/// A bridge before a gateway, and calls for its agents.
struct Site {
    gateway: Simulator,
    bridge: Bridge,
    states: AgentStateClient<client::Channel>,
}

/// One call: when it came, how long it took, and how it ended.
struct Ended {
    came: Duration,
    took: Duration,
    code: Code,
}

const FIRST_AGENT: u32 = 1001;
const AGENTS: u32 = 4000;
/// How often calls are begun.
const TICK: Duration = Duration::from_millis(5);
const OFFERED: f64 = 3.0;
const RATE: f64 = 1000.0;
const STALL: Duration = Duration::from_secs(2);

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

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = env::var("OVERLOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    // Without this flag it was `cargo test`, which only asks whether everything still works.
    let asked = env::args().any(|flag| flag == "--bench");
    let lasts = Duration::from_secs_f64(seconds.unwrap_or(if asked { 20.0 } else { 0.1 }));
    println!(
        "gateway, deadline     adaptive  goodput/s  of best  p50 ms  p99 ms  refused/s  late/s  limit"
    );
    for row in &ROWS {
        for adaptive in [false, true] {
            overload(row, adaptive, lasts).await?;
        }
    }
    println!(
        "a standstill of 2 s   adaptive  failed of those that came in it  connections  p99 as before after"
    );
    for adaptive in [false, true] {
        standstill(adaptive, if asked { STALL } else { STALL / 20 }).await?;
    }
    Ok(())
}

async fn overload(row: &Row, adaptive: bool, lasts: Duration) -> Result<(), Failure> {
    let site = Site::start(adaptive, (row.bears, row.time, row.strain)).await?;
    let rate = row.best * OFFERED;
    site.call(rate, lasts / 2, row.deadline).await;
    let ended = site.call(rate, lasts, row.deadline).await;
    let per_second = |count: usize| count as f64 / lasts.as_secs_f64();
    let count =
        |is: &dyn Fn(&Ended) -> bool| per_second(ended.iter().filter(|one| is(one)).count());
    let good = count(&|one| one.code == Code::Ok && one.took <= row.deadline);
    let refused = count(&|one| one.code == Code::ResourceExhausted);
    let late = per_second(ended.len()) - good - refused;
    let [p50, p99] = percentiles(ended.iter().filter(|one| one.code == Code::Ok));
    let limit = site.limit().await?;
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
    let site = Site::start(adaptive, (32, Duration::from_millis(5), 1)).await?;
    let deadline = Duration::from_secs(5);
    let before = site.call(RATE, stall, deadline).await;
    let connections = site.gateway.connections();
    let calling = site.call(RATE, stall * 4, deadline);
    let freezing = async {
        sleep(stall).await;
        site.gateway.freeze();
        sleep(stall).await;
        site.gateway.thaw();
    };
    let (ended, ()) = tokio::join!(calling, freezing);
    let failed = ended.iter().filter(|one| one.code != Code::Ok).count() as f64;
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

/// The median and the time that 99 % are below, in milliseconds.
fn percentiles<'a>(ended: impl Iterator<Item = &'a Ended>) -> [f64; 2] {
    let mut took: Vec<_> = ended.map(|one| one.took).collect();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100);
    [50, 99].map(|percent| at(percent).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3))
}

impl Site {
    async fn start(
        adaptive: bool,
        (bears, time, strain): (u32, Duration, u32),
    ) -> Result<Self, Failure> {
        let options = Options { plaintext: true, journal: 1, ..<_>::default() };
        let gateway = Simulator::start(options).await?;
        let slow = Fault::Load { time, bears, strain };
        gateway.misbehave(Misbehaviour::always(slow).on(Interface::SayBusy));
        let settings = [
            ("CCGW__LISTENERS__DEFAULT__ADDRESS", "127.0.0.1:0".to_owned()),
            ("CCGW__LISTENERS__DEFAULT__HTTP2__MAX_CONCURRENT_STREAMS", "10000".to_owned()),
            ("CCGW__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
            ("CCGW__GATEWAY__ADAPTIVE_LIMIT", adaptive.to_string()),
            ("CCGW__TENANTS__BENCH__BASE_URLS", gateway.base_url()),
            ("CCGW__TENANTS__BENCH__KEEP__ENABLED", "false".to_owned()),
            ("CCGW__TENANTS__BENCH__BREAKER__FAILURES", "0".to_owned()),
        ];
        let bridge = Bridge::start(load(&Sources::from_environment(settings))?).await?;
        let origin: Uri = format!("http://{}", bridge.grpc_addr()).parse()?;
        let channel = client::channel();
        let mut sessions = client::agent_session(channel.clone(), origin.clone());
        for agent in FIRST_AGENT..FIRST_AGENT + AGENTS {
            let (agent_id, guid) = (agent.to_string(), gateway.sign_in(agent));
            let session = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
            sessions.register_session(session).await?;
        }
        Ok(Self { gateway, bridge, states: client::agent_state(channel, origin) })
    }

    /// Calls at this rate for as long, each for the next agent.
    async fn call(&self, rate: f64, lasts: Duration, deadline: Duration) -> Vec<Ended> {
        let (begun, mut calls, mut made) = (Instant::now(), JoinSet::new(), 0);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while begun.elapsed() < lasts {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * rate) as u32;
            for number in made..due {
                let (mut states, agent) = (self.states.clone(), FIRST_AGENT + number % AGENTS);
                calls.spawn(async move {
                    let (agent_id, came) = (agent.to_string(), begun.elapsed());
                    let (reason, prolong) = (Some(200), Some(true));
                    let busy = SetBusyRequest { agent_id, reason, prolong, ..<_>::default() };
                    let mut request = Request::new(busy);
                    request.set_timeout(deadline);
                    let answer = states.set_busy(request).await;
                    let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                    Ended { came, took: begun.elapsed().saturating_sub(came), code }
                });
            }
            made = made.max(due);
        }
        calls.join_all().await
    }

    /// The limit of the gateway's host as it is now.
    async fn limit(&self) -> Result<String, Failure> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Some(addr) = self.bridge.admin_addr() else { return Ok(String::new()) };
        let mut admin = tokio::net::TcpStream::connect(addr).await?;
        admin
            .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n")
            .await?;
        let mut text = String::new();
        admin.read_to_string(&mut text).await?;
        let mut lines = text.lines().filter(|line| line.starts_with("ccgw_host_places_limit{"));
        Ok(lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned())
    }

    async fn end(self) {
        self.gateway.stop().await;
        drop(self.bridge);
    }
}
