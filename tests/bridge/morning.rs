//! Hundreds of agents need a sign-in, and their callers do not wait long enough.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ccgateway_bridge::rpc::proto::SetBusyRequest;
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{AGENT, Refusal, Setup, TestBridge, refused, until, within};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status};

/// A bridge that has to sign so many agents in, at this rate.
async fn cold(agents: u32, per_second: u32, tenant: &str) -> Arc<TestBridge> {
    let tenant = format!("keep.sign_ins_per_second = {per_second}\n{tenant}");
    let credentials = (AGENT..AGENT + agents).collect();
    Arc::new(TestBridge::with(Setup { tenant, credentials, ..<_>::default() }).await)
}

async fn call(bridge: &TestBridge, agent: u32, deadline: Option<Duration>) -> Result<(), Status> {
    let agent_id = agent.to_string();
    let message =
        SetBusyRequest { agent_id, reason: Some(200), prolong: Some(true), ..<_>::default() };
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    bridge.states.clone().set_busy(request).await.map(drop)
}

/// Calls for an agent until one succeeds; gives the reasons of those that failed.
async fn insist(bridge: &TestBridge, agent: u32, deadline: Option<Duration>) -> Vec<String> {
    let mut reasons = Vec::new();
    while let Err(status) = call(bridge, agent, deadline).await {
        reasons.push(Refusal::from(status).reason);
        sleep(Duration::from_millis(50)).await;
    }
    reasons
}

/// Has a caller insist on each agent, all at the same time; gives how often each reason was heard.
async fn all_insist(
    bridge: &Arc<TestBridge>,
    agents: u32,
    deadline: Option<Duration>,
) -> HashMap<String, usize> {
    let mut callers: JoinSet<_> = (AGENT..AGENT + agents)
        .map(|agent| {
            let bridge = bridge.clone();
            async move { insist(&bridge, agent, deadline).await }
        })
        .collect();
    let mut heard = HashMap::new();
    let all = async {
        while let Some(reasons) = callers.join_next().await {
            for reason in reasons.expect("no panic") {
                *heard.entry(reason).or_default() += 1;
            }
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("every agent is signed in");
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_leave_early_do_not_keep_agents_from_being_signed_in() {
    let bridge = cold(200, 100, "").await;
    let started = Instant::now();
    let heard = all_insist(&bridge, 200, Some(Duration::from_millis(300))).await;
    println!("200 agents at 100 a second: {:?}; callers heard {heard:?}", started.elapsed());
    assert_eq!(bridge.asked(Interface::SignIn).len(), 200, "each agent was signed in once");
    assert!(heard.contains_key("SIGN_INS_QUEUED"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_signed_in_whose_callers_have_left_for_good() {
    let bridge = cold(60, 50, "").await;
    let deadline = Some(Duration::from_millis(200));
    let calls: JoinSet<_> = (AGENT..AGENT + 60)
        .map(|agent| {
            let bridge = bridge.clone();
            async move { call(&bridge, agent, deadline).await }
        })
        .collect();
    let told = calls.join_all().await.into_iter().filter_map(Result::err).count();
    assert!(told > 30, "most callers could not wait: {told}");
    let is_in = |agent: u32| bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
    until("all agents are signed in", || (AGENT..AGENT + 60).all(is_in)).await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 60);
}

#[tokio::test]
async fn a_caller_whose_turn_cannot_come_in_time_is_told_when_it_comes() {
    let bridge = cold(30, 1, "").await;
    let deadline = Some(Duration::from_secs(1));
    let calls = (AGENT..AGENT + 29).map(|agent| call(&bridge, agent, deadline));
    futures_util::future::join_all(calls).await;
    let result = call(&bridge, AGENT + 29, deadline).await;
    let refusal = refused(result, Code::ResourceExhausted, "SIGN_INS_QUEUED", "not_sent");
    let retry = refusal.details.retry_info().and_then(|info| info.retry_delay);
    let seconds = retry.expect("when to come back").as_secs();
    assert!((10..30).contains(&seconds), "in {seconds} s, with 29 agents before it");
    let pushback = refusal.pushback.as_deref();
    assert_eq!(pushback, Some("-1"), "a library that waited so long would lose the cause");
}

#[tokio::test]
async fn a_call_behind_a_long_waiting_one_is_told_too() {
    let bridge = cold(4, 1, "").await;
    for agent in AGENT..AGENT + 3 {
        let deadline = Some(Duration::from_millis(100));
        let _told = call(&bridge, agent, deadline).await;
    }
    let (patient, slow) = (bridge.clone(), AGENT + 3);
    let patient =
        tokio::spawn(async move { call(&patient, slow, Some(Duration::from_secs(30))).await });
    let waits = || bridge.asked(Interface::SignIn).len() < 4;
    let mut told = 0;
    while waits() {
        if let Err(status) = call(&bridge, slow, Some(Duration::from_millis(300))).await {
            let reason = Refusal::from(status).reason;
            told += usize::from(reason == "SIGN_INS_QUEUED");
        }
    }
    patient.await.expect("no panic").expect("the patient call is carried out");
    assert!(told > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_of_refused_sign_ins_delays_no_others() {
    let bridge = cold(100, 100, "").await;
    for agent in (AGENT..AGENT + 100).step_by(10) {
        let fault = Fault::Retcode { retcode: "100-003".into(), message: String::new() };
        bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SignIn).of(agent));
    }
    let heard = all_insist(&bridge, 100, Some(Duration::from_millis(300))).await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 110, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepers_and_callers_are_signed_in_side_by_side() {
    // In all 120 of them.
    let kept = 60;
    let tenant = "keep.enabled = true\nkeep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n";
    let tenant = format!("keep.sign_ins_per_second = 40\n{tenant}");
    let credentials = (AGENT..AGENT + kept * 2).collect();
    let setup = Setup { credentials, tenant, keep: true, ..<_>::default() };
    let bridge = Arc::new(TestBridge::with(setup).await);
    for agent in AGENT..AGENT + kept {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge.gateway.clear_journal();
    for agent in AGENT..AGENT + kept {
        bridge.gateway.sign_out(agent);
    }
    let callers: JoinSet<_> = (AGENT + kept..AGENT + kept * 2)
        .map(|agent| {
            let bridge = bridge.clone();
            async move { insist(&bridge, agent, Some(Duration::from_millis(200))).await }
        })
        .collect();
    timeout(Duration::from_secs(60), callers.join_all()).await.expect("all callers get in");
    let is_in = |agent: u32| bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
    until("all agents are back", || (AGENT..AGENT + kept).all(is_in)).await;

    let sign_ins = bridge.asked(Interface::SignIn);
    assert_eq!(sign_ins.len(), 120);
    let is_kept = |agent: Option<u32>| agent.is_some_and(|agent| agent < AGENT + kept);
    let half = sign_ins.len() / 2;
    let early = sign_ins[..half].iter().filter(|entry| is_kept(entry.agent)).count();
    assert!((half / 4..=half * 3 / 4).contains(&early), "{early} of the first {half} were kept");
}

#[tokio::test]
async fn an_agent_who_is_signed_out_while_it_is_in_the_queue_is_not_signed_in() {
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n";
    let tenant = format!("keep.sign_ins_per_second = 2\n{tenant}");
    let credentials = (AGENT..AGENT + 6).collect();
    let bridge =
        TestBridge::with(Setup { credentials, tenant, keep: true, ..<_>::default() }).await;
    for agent in AGENT..AGENT + 6 {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge.gateway.clear_journal();
    for agent in AGENT..AGENT + 6 {
        bridge.gateway.sign_out(agent);
    }
    let waiting = async {
        while bridge.scrape().await["ccgw_sign_ins_queued{tenant=\"acme\"}"] < 4.0 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    within("they wait", waiting).await;
    let is_in = |agent: u32| bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in);
    let last = (AGENT..AGENT + 6).rev().find(|agent| !is_in(*agent)).expect("one waits");
    let result = bridge.sign_out(last).await;
    refused(result, Code::FailedPrecondition, "AGENT_NOT_SIGNED_IN", "refused");
    let others = || (AGENT..AGENT + 6).filter(|agent| *agent != last).all(is_in);
    until("all others are back", others).await;
    let of_last = |entry: &&ccgateway_sim::Entry| entry.agent == Some(last);
    assert_eq!(bridge.asked(Interface::SignIn).iter().filter(of_last).count(), 0);
}
