//! The ledger: in thousands of calls, each with a fault, the outcomes that callers were
//! told agree with what the gateway has done.
//!
//! The calls are the same in every run. `LEDGER_CALLS` makes more of them, and `LEDGER_SEED` others.

#![expect(clippy::print_stdout, reason = "the sums are what it is for")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod books;
mod caller;
mod chance;
mod faults;
mod grpcio;
mod step;

use std::{env, time::Duration};

use ccgateway_sim::Options;
use ccgateway_test_support::{
    RedisServer, Setup, TestBridge, gateway, in_redis, lossy::LossyProxy,
};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use books::{Books, Told};
use caller::Caller;
use chance::Chance;
use grpcio::Grpcio;
use step::LIVES;

/// In the short form. Each world has a part of them.
const CALLS: usize = 20_000;
/// Agents at once.
const AT_ONCE: usize = 96;
/// Between two calls for an agent. Meanwhile polls bring events.
const BETWEEN: Duration = Duration::from_millis(250);
/// How often a caller sends a change again that has failed.
const AGAIN: usize = 3;
/// For how long the store fails, and how long it works then.
const STORE_FAILS: Duration = Duration::from_millis(300);
const STORE_WORKS: Duration = Duration::from_millis(500);

/// What is around the calls.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each of them may be there or not")]
struct Setting {
    with_proxy: bool,
    with_store: bool,
    with_grpcio: bool,
    /// Callers give their changes ids, and send what fails again.
    insists: bool,
}

/// A bridge in front of a gateway.
struct World {
    setting: Setting,
    bridge: TestBridge,
    proxy: Option<LossyProxy>,
    /// A Redis that fails now and then.
    store: Option<RedisServer>,
    caller: Caller,
}

impl World {
    async fn start(setting: Setting) -> Self {
        let options = Options {
            plaintext: setting.with_proxy,
            idle_sign_out: None,
            journal: 1_000_000,
            ..<_>::default()
        };
        let gateway = gateway(options).await;
        let proxy =
            if setting.with_proxy { Some(LossyProxy::to(gateway.addr()).await) } else { None };
        let store = if setting.with_store { Some(RedisServer::start().await) } else { None };
        // A trace for each call, by which the gateway's journal tells whose request it was.
        // By default the bridge asks what became of a change. LEDGER_READ_BACK=false shows what that is worth.
        let read_back = env::var("LEDGER_READ_BACK").unwrap_or_else(|_| "true".into());
        let tenant = format!("read_back = {read_back}\n")
            + "agent_ids = \"1-999999\"\nlimits.sessions = 90000\n\
                          limits.requests = 96\nlimits.queue_wait = \"5s\"\n\
                          timeouts.request = \"400ms\"\ntimeouts.sign_in = \"400ms\"\n\
                          timeouts.settle = \"200ms\"\n\
                          keep.sign_ins_per_second = 10000\n\
                          keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n\
                          breaker.failures = 0\n\
                          [traces]\nendpoint = \"http://127.0.0.1:9\"\nsample = 0\n";
        let in_redis =
            |redis: &RedisServer| in_redis(&redis.url()) + "timeouts.command = \"100ms\"\n";
        let lines = store.as_ref().map(in_redis).unwrap_or_default();
        let base_url = proxy.as_ref().map(LossyProxy::base_url);
        let bridge = TestBridge::of(
            gateway,
            Setup { tenant, base_url, store: lines, keep: true, ..<_>::default() },
        )
        .await;
        let addr = bridge.bridge.grpc_addr();
        let caller = if setting.with_grpcio {
            Caller::Grpcio(Box::new(Grpcio::start(addr)))
        } else {
            Caller::own(addr)
        };
        Self { setting, bridge, proxy, store, caller }
    }

    /// All that is asked for one agent.
    async fn live(&self, agent: u32, mut chance: Chance) -> Vec<Told> {
        let life = LIVES[chance.below(LIVES.len())];
        let mut told = Vec::new();
        for (place, step) in life.iter().enumerate() {
            let trace = u128::from(agent) << 32 | (place as u128 + 1);
            sleep(BETWEEN).await;
            step.prepare(self, agent).await;
            let spoilt = step.spoil(self, agent, &mut chance);
            let begun = Instant::now();
            let mut answers = step.call(self, agent, trace).await;
            let again = if self.setting.insists && step.is_change() { AGAIN } else { 0 };
            for _ in 0..again {
                if answers.iter().any(|(_, answer)| answer.is_err()) {
                    answers = step.call(self, agent, trace).await;
                }
            }
            let took = begun.elapsed();
            if let (Some(proxy), Some(part)) = (&self.proxy, &spoilt.part) {
                proxy.forgive(part);
            }
            for (of, answer) in answers {
                let is_hidden = spoilt.hides && of == agent;
                told.push(Told { agent: of, step: *step, trace, is_hidden, took, answer });
            }
        }
        told
    }

    /// Lives the lives of as many agents as make so many calls.
    async fn live_all(&self, calls: usize, seed: usize) -> Vec<Told> {
        let agents = u32::try_from(calls.div_ceil(LIVES[0].len())).expect("agents");
        let lives = (1..=agents).map(|agent| self.live(agent, Chance::new(seed as u64, agent)));
        let living = stream::iter(lives).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
        let told = match &self.store {
            Some(store) => tokio::select! {
                told = living => told,
                () = fail_now_and_then(store) => unreachable!("it goes on"),
            },
            None => living.await,
        };
        if let Some(store) = &self.store {
            store.thaw();
        }
        told.into_iter().flatten().collect()
    }
}

async fn fail_now_and_then(store: &RedisServer) {
    loop {
        sleep(STORE_WORKS).await;
        store.freeze();
        sleep(STORE_FAILS).await;
        store.thaw();
    }
}

/// Has so many parts of the calls made in this world.
async fn books_agree(setting: Setting, parts: usize) {
    let number = |name, default| {
        let given = env::var(name).ok().and_then(|value| value.parse().ok());
        given.unwrap_or(default)
    };
    let (calls, seed) = (number("LEDGER_CALLS", CALLS) / parts, number("LEDGER_SEED", 1));
    let world = World::start(setting).await;
    let told = world.live_all(calls, seed).await;
    let gateway = world.bridge.gateway.clone();
    // What goes on after its caller has had an answer ends here.
    world.bridge.bridge.drain().await;
    let repeats_changes = world.caller.repeats_changes() || setting.insists;
    println!("\n{setting:?}");
    Books::of(told, repeats_changes).close(&gateway.journal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_the_gateway_has_done() {
    books_agree(Setting::default(), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_the_gateway_has_done_behind_a_proxy_that_loses_answers() {
    books_agree(Setting { with_proxy: true, ..Setting::default() }, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_the_gateway_has_done_while_the_store_fails() {
    books_agree(Setting { with_proxy: true, with_store: true, ..Setting::default() }, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_send_changes_again_with_their_ids_act_once() {
    books_agree(Setting { with_proxy: true, insists: true, ..Setting::default() }, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_hold_with_grpc_s_own_library_while_the_store_fails() {
    let setting = Setting { with_proxy: true, with_store: true, with_grpcio: true, insists: true };
    books_agree(setting, 10).await;
}

/// gRPC's own library repeats what it may, and it may repeat everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_whose_library_repeats_calls_act_once_and_are_told_what_the_gateway_has_done() {
    books_agree(Setting { with_proxy: true, with_grpcio: true, ..Setting::default() }, 10).await;
}
