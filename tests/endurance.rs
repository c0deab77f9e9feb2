//! A call-centre's day in half a minute: many agents, kept for an hour of the gateway's time.
//!
//! In a program of its own, since a gateway whose clock runs a hundred times faster leaves a Guid
//! little more than a second to live, which other tests would take from it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::Duration,
};

use ccgateway_sim::{Interface, Options};
use ccgateway_test_support::{AGENT, Refusal, Setup, TestBridge, until};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::Code;

const SCALE: u32 = 100;
const AGENTS: Range<u32> = AGENT..AGENT + 200;
/// Signs all agents in within two of our seconds.
const SIGN_INS_PER_SECOND: u32 = 100;

/// One bridge at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn keeping() -> TestBridge {
    let gateway = Options { time_scale: SCALE, journal: 1_000_000, ..<_>::default() };
    let tenant = format!(
        "limits.requests = 32\nkeep.sign_ins_per_second = {SIGN_INS_PER_SECOND}\n\
         keep.pause_min = \"100ms\"\nkeep.pause_max = \"200ms\"\n"
    );
    let bridge = TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await;
    for agent in AGENTS {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_agents_are_kept_for_an_hour_without_a_sign_out() {
    let _alone = ALONE.lock().await;
    let bridge = keeping().await;
    let end = Instant::now() + Duration::from_secs(3600) / SCALE;
    let mut agents = AGENTS.cycle();
    while Instant::now() < end {
        let agent = agents.next().expect("agents without end");
        bridge.set_busy(agent).await.expect("every agent can be made busy at any moment");
        sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }

    assert_eq!(bridge.asked(Interface::SignIn).len(), AGENTS.len(), "no agent was lost");
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
    let mut announced: HashMap<u32, HashSet<String>> = HashMap::new();
    for poll in bridge.asked(Interface::Poll) {
        let answer = poll.answer.as_ref();
        let guid = answer.and_then(|answer| answer.set_guid.clone());
        announced.entry(poll.agent.expect("an agent")).or_default().extend(guid);
    }
    let mut used: HashMap<u32, HashSet<String>> = HashMap::new();
    for call in bridge.asked(Interface::SayBusy) {
        let answer = call.answer.as_ref().expect("answered");
        assert_eq!(answer.retcode.as_deref(), Some("0"), "a call with a dead Guid");
        let guid = call.header("guid").expect("every call has a Guid").to_owned();
        used.entry(call.agent.expect("an agent")).or_default().insert(guid);
    }
    for agent in AGENTS {
        // An hour has sixty of them; polls come a little late.
        assert!(announced[&agent].len() >= 30, "{agent}: {} renewals", announced[&agent].len());
        let renewed = used[&agent].intersection(&announced[&agent]).count();
        assert!(renewed >= used[&agent].len() - 1, "{agent} used a Guid that nobody announced");
        assert!(renewed >= 3, "{agent}: {renewed} renewals were picked up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_agents_come_back_from_a_restart_of_the_gateway() {
    let _alone = ALONE.lock().await;
    let bridge = keeping().await;
    bridge.gateway.clear_journal();
    bridge.gateway.stop().await;
    for agent in AGENTS.take(20) {
        let refusal = Refusal::from(bridge.set_busy(agent).await.expect_err("no gateway"));
        assert_eq!(refusal.code, Code::Unavailable, "{}", refusal.message);
        assert!(refusal.details.retry_info().is_some(), "{}", refusal.message);
    }
    let restarted = Instant::now();
    bridge.gateway.restart(true).await.expect("restarted");

    // Callers meanwhile wait for the sign-in, or are told when to come back.
    let mut calls = JoinSet::new();
    for agent in AGENTS.step_by(10) {
        let states = bridge.states.clone();
        calls.spawn(async move {
            let request = ccgateway_bridge::rpc::proto::SetBusyRequest {
                agent_id: agent.to_string(),
                reason: Some(200),
                prolong: Some(true),
                ..<_>::default()
            };
            states.clone().set_busy(request).await
        });
    }
    for answer in calls.join_all().await {
        let Err(status) = answer else { continue };
        let refusal = Refusal::from(status);
        let told = matches!(refusal.code, Code::Unavailable | Code::FailedPrecondition)
            && refusal.details.retry_info().is_some();
        assert!(told, "{:?} {}", refusal.code, refusal.message);
    }
    let signed_in = |agent| bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
    until("every agent is back", || AGENTS.clone().all(signed_in)).await;
    let took = restarted.elapsed();
    for agent in AGENTS {
        bridge.set_busy(agent).await.expect("back");
    }

    let mut signed_in: Vec<u32> =
        bridge.asked(Interface::SignIn).iter().filter_map(|entry| entry.agent).collect();
    signed_in.sort_unstable();
    assert_eq!(signed_in, AGENTS.collect::<Vec<_>>(), "one sign-in for each loss");
    let paced = Duration::from_secs(1) * (AGENTS.end - AGENTS.start) / SIGN_INS_PER_SECOND;
    assert!(took >= paced.mul_f64(0.9), "{took:?} instead of {paced:?}");
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}
