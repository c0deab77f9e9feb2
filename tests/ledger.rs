//! The books of the bridge: of thousands of calls, each with a fault in its way, what the callers were
//! told agrees with what the gateway has done.
//!
//! The calls are the same in every run. `LEDGER_CALLS` makes more of them, and `LEDGER_SEED` others.

#![cfg(feature = "simulator")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the support is shared with tests that use all of it")]

#[path = "ledger/books.rs"]
mod books;
#[path = "ledger/chance.rs"]
mod chance;
#[path = "bridge/lossy.rs"]
mod lossy;
#[path = "ledger/step.rs"]
mod step;
#[path = "bridge/support.rs"]
mod support;

use std::env;

use ccgateway_bridge::sim::Options;
use futures_util::{StreamExt as _, stream};

use books::{Books, Told};
use chance::Chance;
use lossy::LossyProxy;
use step::{LIVES, Retries};
use support::{Setup, TestBridge};

/// In the short form; half of them go through a proxy.
const CALLS: usize = 20_000;
/// Agents at once.
const AT_ONCE: usize = 48;

/// A bridge in front of a gateway, with or without a proxy between them.
struct World {
    bridge: TestBridge,
    proxy: Option<LossyProxy>,
    retries: Retries,
}

impl World {
    async fn start(with_proxy: bool) -> Self {
        let options = Options {
            plaintext: with_proxy,
            idle_sign_out: None,
            journal: 1_000_000,
            ..<_>::default()
        };
        let gateway = TestBridge::gateway(options).await;
        let proxy = if with_proxy { Some(LossyProxy::to(gateway.addr()).await) } else { None };
        // A trace for each call, by which the gateway's journal tells whose request it was.
        let tenant = "agent_ids = \"1-59999\"\nlimits.sessions = 60000\nlimits.requests = 96\n\
                      limits.queue_wait = \"5s\"\ntimeouts.request = \"400ms\"\n\
                      timeouts.sign_in = \"400ms\"\nkeep.sign_ins_per_second = 10000\n\
                      [traces]\nendpoint = \"http://127.0.0.1:9\"\nsample = 0\n";
        let base_url = proxy.as_ref().map(LossyProxy::base_url);
        let setup = Setup { tenant: tenant.into(), base_url, ..<_>::default() };
        let bridge = TestBridge::of(gateway, setup).await;
        Self { bridge, proxy, retries: Retries::shipped() }
    }

    /// All that is asked for one agent.
    async fn live(&self, agent: u32, mut chance: Chance) -> Vec<Told> {
        let life = LIVES[chance.below(LIVES.len())];
        let mut told = Vec::new();
        for (place, step) in life.iter().enumerate() {
            let trace = u128::from(agent) << 32 | (place as u128 + 1);
            let spoilt = step.spoil(self, agent, &mut chance);
            let answer = step.call(self, agent, trace).await;
            if let (Some(proxy), Some(part)) = (&self.proxy, &spoilt) {
                proxy.forgive(part);
            }
            told.push(Told { agent, step: *step, trace, answer });
        }
        told
    }
}

async fn books_agree(with_proxy: bool) {
    let number = |name, default| {
        let given = env::var(name).ok().and_then(|value| value.parse().ok());
        given.unwrap_or(default)
    };
    let (calls, seed) = (number("LEDGER_CALLS", CALLS) / 2, number("LEDGER_SEED", 1));
    let world = World::start(with_proxy).await;
    let lives = (1..=u32::try_from(calls.div_ceil(LIVES[0].len())).expect("agents"))
        .map(|agent| world.live(agent, Chance::new(seed as u64, agent)));
    let told: Vec<_> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let gateway = world.bridge.gateway.clone();
    // What goes on after its caller has had an answer ends here.
    world.bridge.bridge.drain().await;
    Books::of(told.into_iter().flatten().collect()).close(&gateway.journal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_the_gateway_has_done() {
    books_agree(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_the_gateway_has_done_behind_a_proxy_that_loses_answers() {
    books_agree(true).await;
}
